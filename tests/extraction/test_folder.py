"""The folder of one video's results: its name, and that no error or kill leaves half of it."""

import json
import os
import signal
from pathlib import Path

import pytest

from keyframe.extraction.folder import MADE_BY, folder_name, remove_abandoned, results_folder

SUMMARY = {"made_by": MADE_BY, "files": ["summary.json"], "fingerprint": "", "keyframes": [], "video": {}}


def test_an_error_or_an_interrupt_leaves_what_was_there(tmp_path):
    out = tmp_path / "place" / "out"
    for error in (RuntimeError, KeyboardInterrupt):
        before = {path: path.read_bytes() for path in out.rglob("*")}
        with pytest.raises(error), results_folder(out) as draft:
            (draft / "half").touch()
            raise error
        assert {path: path.read_bytes() for path in out.rglob("*")} == before
        assert [path.name for path in out.parent.iterdir()] == (["out"] if before else [])
        out.mkdir(exist_ok=True)
        (out / "summary.json").write_text(json.dumps(SUMMARY))


def killed_while_writing(out, when):
    """A process that is killed while it writes a folder, before or while it replaces the one that is there."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        with results_folder(out) as draft:
            (draft / "half").touch()
            if when != "begun":
                out.rename(draft.parent / "old")
            if when == "replaced":
                draft.rename(out)
            os.kill(os.getpid(), signal.SIGKILL)
    finally:
        os._exit(1)


@pytest.mark.parametrize("when", ["begun", "moved", "replaced"])
def test_what_a_killed_process_leaves_is_removed_and_what_it_had_moved_comes_back(when, tmp_path):
    out = tmp_path / "a.draft-b"
    out.mkdir()
    (out / "summary.json").write_text(json.dumps(SUMMARY))
    (out / "mine.txt").write_text("mine")
    killed_while_writing(out, when)
    with results_folder(tmp_path / "other") as draft:
        assert len(list(tmp_path.glob(".*.draft-*"))) == 2
        assert remove_abandoned(tmp_path) == {tmp_path / "other"}
        assert [draft.parent] == list(tmp_path.glob(".*.draft-*"))
    assert remove_abandoned(tmp_path) == set()
    assert {path.name for path in tmp_path.iterdir()} == {"a.draft-b", "other"}
    assert {path.name for path in out.iterdir()} == {"half" if when == "replaced" else "summary.json", "mine.txt"}


NAMES = {
    "holiday.mp4": "holiday",
    "my holiday (1).MP4": "my holiday (1)",
    "a=b, #1.mp4": "a=b, #1",
    "été 日本語.mp4": "été 日本語",
    "e\u0301te\u0301.mp4": "été",
    "..mp4": "video",
    ".hidden.mp4": "hidden",
    "...mp4": "video",
    "a\nb\x1b[31m.mp4": "a_b_[31m",
    'a:b*c?"<d>|\\.mp4': "a_b_c___d___",
    "-rf.mp4": "_-rf",
    "CON.mp4": "_CON",
    "nul.tar.mp4": "_nul.tar",
    "half \udce9.mp4": "half _",
    "x" * 250: "x" * 160,
    "日" * 80 + ".mp4": "日" * 53,
}


def test_names():
    assert [folder_name(Path("/videos") / name) for name in NAMES] == list(NAMES.values())
