"""What selection chooses from, and what it returns."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from keyframe.summary.changes import GRID, Thumbnails
from keyframe.summary.segment import check_shots
from keyframe.types import FloatArray, IntArray

Positions = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    """The frames of one video that may become keyframes, one row each, in order of time.

    Attributes:
        scores: importance in [0, 1], (n,), n >= 1.
        seconds: when each is shown, from the start of the video, in [0, duration], not decreasing, (n,).
        descriptors: rows of length 1 whose product is the similarity of two frames as a whole, (n, d).
        thumbnails: what each shows where, uint8 (n, GRID, GRID, 3), as `keyframe.summary.changes.thumbnails` gives it.
        sharpness: in any unit that grows with sharpness, >= 0, (n,).
        brightness: mean luma in [0, 1], (n,).
        contrast: standard deviation of luma in [0, 1], (n,).
        shots: first and last candidate of each shot, inclusive, (m, 2), covering 0 ... n - 1 in order.
        duration: length of the video in seconds.

    Raises:
        ValueError: if shapes disagree or a value is outside its range.
    """

    scores: FloatArray
    seconds: FloatArray
    descriptors: FloatArray
    thumbnails: Thumbnails
    sharpness: FloatArray
    brightness: FloatArray
    contrast: FloatArray
    shots: IntArray
    duration: float

    def __post_init__(self) -> None:
        n = len(self.scores)
        if n == 0:
            raise ValueError("there must be at least one candidate")
        ranges = {
            "scores": 1.0,
            "seconds": self.duration,
            "sharpness": np.inf,
            "brightness": 1.0,
            "contrast": 1.0,
        }
        for name, most in ranges.items():
            values = getattr(self, name)
            if values.shape != (n,):
                raise ValueError(f"{name} must be ({n},), not {values.shape}")
            if not (np.isfinite(values) & (values >= 0) & (values <= most)).all():
                raise ValueError(f"{name} must be numbers in [0, {most}]")
        if not np.isfinite(self.duration):
            raise ValueError(f"duration must be a finite number, not {self.duration}")
        if (np.diff(self.seconds) < 0).any():
            raise ValueError("seconds must not decrease")
        if self.descriptors.ndim != 2 or len(self.descriptors) != n:
            raise ValueError(f"descriptors must be ({n}, d), not {self.descriptors.shape}")
        if self.thumbnails.dtype != np.uint8 or self.thumbnails.shape != (n, GRID, GRID, 3):
            raise ValueError(f"thumbnails must be uint8 ({n}, {GRID}, {GRID}, 3), not {self.thumbnails.shape}")
        squares = np.einsum("nd,nd->n", self.descriptors, self.descriptors)
        if not (np.abs(squares - 1) < 1e-3).all():
            raise ValueError("descriptors must have rows of length 1")
        check_shots(self.shots, n)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def shot_of(self) -> Positions:
        """The shot that each candidate lies in, (n,)."""
        return np.repeat(np.arange(len(self.shots)), self.shots[:, 1] - self.shots[:, 0] + 1)

    @property
    def lengths(self) -> npt.NDArray[np.float64]:
        """Seconds that each candidate stands for, (n,): until the next, the last until the end.

        The first stands for what lies before it too, so they sum to the duration.
        """
        starts = np.append(0.0, self.seconds[1:])
        return np.diff(starts, append=self.duration)


@dataclass(frozen=True)
class Selection:
    """The keyframes of one video.

    Attributes:
        keyframes: which candidates, rising, int64, (k,), k >= 1.
        ranks: rank of each, 1 is best, int64, (k,): frames without a fault first, then by score, then by time.
        shots_kept: whether a skim keeps each shot, (m,).
        asked: how many keyframes were asked for; None where the number was not the user's.
        notes: what fell short, one plain sentence each.

    Raises:
        ValueError: if there is no keyframe, keyframes do not rise, or ranks are not 1 ... k in some order.
    """

    keyframes: Positions
    ranks: Positions
    shots_kept: Mask
    asked: int | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.keyframes) or (np.diff(self.keyframes) <= 0).any():
            raise ValueError("keyframes must rise, and be one at least")
        if not np.array_equal(np.sort(self.ranks), np.arange(1, len(self.keyframes) + 1)):
            raise ValueError(f"ranks must be 1 ... {len(self.keyframes)} in some order")

    def __len__(self) -> int:
        return len(self.keyframes)


class Selector(Protocol):
    """Chooses the keyframes of one video."""

    def __call__(self, candidates: Candidates) -> Selection:
        """At least one keyframe, always."""
        ...
