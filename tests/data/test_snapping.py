"""A grid moved to I-frames: which frames move, that they are what an exact read gives, and what is told."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from keyframe import system
from keyframe.data.decord_reader import DecordReader
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.reader import snap
from keyframe.data.sampling import FpsSampling, UniformSampling
from tests.videos import build, read_frame_number

READERS = [PyAVReader, DecordReader]
SIZE = (72, 136)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    folder = tmp_path_factory.mktemp("snapping")
    return lambda name: build(name, folder)


@pytest.fixture(autouse=True)
def fresh_log():
    system._logged.clear()


def brute_force(wanted, index):
    """The rule, frame by frame: each key frame goes to the nearest wanted frame, within half the spacing there."""
    times, keys = index.timestamps, np.flatnonzero(index.key_frames)
    snapped = list(wanted)
    for place, frame in enumerate(wanted):
        before = times[frame] - times[wanted[place - 1]] if place else times[wanted[1]] - times[frame]
        after = times[wanted[place + 1]] - times[frame] if place + 1 < len(wanted) else before
        low = -before / 2 + 1e-9 if place else -before / 2 - 1e-9  # a tie goes to the earlier
        near = [k for k in keys if low < times[k] - times[frame] <= after / 2 + 1e-9]
        if near:
            snapped[place] = min(near, key=lambda k: abs(times[k] - times[frame]))
    return snapped


@pytest.mark.parametrize("name", ["plain.mp4", "uneven.mp4", "long_gop.mp4", "every_frame_key.mp4", "vp9.webm"])
@pytest.mark.parametrize("frames", [2, 3, 5, 17, 48])
def test_frames_move_to_the_nearest_key_frame_and_stay_distinct(name, frames, video):
    index = index_packets(video(name))
    wanted = UniformSampling(frames).indices(index)
    snapped = snap(wanted, index)
    assert snapped.indices.tolist() == brute_force(wanted, index)
    assert np.all(np.diff(snapped.indices) > 0)
    assert snapped.n_keys == np.isin(snapped.indices, np.flatnonzero(index.key_frames)).sum()
    assert snapped.n_keys + snapped.n_decoded == frames


def test_by_hand(video):
    """Key frames at 0, 12, 24, 36 of 48; 24 is as near to 20 as to 28."""
    index = index_packets(video("plain.mp4"))
    assert snap(UniformSampling(6).indices(index), index).indices.tolist() == [0, 12, 24, 28, 36, 44]
    assert snap(np.array([30]), index).indices.tolist() in ([24], [36])
    assert snap(np.array([], np.int64), index).indices.tolist() == []
    # a frame that comes several times moves each time, and the first no further outwards than inwards
    assert snap(np.array([1, 1, 2, 13, 13]), index).indices.tolist() == [1, 1, 2, 12, 12]


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("name", ["plain.mp4", "long_gop.mp4", "uneven.mkv", "vp8.webm", "rotated_90.mp4"])
def test_pictures_numbers_and_times_are_true(kind, name, video):
    index = index_packets(video(name))
    chosen = kind(exact=False).grid(UniformSampling(6).indices(index), index)
    frames = kind(exact=False).read(video(name), chosen, SIZE, index)
    exact = kind().read(video(name), chosen, SIZE, index)
    np.testing.assert_array_equal(frames.pixels, exact.pixels)
    assert [read_frame_number(picture) for picture in frames.pixels] == chosen.tolist() == frames.indices.tolist()
    assert frames.timestamps.tolist() == index.timestamps[chosen].tolist()


@pytest.mark.parametrize("name", ["friday.mp4", "bikes.mp4", "flower.webm"])
def test_real_clips(name, clips):
    index = index_packets(clips / name)
    chosen = PyAVReader(exact=False).grid(FpsSampling(2).indices(index), index)
    assert np.isin(chosen, np.flatnonzero(index.key_frames)).sum() >= 2
    everything = PyAVReader().read(clips / name, np.arange(index.n_frames), (40, 56), index)
    np.testing.assert_array_equal(
        PyAVReader().read(clips / name, chosen, (40, 56), index).pixels, everything.pixels[chosen]
    )


@pytest.mark.parametrize("kind", READERS)
def test_how_many_are_decoded_is_told_once(kind, video, caplog):
    caplog.set_level(logging.INFO)
    index = index_packets(video("plain.mp4"))
    for _ in range(2):
        kind(exact=False).grid(np.array([4, 12, 20, 28, 36, 44]), index)
    assert [record.getMessage() for record in caplog.records] == [
        f"{index.path}: 6 frames, 4 of them I-frames near the grid, 2 decoded exactly (no I-frame nearby)"
    ]


@pytest.mark.parametrize(
    ("name", "reason"), [("open_gop.mp4", "open GOP"), ("hevc.mp4", "codec is hevc"), ("mpeg4.avi", "codec is mpeg4")]
)
def test_where_key_frames_are_in_doubt_nothing_moves(name, reason, video, caplog):
    caplog.set_level(logging.INFO)
    index = index_packets(video(name))
    wanted = np.array([5, 20, 33])
    assert PyAVReader(exact=False).grid(wanted, index).tolist() == [5, 20, 33]
    assert "all 3 frames decoded exactly in spite of reader.exact=false" in caplog.text and reason in caplog.text


def test_exact_moves_nothing_and_says_nothing(video, caplog):
    caplog.set_level(logging.INFO)
    index = index_packets(video("plain.mp4"))
    assert PyAVReader().grid(np.array([1, 5]), index).tolist() == [1, 5]
    assert PyAVReader(exact=False).read(video("plain.mp4"), np.array([1, 5]), SIZE).indices.tolist() == [1, 5]
    assert not caplog.records


def test_time_decides_not_the_frame_number(video):
    """At a variable rate the key frame that is nearest in time need not be the nearest in the count."""
    index = index_packets(video("plain.mp4"))
    times = index.timestamps.copy()
    times[13:] += 10  # 12 is shown for 10 s
    slow = replace(index, timestamps=times)
    assert snap(np.array([7, 13, 20]), slow).indices.tolist() == [12, 13, 20]
    assert snap(np.array([7, 13, 20]), index).indices.tolist() == [7, 12, 20]
