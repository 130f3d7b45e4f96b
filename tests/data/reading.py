"""What tests of readers have in common: the size they ask for, and how frames are compared."""

import importlib.util
from collections.abc import Iterable
from dataclasses import fields

import numpy as np
import pytest

from keyframe.types import Frames
from tests.videos import read_frame_number

SIZE = (72, 136)
needs_decord = pytest.mark.skipif(
    importlib.util.find_spec("decord") is None, reason="decord has no wheel for this platform"
)
# Where decord is right, as tried; everywhere else PyAV has to serve.
TRUSTED = {
    *("plain.mp4", "long_gop.mp4", "every_frame_key.mp4", "matroska.mkv", "quicktime.mov", "uneven.mp4"),
    *("uneven.mkv", "late_start.mp4", "vp8.webm", "vp9.webm", "odd_size.mp4", "fragmented.mp4"),
    *("rotated_90.mp4", "rotated_180.mp4", "rotated_270.mov"),
}


def numbers(frames: Frames) -> list[int]:
    return [read_frame_number(picture) for picture in frames.pixels]


def joined(pieces: Iterable[Frames]) -> Frames:
    pieces = list(pieces)
    return Frames(*(np.concatenate([getattr(piece, f.name) for piece in pieces]) for f in fields(Frames)))


def same(one: Frames, other: Frames) -> None:
    for field in fields(Frames):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))
