"""The calmest, sharpest frame near a chosen one."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from scipy.ndimage import gaussian_filter

from keyframe.data.reader import VideoReader
from keyframe.summary.stills import steady_frames
from keyframe.types import Frames
from tests.summary.generated import camera_view, picture_of_things

TIMES = 10.0 + np.arange(50) / 25  # 2 s that begin at 10 s


class Pictures(VideoReader):
    """A reader of pictures in memory that counts which small ones it is asked for."""

    def __init__(self, pictures):
        super().__init__()
        self.pictures, self.asked = pictures, []

    def _pieces(self, path, wanted, sizes, index, chunk):
        if sizes != (None,):
            self.asked += wanted.tolist()
        if len(wanted):
            yield (Frames(np.stack([self.pictures[number] for number in wanted]), TIMES[wanted], wanted),)


def steady(pictures, frames, spans):
    reader = Pictures(pictures)
    index = SimpleNamespace(
        path=Path(__file__),
        timestamps=TIMES,
        n_frames=50,
        lost=np.zeros(0),
        whole=None,
        region=None,
        state=None,
        shown_size=(96, 96),
    )
    found = steady_frames(index, np.array(frames), np.array(spans, dtype=float), reader)
    return np.concatenate([one.indices for one in found]).tolist(), reader


def blurred(sigma):
    return gaussian_filter(picture_of_things(), (sigma, sigma, 0))


def test_the_sharpest_frame_of_the_span_is_taken():
    pictures = [camera_view(blurred(2.0))] * 50
    pictures[35:40] = [camera_view(picture_of_things())] * 5
    found, reader = steady(pictures, [25], [[10.5, 11.5]])
    assert found[0] in range(35, 38)
    # a tenth of a second apart, none outside of the span
    assert min(reader.asked) >= 12 and max(reader.asked) <= 38 and len(reader.asked) <= 11 and 25 in reader.asked
    assert steady(pictures, [25], [[10.5, 11.3]])[0] == [25]
    # what may not move is not read
    found, reader = steady(pictures, [5, 25], [[10.2, 10.2], [11.0, 11.0]])
    assert found == [5, 25] and reader.asked == []


def test_of_equally_sharp_frames_the_calm_one_is_taken():
    # the camera is drawn to and fro, and rests from frame 28 to 36
    moved = [0 if 28 <= number <= 36 else (-4, 4)[number // 3 % 2] for number in range(50)]
    pictures = [camera_view(picture_of_things(), right) for right in moved]
    assert 28 < steady(pictures, [22], [[10.4, 11.4]])[0][0] < 36


def test_another_picture_is_not_taken_and_little_gain_moves_nothing():
    other = camera_view(picture_of_things(7))
    pictures = [camera_view(blurred(1.0))] * 28 + [other] * 22
    assert steady(pictures, [24], [[10.5, 11.5]])[0] == [24]
    slightly = [camera_view(blurred(0.30))] * 25 + [camera_view(blurred(0.28))] * 25
    assert steady(slightly, [20], [[10.3, 11.3]])[0] == [20]
