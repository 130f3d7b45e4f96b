"""A part of a video is read as if it were one, and reported on the clock of the whole."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.extraction.extract import ExtractionSpec, extract_video
from keyframe.extraction.inputs import Part
from keyframe.files import read_table
from keyframe.pipeline import TrainingFree
from keyframe.summary.selection import UniformSelection
from keyframe.summary.shots import KtsShots
from keyframe.types import KeyframeError, VideoError
from tests.videos import read_frame_number, write_video

FPS = 25


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """100 frames, 4 s, a key frame every 12."""
    return write_video(tmp_path_factory.mktemp("part") / "clip.mp4", frames=100, options={"g": "12", "bf": "2"})


def test_times_are_seconds_or_a_clock():
    assert Part.of(None, 90, "1:02:03.5") == Part(None, 90, 3723.5)
    assert Part.of(1, "2:05", None) == Part(1, 125, None)
    for wrong in (
        {"start": "1:99"},
        {"start": "soon"},
        {"start": -1},
        {"end": 0},
        {"start": 5, "end": 5},
        {"stream": -1},
    ):
        with pytest.raises(KeyframeError, match=next(iter(wrong))):
            Part.of(**{"stream": None, "start": None, "end": None} | wrong)


def test_frames_of_a_part_are_those_on_screen_in_it(clip):
    whole = index_packets(clip)
    for start, end, first, stop in ((1.0, 2.0, 25, 50), (1.01, 1.99, 25, 50), (None, 0.1, 0, 3), (3.9, 9.0, 97, 100)):
        part = Part(None, start, end).index(clip)
        assert (part.first, part.n_frames) == (first, stop - first)
        assert part.duration == pytest.approx((stop - first) / FPS)
        wanted = np.array([0, part.n_frames - 1])
        frames = PyAVReader().read(clip, wanted, None, part)
        assert [read_frame_number(image) for image in frames.pixels] == [first, stop - 1]
        assert frames.indices.tolist() == wanted.tolist()
        assert frames.timestamps.tolist() == whole.timestamps[[first, stop - 1]].tolist()
    assert Part().index(clip).whole is None
    with pytest.raises(VideoError, match=r"lasts 4\.000 s, so that nothing is left from start=4 on"):
        Part(None, 4.0).index(clip)


def test_a_region_is_cut_out_of_the_upright_frame(clip):
    everything = PyAVReader().read(clip, np.arange(4), None).pixels
    for text, rows, columns in (
        ("40,16,80,48", slice(16, 64), slice(40, 120)),
        ("25%,0%,50%,50%", slice(48), slice(40, 120)),
    ):
        index = Part.of(None, None, 0.16, text).index(clip)
        assert index.shown_size == everything[0, rows, columns].shape[:2]
        read = PyAVReader().read(clip, np.arange(4), None, index)
        np.testing.assert_array_equal(read.pixels, everything[:, rows, columns])
        assert read.indices.tolist() == [0, 1, 2, 3]
    pieces = list(PyAVReader().stream(clip, np.arange(4), (24, 40), index, chunk=3))
    assert [piece.pixels.shape for piece in pieces] == [(3, 24, 40, 3), (1, 24, 40, 3)]
    shrunk = everything[0, rows, columns].reshape(24, 2, 40, 2, 3).mean((1, 3))
    assert np.abs(pieces[0].pixels[0] - shrunk).mean() < 8
    for wrong in ("1,2,3", "1,2,3,x", "10%,2,3,4", "0,0,0,5"):
        with pytest.raises(KeyframeError, match="region"):
            Part.of(None, None, None, wrong)
    for beyond in ("200,0,10,10", "150,0,20,10", "50%,50%,80%,20%"):
        with pytest.raises(VideoError, match="has frames of 160x96 pixels, and region extends beyond"):
            Part.of(None, None, None, beyond).index(clip)
    with pytest.raises(VideoError, match="region lies outside of a frame of 96x160 pixels"):  # the phone is turned
        Part.of(None, None, None, "100,0,60,96").region.of(np.zeros((160, 96, 3), np.uint8))


def test_keyframes_of_a_part_have_the_time_and_number_of_the_whole(clip, tmp_path):
    selection = UniformSelection(k=2, min_distance=0.2, max_similarity=1)
    spec = ExtractionSpec(KtsShots(), selection, PyAVReader(), 5, True, Part(None, 2.0, 3.0), format="png", height=48)
    assert spec.fingerprint != replace(spec, part=Part()).fingerprint != replace(spec, height=50).fingerprint
    extract_video(clip, tmp_path / "out", spec, TrainingFree())
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [row["frame"] for row in read_table(tmp_path / "out" / "scores.csv")] == ["50", "55", "60", "65", "70"]
    assert (summary["shots"][0]["start"], summary["shots"][-1]["end"]) == (2.0, 3.0)
    assert (summary["video"]["frames"], summary["video"]["duration"]) == (100, 4.0)
    assert len(summary["keyframes"]) == 2
    for keyframe in summary["keyframes"]:
        assert 50 <= keyframe["frame"] < 75 and keyframe["seconds"] == keyframe["frame"] / FPS
        with Image.open(tmp_path / "out" / keyframe["file"]) as image:
            assert (image.format, image.size) == ("PNG", (80, 48))
            assert read_frame_number(np.asarray(image)) == keyframe["frame"]
    skim = index_packets(tmp_path / "out" / "skim.mp4")
    first = PyAVReader().read(skim.path, np.array([0]), None, skim).pixels[0]
    assert 50 <= read_frame_number(first) < 75
    for wrong in ({"format": "bmp"}, {"height": 0}):
        with pytest.raises(KeyframeError, match=next(iter(wrong))):
            replace(spec, **wrong)
