"""Which frames of a video are looked at.

Score any number of frames with a model that was trained on windows of a fixed number of them.

A model that saw T frames spread evenly over each training video is shown the same here: all frames are dealt into
interleaved windows of T, each spread evenly over the whole video, so that every frame is in one at least. A video
longer than `SPAN` frames is first cut into sections that overlap by half. What several windows say of a frame is
averaged, with weights that fall linearly from the middle of a section to its ends. A video of exactly one window gives
the model's own scores.

Augmentation of a clip in training: one draw a video and epoch, the same for all its frames.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from keyframe.data.packets import PacketIndex
from keyframe.types import FloatArray, KeyframeError

# Matroska stores whole milliseconds: a frame due at 33.3 ms is stamped 33 or 34.
_TOLERANCE_S = 1e-3

# A day at 100 a second: more is a typing error, or a file whose times have gone mad.
_MOST_STEPS = 10_000_000


class Sampling(Protocol):
    """Chooses the frames of a video that the model sees."""

    @property
    def window(self) -> int | None:
        """How many frames the model sees at once; None where that depends on the video."""
        ...

    def indices(self, index: PacketIndex) -> npt.NDArray[np.int64]:
        """Frame numbers in presentation order, not decreasing, at least one, int64 (T,)."""
        ...


@dataclass(frozen=True)
class UniformSampling:
    """A fixed number of frames, spread evenly over the presentation.

    Args:
        frames: number of frames T, at least 1.

    Raises:
        KeyframeError: if `frames` is not a positive integer.
    """

    frames: int = 60

    def __post_init__(self) -> None:
        if isinstance(self.frames, bool) or not isinstance(self.frames, int) or self.frames < 1:
            raise KeyframeError(f"sampling.frames must be a whole number from 1 on, not {self.frames!r}.")

    @property
    def window(self) -> int:
        """T."""
        return self.frames

    def indices(self, index: PacketIndex) -> npt.NDArray[np.int64]:
        """Frame numbers at the centres of T equal spans of the N frames: floor((i + 0.5) N / T).

        Returns:
            Rising frame numbers, int64, shape (T,).

        Raises:
            KeyframeError: if the video has fewer than T frames.
        """
        if self.frames > index.n_frames:
            raise KeyframeError(
                f"{index.path} has {index.n_frames} frames, fewer than sampling.frames={self.frames}: lower "
                "that, use sampling=fps, or leave the video out."
            )
        # (2 i + 1) N // 2 T: in whole numbers, so that no rounding moves a frame.
        return (2 * np.arange(self.frames, dtype=np.int64) + 1) * index.n_frames // (2 * self.frames)


@dataclass(frozen=True)
class FpsSampling:
    """The frames shown at equal steps of time.

    Args:
        rate: frames for each second of video, above 0.

    Raises:
        KeyframeError: if `rate` is not a positive finite number.
    """

    rate: float = 2.0

    def __post_init__(self) -> None:
        number = isinstance(self.rate, int | float) and not isinstance(self.rate, bool)
        if not number or not math.isfinite(self.rate) or self.rate <= 0:
            raise KeyframeError(f"sampling.rate must be a number above 0, not {self.rate!r}.")

    @property
    def window(self) -> None:
        """As many as the video is long."""
        return None

    def indices(self, index: PacketIndex) -> npt.NDArray[np.int64]:
        """The frame on screen at each time t0 + k / rate before the video's end, t0 being the first frame's.

        That is the latest frame whose timestamp is at most that time, with a millisecond's grace. Where the
        rate exceeds the video's, or a picture stands still, a frame comes several times.

        Returns:
            Frame numbers that do not decrease, int64, shape (T,), T >= 1.
        """
        n_steps = max(1, math.ceil((index.duration - _TOLERANCE_S) * self.rate))
        if n_steps > _MOST_STEPS:
            raise KeyframeError(
                f"a rate of {self.rate:g} asks for {n_steps} frames of {index.path} ({index.duration:.0f} s): lower it."
            )
        times = index.timestamps[0] + np.arange(n_steps) / self.rate
        return np.searchsorted(index.timestamps, times + _TOLERANCE_S, side="right").astype(np.int64) - 1


# Ten minutes at two frames a second, about TVSum's longest video: one section.
SPAN = 1200


def windows(
    count: int, length: int | None = None, span: int = SPAN
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
    """Deal frames into windows.

    Args:
        count: frames of the video, at least 1.
        length: T, the frames a window holds; a section shorter than that is spread over one window, some frames twice.
            None for a model that takes any length: each section is one window.
        span: most frames of a section.

    Yields:
        The frames of a window, rising, (length,), and their weights in (0, 1]. The first frame of a window is never
        before that of the window before it.

    Raises:
        ValueError: if a number is below 1.
    """
    if count < 1 or span < 1 or (length is not None and length < 1):
        raise ValueError(f"count, length and span must be at least 1, not {count}, {length} and {span}")
    sections = 1 if count <= span else -(-2 * count // span) - 1
    size = min(count, span)
    for start in np.linspace(0, count - size, sections).round().astype(np.int64):
        steps = length or size
        combs = -(-size // steps)
        # Places of a grid of combs * steps points over the section: comb j takes each combs-th one, from j on.
        for comb in range(combs):
            places = (2 * (np.arange(steps) * combs + comb) + 1) * size // (2 * combs * steps)
            yield start + places, 1 - np.abs(2 * places + 1 - size) / (size + 1)


def average_windows(
    score: Callable[[npt.NDArray[np.int64]], FloatArray],
    count: int,
    length: int | None = None,
    span: int = SPAN,
    batch: int = 1,
) -> npt.NDArray[np.float32]:
    """A score for every frame: the windows' scores, averaged by weight.

    Args:
        score: the frames of some windows, by number, (B, T) -> their scores in [0, 1], (B, T).
        count: frames of the video, at least 1.
        length: as of `windows`.
        span: as of `windows`.
        batch: windows scored at once, B.

    Returns:
        Scores in [0, 1], float32 (count,).
    """
    total, weight = np.zeros(count), np.zeros(count)
    dealt = list(windows(count, length, span))
    for first in range(0, len(dealt), batch):
        group = dealt[first : first + batch]
        scores = score(np.stack([frames for frames, _ in group]))
        for (frames, weights), row in zip(group, scores, strict=True):
            np.add.at(total, frames, row * weights)
            np.add.at(weight, frames, weights)
    return (total / weight).astype(np.float32).clip(0, 1)
