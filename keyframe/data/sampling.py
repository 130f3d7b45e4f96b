"""Which frames of a video are looked at."""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from keyframe.data.packets import PacketIndex
from keyframe.errors import KeyframeError

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
