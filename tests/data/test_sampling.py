"""Which frames the samplers choose, against the definitions written out."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keyframe.data.packets import PacketIndex, index_packets
from keyframe.data.sampling import FpsSampling, UniformSampling, check_sampling, chosen_frames
from keyframe.files import FileState
from keyframe.types import KeyframeError, VideoError
from tests.videos import write_video


def index_of(timestamps: list[float], last: float = 0.04) -> PacketIndex:
    """An index with these frames, the last of which lasts `last` seconds."""
    times = np.array(timestamps, dtype=np.float64)
    return PacketIndex(
        path=Path("holiday.mp4"),
        stream=0,
        timestamps=times,
        pts=None,
        key_frames=np.ones(len(times), bool),
        codec="h264",
        container="mp4",
        pix_fmt="yuv420p",
        width=32,
        height=32,
        rotation=0,
        mirrored=False,
        pixel_aspect=1.0,
        corrections=(),
        duration=float(times[-1] - times[0] + last),
        stated_duration=None,
        n_video_streams=1,
        choice="",
        n_packets=len(times),
        lost=np.zeros(0),
        random_access=True,
        intact=True,
        steady=True,
        state=FileState(0, 0, 0),
    )


def test_uniform_takes_the_centres_of_equal_spans():
    for n_frames, chosen in ((1, 1), (5, 5), (7, 3), (100, 60), (7201, 60), (9999, 997)):
        indices = UniformSampling(chosen).indices(index_of([i / 25 for i in range(n_frames)]))
        assert indices.tolist() == [int((i + 0.5) * n_frames / chosen) for i in range(chosen)]
        assert indices.dtype == np.int64
        assert np.all(np.diff(indices) > 0)


def test_uniform_is_symmetric_in_time():
    indices = UniformSampling(10).indices(index_of([i / 25 for i in range(101)]))
    assert (indices + indices[::-1]).tolist() == [100] * 10


def test_uniform_refuses_more_frames_than_there_are():
    with pytest.raises(VideoError) as caught:  # of this video alone: others are trained on
        UniformSampling(60).indices(index_of([i / 25 for i in range(59)]))
    for part in ("holiday.mp4", "59 frames", "sampling.frames=60", "sampling=fps"):
        assert part in str(caught.value)


def test_settings_are_checked():
    for frames in (0, -3, 2.5, True, "60", None):
        with pytest.raises(KeyframeError, match=r"sampling\.frames"):
            UniformSampling(frames)
    for rate in (0, -1.0, float("nan"), float("inf"), True, "2", None):
        with pytest.raises(KeyframeError, match=r"sampling\.rate"):
            FpsSampling(rate)
    with pytest.raises(KeyframeError, match=r"holiday\.mp4.*lower it"):
        FpsSampling(1e9).indices(index_of([0.0, 0.04, 0.08]))


def test_fps_takes_the_frame_on_screen():
    for start in (0.0, 0.003, 1.075):
        for fps, rate, n_frames in ((25, 2, 100), (25, 25, 30), (30, 7, 91), (24, 1, 240)):
            indices = FpsSampling(rate).indices(index_of([start + i / fps for i in range(n_frames)], last=1 / fps))
            assert indices.tolist() == [k * fps // rate for k in range(-(-n_frames * rate // fps))]


def test_fps_of_stamps_rounded_to_milliseconds_slips_no_frame():
    """Matroska: frame 15 of 29.97 fps, due at 0.5005 s, is stamped 0.500 or 0.501."""
    exact = [i * 1001 / 30000 for i in range(300)]
    rounded = [round(time, 3) for time in exact]
    rate = 30000 / 1001 / 3
    assert FpsSampling(rate).indices(index_of(rounded, 0.033)).tolist() == list(range(0, 300, 3))


def test_fps_of_uneven_frames_shows_the_latest():
    index = index_of([0.0, 0.1, 0.45, 0.5, 2.2], last=0.4)
    # At 0, 0.5, 1.0, 1.5, 2.0, 2.5 s; the video ends at 2.6 s.
    assert FpsSampling(2.0).indices(index).tolist() == [0, 3, 3, 3, 3, 4]


def test_fps_above_the_video_repeats_frames():
    assert FpsSampling(50).indices(index_of([0.0, 0.04])).tolist() == [0, 0, 1, 1]


def test_fps_takes_at_least_one_frame():
    assert FpsSampling(0.01).indices(index_of([0.0, 0.04])).tolist() == [0]
    assert FpsSampling(2.0).indices(replace(index_of([5.0]), duration=0.0)).tolist() == [0]


def test_samplings_travel_and_take_a_real_index(tmp_path):
    index = index_packets(write_video(tmp_path / "a.mp4", frames=20))
    for sampling, expected in ((UniformSampling(4), [2, 7, 12, 17]), (FpsSampling(5.0), [0, 5, 10, 15])):
        assert pickle.loads(pickle.dumps(sampling)).indices(index).tolist() == expected


class OwnSampling:
    def __init__(self, given, window=None):
        self.given, self.window = given, window

    def indices(self, index):
        return self.given


def test_an_own_sampling_that_breaks_its_contract_is_one_sentence():
    index = index_of([i / 25 for i in range(10)])
    for given in ([0, 3, 3, 9], np.array([2, 5], np.uint8)):
        assert chosen_frames(OwnSampling(given), index).tolist() == list(given)
    for given, found in (
        ([0, 10], "frames 0 to 10"),
        ([-1, 3], "frames -1 to 3"),
        ([3, 2], "frames that go back"),
        (np.array([3, 2], np.uint8), "frames that go back"),
        ([], r"float64 \(0,\)"),
        ([0.0, 1.0], r"float64 \(2,\)"),
        ([[0, 1]], r"int64 \(1, 2\)"),
        ([[0], [1, 2]], "a list"),
        (None, r"object \(\)"),
    ):
        with pytest.raises(
            KeyframeError, match=rf"^sampling: indices\(\) of OwnSampling gives {found} for holiday.mp4: "
        ):
            chosen_frames(OwnSampling(given), index)
    with pytest.raises(
        KeyframeError, match=r"gives int64 \(2,\) for holiday.mp4: it must give 3 whole numbers from 0 to 9"
    ):
        chosen_frames(OwnSampling([0, 1], window=3), index)


def test_what_is_no_sampling_is_refused():
    check_sampling(OwnSampling([]))
    with pytest.raises(KeyframeError, match="sampling: dict is not a sampling: one has window and indices"):
        check_sampling({})
    with pytest.raises(KeyframeError, match="sampling: window of OwnSampling=0 must be a whole number"):
        check_sampling(OwnSampling([], window=0))
