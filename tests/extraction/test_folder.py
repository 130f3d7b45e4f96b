"""The folder of one video's results: its name, and that no error or kill leaves half of it."""

import json
import os
import signal
from pathlib import Path

import pytest

from keyframe.extraction.folder import (
    MADE_BY,
    folder_name,
    is_complete,
    read_summary,
    remove_abandoned,
    results_folder,
)
from keyframe.types import KeyframeError

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


def snapshot(place):
    """What lies below a place: the target of each link, the content of each file."""
    paths = sorted(place.rglob("*"))
    return {path: path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes() for path in paths}


def test_what_only_looks_like_a_draft_is_left_alone(tmp_path):
    out, outside = tmp_path / "place" / "out", tmp_path / "outside"
    outside.mkdir()
    (outside / "lock").touch()
    (outside / "old").mkdir()
    (outside / "old" / "mine.txt").write_text("mine")
    for name in ("....draft-abcdefgh", "...draft-abcdefgh", ".a.draft-ABCDEFGH", ".b.draft-abcdefgh"):
        (out / name / "old").mkdir(parents=True)
        (out / name / "old" / "mine.txt").write_text("mine")
        (out / name / "lock").touch()
    (out / ".b.draft-abcdefgh" / "holiday.txt").touch()  # Nothing of ours.
    (out / ".c.draft-abcdefgh").symlink_to(outside)
    (out / ".d.draft-abcdefgh").mkdir()
    (out / ".d.draft-abcdefgh" / "lock").touch()
    (out / ".d.draft-abcdefgh" / "old").symlink_to(outside / "old")
    os.mkfifo(out / ".d.draft-abcdefgh" / "new")
    before = snapshot(tmp_path)
    assert remove_abandoned(out) == set()
    assert snapshot(tmp_path) == before


def test_a_folder_that_is_a_link_stays_one_and_is_replaced_where_it_leads(tmp_path):
    disk, out = tmp_path / "disk" / "a", tmp_path / "out" / "a"
    disk.mkdir(parents=True)
    (disk / "summary.json").write_text(json.dumps(SUMMARY | {"files": ["summary.json", "old.jpg"]}))
    (disk / "old.jpg").touch()
    (disk / "mine.txt").write_text("mine")
    out.parent.mkdir()
    out.symlink_to(Path("..") / "disk" / "a")
    with results_folder(out) as draft:
        (draft / "new.jpg").touch()
    assert out.is_symlink() and {path.name for path in disk.iterdir()} == {"new.jpg", "mine.txt"}
    assert [path.name for path in tmp_path.rglob("*.draft-*")] == []


def test_a_kill_while_the_folder_behind_a_link_is_replaced(tmp_path):
    disk, out = tmp_path / "disk" / "a", tmp_path / "out" / "a"
    disk.mkdir(parents=True)
    (disk / "summary.json").write_text(json.dumps(SUMMARY))
    (disk / "mine.txt").write_text("mine")
    out.parent.mkdir()
    out.symlink_to(disk)
    killed_while_writing(disk, "moved")
    assert not disk.exists()
    with results_folder(out) as draft:
        (draft / "new.jpg").touch()
    assert out.is_symlink() and {path.name for path in disk.iterdir()} == {"new.jpg", "mine.txt"}
    assert [path.name for path in disk.parent.iterdir()] == ["a"]


def test_a_link_that_leads_to_no_folder_of_ours_is_refused(tmp_path):
    out = tmp_path / "a"
    for make, sentence in {
        lambda: out.symlink_to(tmp_path / "unmounted" / "a"): "a link to .*unmounted/a, which is not a folder: make it",
        lambda: out.symlink_to(out): "is a link to .*, which is not a folder",
        lambda: out.symlink_to(__file__): "was not made by keyframe-extract",
        lambda: out.symlink_to(Path(__file__).parent): "was not made by keyframe-extract",
    }.items():
        make()
        with pytest.raises(KeyframeError, match=sentence), results_folder(out):
            pass
        out.unlink()
    assert not list(tmp_path.iterdir())


def test_what_is_kept_replaces_nothing(tmp_path):
    out = tmp_path / "a"
    with results_folder(out) as draft:
        (draft / "summary.json").write_text(json.dumps(SUMMARY | {"files": ["summary.json", "skim.mp4"]}))
    for name in ("index.html", "index (kept).html"):
        (out / name).write_text(f"my {name}")
    with results_folder(out) as draft:
        (draft / "index.html").write_text("ours")
    assert (out / "index.html").read_text() == "ours"
    kept = {path.read_text() for path in out.iterdir()}
    assert kept == {"ours", "my index.html", "my index (kept).html"}


@pytest.mark.parametrize(
    "content", ["[" * 100_000, "null", '{"made_by": "keyframe-extract"}', '{"files": 3, "made_by": "keyframe-extract"}']
)
def test_a_summary_that_is_none_of_ours(content, tmp_path):
    (tmp_path / "summary.json").write_text(content)
    assert read_summary(tmp_path) is None


def test_a_summary_names_files_of_its_own_folder_only(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b.txt").touch()
    for names in (["../b.txt"], [str(tmp_path / "b.txt")], [3]):
        assert not is_complete(tmp_path / "a", SUMMARY | {"files": names})
    os.mkfifo(tmp_path / "a" / "summary.json")  # It would be read for ever.
    assert read_summary(tmp_path / "a") is None


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
