"""Cut lists by hand: the numbers are those of a player's clock at 30000/1001 and 25 frames per second."""

import csv
import json

import pytest

from keyframe.extraction.cut_lists import check_cut_lists, write_cut_lists
from keyframe.types import KeyframeError

BOXES = [(12, 12, 500, 281), (524, 12, 500, 281)]


@pytest.fixture
def summary():
    """Three shots of 10, 20 and 30 s; the first and the last are kept."""
    return {
        "video": {"name": "on the beach.mp4", "fps": 29.97003, "duration": 60.06},
        "shots": [
            {"shot": 1, "start": 0.0, "end": 10.01, "kept": True},
            {"shot": 2, "start": 10.01, "end": 30.03, "kept": False},
            {"shot": 3, "start": 30.03, "end": 60.06, "kept": True},
        ],
        "keyframes": [
            {"rank": 1, "file": "keyframe_01_00h00m40.040s.jpg", "seconds": 40.04, "shot": 3},
            {"rank": 2, "file": "keyframe_02_00h00m05.005s.jpg", "seconds": 5.005, "shot": 1},
        ],
    }


def test_files_for_editors_and_players(summary, tmp_path):
    write_cut_lists(tmp_path, summary, BOXES, ("csv", "edl", "otio", "vtt"))
    with (tmp_path / "shots.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["first_frame"], row["stop_frame"], row["kept"]) for row in rows] == [
        *[("0", "300", "1"), ("300", "900", "0"), ("900", "1800", "1")]
    ]
    assert [row["keyframes"] for row in rows] == [
        *["keyframe_02_00h00m05.005s.jpg", "", "keyframe_01_00h00m40.040s.jpg"]
    ]
    # 300 frames are 10 s of timecode without drop frames.
    assert (tmp_path / "cuts.edl").read_text().splitlines() == [
        "TITLE: on the beach.mp4",
        "FCM: NON-DROP FRAME",
        "",
        "001  AX       V     C        00:00:00:00 00:00:10:00 00:00:00:00 00:00:10:00",
        "* FROM CLIP NAME: on the beach.mp4",
        "",
        "002  AX       V     C        00:00:30:00 00:01:00:00 00:00:10:00 00:00:40:00",
        "* FROM CLIP NAME: on the beach.mp4",
    ]
    (track,) = json.loads((tmp_path / "cuts.otio").read_text())["tracks"]["children"]
    spans = [
        (clip["source_range"]["start_time"]["value"], clip["source_range"]["duration"]) for clip in track["children"]
    ]
    rate = 30000 / 1001
    assert spans == [
        (0.0, {"OTIO_SCHEMA": "RationalTime.1", "rate": rate, "value": 300.0}),
        (900.0, {"OTIO_SCHEMA": "RationalTime.1", "rate": rate, "value": 900.0}),
    ]
    marks = [mark["marked_range"]["start_time"]["value"] for clip in track["children"] for mark in clip["markers"]]
    assert marks == [150.0, 1200.0]
    assert (tmp_path / "chapters.vtt").read_text().split("\n\n")[:3] == [
        *["WEBVTT", "00:00:00.000 --> 00:00:10.010\nShot 1", "00:00:10.010 --> 00:00:30.030\nShot 2"]
    ]
    assert (tmp_path / "thumbnails.vtt").read_text() == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:22.522\ncontact_sheet.jpg#xywh=12,12,500,281\n\n"
        "00:00:22.522 --> 00:01:00.060\ncontact_sheet.jpg#xywh=524,12,500,281\n"
    )


def test_otio_opens_in_opentimelineio(summary, tmp_path):
    otio = pytest.importorskip("opentimelineio")
    write_cut_lists(tmp_path, summary, BOXES, ["otio"])
    timeline = otio.adapters.read_from_file(str(tmp_path / "cuts.otio"))
    assert [clip.duration().to_seconds() for clip in timeline.find_clips()] == pytest.approx([10.01, 30.03])
    assert timeline.find_clips()[0].media_reference.target_url == "on%20the%20beach.mp4"


def test_only_what_is_asked_for(summary, tmp_path):
    write_cut_lists(tmp_path, summary, BOXES, ())
    assert not list(tmp_path.iterdir())
    check_cut_lists(("vtt", "csv"))
    for wrong in ("edl", ["aaf"]):
        with pytest.raises(KeyframeError, match=r"cut_lists=.* must be a list of any of csv, edl, otio, vtt"):
            check_cut_lists(wrong)
