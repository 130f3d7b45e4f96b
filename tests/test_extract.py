"""One video to one folder: which pictures, which files, and that they appear whole or not at all."""

import csv
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.extraction.extract import Settings, extract_video
from keyframe.extraction.folder import MADE_BY, folder_name, remove_abandoned, whole
from keyframe.pipeline import TrainingFree
from keyframe.summary.selection import AdaptiveSelection, TopSelection, UniformSelection
from keyframe.summary.shots import KtsShots
from keyframe.types import KeyframeError, VideoError
from tests.commands import environment
from tests.videos import CAN_ROTATE, build, read_frame_number, write_video

FILES = {"contact_sheet.jpg", "curve.png", "index.html", "scores.csv", "summary.json"}


def extract(path, directory, selector=None, **settings):
    selector = selector or UniformSelection(k=3, min_distance=0.2, max_similarity=1)
    return extract_video(path, directory, TrainingFree(), KtsShots(), selector, PyAVReader(), Settings(**settings))


def summary_of(directory):
    return json.loads((directory / "summary.json").read_text())


def rows_of(directory):
    with (directory / "scores.csv").open() as file:
        return list(csv.DictReader(file))


def flat(path, colour, size=(96, 64), frames=25):
    """A video of one colour."""
    import av

    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for _ in range(frames):
            picture = np.full((size[1], size[0], 3), colour, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    return path


KINDS = [
    *("plain.mp4", "uneven.mp4", "late_start.mp4", "edit_list.mp4", "open_gop.mp4", "transport.ts"),
    pytest.param("rotated_90.mp4", marks=pytest.mark.skipif(not CAN_ROTATE, reason="this PyAV writes no rotation")),
]


@pytest.mark.parametrize("name", KINDS)
def test_a_keyframe_is_the_picture_at_its_second(name, tmp_path):
    video = build(name, tmp_path)
    done = extract(video, tmp_path / "out", rate=5.0)
    index = index_packets(video)
    seconds = index.timestamps - index.timestamps[0]
    shift = read_frame_number(PyAVReader().read(video, np.array([0]), None).pixels[0])
    assert len(done.stills) == 3
    for keyframe in summary_of(tmp_path / "out")["keyframes"]:
        picture = np.asarray(Image.open(tmp_path / "out" / keyframe["file"]))
        assert picture.shape[:2] == index.upright_size
        shown = read_frame_number(picture) - shift
        assert shown == keyframe["frame"]
        assert seconds[shown] == pytest.approx(keyframe["seconds"], abs=1e-6)


def test_what_a_folder_holds(tmp_path):
    video = write_video(tmp_path / "v.mp4", frames=100, size=(320, 180))
    done = extract(video, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == FILES | {still.path.name for still in done.stills}
    summary = summary_of(tmp_path / "out")
    assert set(summary["files"]) == names
    assert summary["scorer"]["kind"] == "training-free"
    assert (summary["video"]["frames"], summary["video"]["fps"], summary["video"]["duration"]) == (100, 25, 4)
    page = (tmp_path / "out" / "index.html").read_text()
    assert "without a trained model" in page and page.count("data:image/jpeg") == 3
    rows = rows_of(tmp_path / "out")
    assert list(rows[0]) == ["frame", "seconds", "score", "shot", "selected"]
    assert [int(row["frame"]) for row in rows] == [0, 12, 25, 37, 50, 62, 75, 87]
    chosen = {int(row["frame"]): float(row["score"]) for row in rows if row["selected"] == "1"}
    assert chosen == {one["frame"]: one["score"] for one in summary["keyframes"]}
    shots = summary["shots"]
    assert shots[0]["start"] == 0 and shots[-1]["end"] == 4
    assert all(one["end"] == two["start"] for one, two in pairwise(shots))


def test_redone_it_is_the_same_to_the_byte_and_holds_no_place_of_this_machine(tmp_path):
    video = write_video(tmp_path / "v.mp4", frames=50)
    for name in ("one", "two"):
        extract(video, tmp_path / name)
    for name in ("summary.json", "scores.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert str(tmp_path) not in (tmp_path / "one" / "summary.json").read_text()


@pytest.mark.parametrize(("colour", "frames"), [(0, 50), (128, 50), (255, 25), (90, 1), (90, 2)])
def test_there_is_always_a_keyframe(colour, frames, tmp_path):
    video = flat(tmp_path / "v.mp4", colour, frames=frames)
    for selector in (AdaptiveSelection(), TopSelection(k=9)):
        done = extract(video, tmp_path / "out", selector)
        assert len(done.stills) == 1
    assert any("asked for 9" in note for note in summary_of(tmp_path / "out")["notes"])


def test_a_vertical_video_stays_vertical(tmp_path):
    done = extract(write_video(tmp_path / "v.mp4", frames=30, size=(90, 160)), tmp_path / "out")
    assert Image.open(done.stills[0].path).size == (90, 160)


def test_a_skim_is_as_long_as_its_shots(tmp_path):
    video = write_video(tmp_path / "v.mp4", frames=100)
    extract(video, tmp_path / "out", summary_video=True)
    kept = sum(shot["end"] - shot["start"] for shot in summary_of(tmp_path / "out")["shots"] if shot["kept"])
    assert index_packets(tmp_path / "out" / "skim.mp4").duration == pytest.approx(kept, abs=0.05)
    assert "skim.mp4" in summary_of(tmp_path / "out")["files"]


def test_done_again_it_replaces_what_is_ours_and_keeps_what_is_not(tmp_path):
    video, out = write_video(tmp_path / "v.mp4", frames=60), tmp_path / "out"
    old = {still.path.name for still in extract(video, out, UniformSelection(k=4, max_similarity=1)).stills}
    (out / "my notes.txt").write_text("mine")
    new = {still.path.name for still in extract(video, out, UniformSelection(k=1)).stills}
    assert old - new
    assert {path.name for path in out.iterdir()} == FILES | new | {"my notes.txt"}
    assert (out / "my notes.txt").read_text() == "mine"


def test_a_folder_of_someone_else_is_not_touched(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(KeyframeError, match="not made by keyframe-extract"):
        extract(write_video(tmp_path / "v.mp4"), out)
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_a_failure_leaves_nothing_and_takes_nothing(tmp_path):
    video, out = write_video(tmp_path / "v.mp4"), tmp_path / "place" / "out"
    with pytest.raises(RuntimeError), whole(out) as draft:
        (draft / "half").touch()
        raise RuntimeError
    assert list((tmp_path / "place").iterdir()) == []
    extract(video, out)
    before = (out / "summary.json").read_bytes()
    with pytest.raises(KeyboardInterrupt), whole(out) as draft:
        (draft / "half").touch()
        raise KeyboardInterrupt
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["out"]
    assert (out / "summary.json").read_bytes() == before


# A process that is killed while it writes a folder, before or while it replaces the one that is there.
KILLED = """
import os, signal, sys
from pathlib import Path
from keyframe.extraction.folder import whole
out = Path(sys.argv[1])
with whole(out) as draft:
    (draft / "half").touch()
    if sys.argv[2] != "begun":
        out.rename(draft.parent / "old")
    if sys.argv[2] == "replaced":
        draft.rename(out)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("when", "left"),
    [
        ("begun", {"summary.json", "mine.txt"}),
        ("moved", {"summary.json", "mine.txt"}),
        ("replaced", {"half", "mine.txt"}),
    ],
)
def test_what_a_killed_process_leaves_is_removed_and_what_it_had_moved_comes_back(when, left, tmp_path):
    out = tmp_path / "a.draft-b"
    out.mkdir()
    summary = {"made_by": MADE_BY, "files": ["summary.json"], "fingerprint": "", "keyframes": [], "video": {}}
    (out / "summary.json").write_text(json.dumps(summary))
    (out / "mine.txt").write_text("mine")
    subprocess.run([sys.executable, "-c", KILLED, out, when], check=False, env=environment())
    with whole(tmp_path / "other") as draft:
        assert len(list(tmp_path.glob(".*.draft-*"))) == 2
        assert remove_abandoned(tmp_path) == {tmp_path / "other"}
        assert [draft.parent] == list(tmp_path.glob(".*.draft-*"))
    assert remove_abandoned(tmp_path) == set()
    assert {path.name for path in tmp_path.iterdir()} == {"a.draft-b", "other"}
    assert {path.name for path in out.iterdir()} == left


def test_a_file_that_is_no_video(tmp_path):
    (tmp_path / "v.mp4").write_text("not a video")
    with pytest.raises(VideoError):
        extract(tmp_path / "v.mp4", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("holiday.mp4", "holiday"),
        ("my holiday (1).MP4", "my holiday (1)"),
        ("a=b, #1.mp4", "a=b, #1"),
        ("été 日本語.mp4", "été 日本語"),
        ("e\u0301te\u0301.mp4", "été"),
        ("..mp4", "video"),
        (".hidden.mp4", "hidden"),
        ("...mp4", "video"),
        ("a\nb\x1b[31m.mp4", "a_b_[31m"),
        ('a:b*c?"<d>|\\.mp4', "a_b_c___d___"),
        ("-rf.mp4", "_-rf"),
        ("CON.mp4", "_CON"),
        ("nul.tar.mp4", "_nul.tar"),
        ("half \udce9.mp4", "half _"),
        ("x" * 250, "x" * 160),
        ("日" * 80 + ".mp4", "日" * 53),
    ],
)
def test_names_of_folders(name, folder):
    assert folder_name(Path("/videos") / name) == folder
