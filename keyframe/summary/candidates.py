"""What keyframes are selected from, what a selection is, and which frames make poor stills."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy.ndimage import median

from keyframe.summary.changes import LocalChanges
from keyframe.summary.describe import GRID, Cells
from keyframe.summary.moments import Moment, find_moments
from keyframe.summary.shots import check_shots
from keyframe.types import BoolArray, Float64Array, FloatArray, Int64Array, IntArray

Positions = Int64Array


@dataclass(frozen=True)
class Candidates:
    """The frames of one video that may become keyframes, one row per frame, in order of time."""

    scores: FloatArray  # importance in [0, 1], (n,), n >= 1
    seconds: FloatArray  # presentation times from the start of the video, in [0, duration], not decreasing, (n,)
    descriptors: FloatArray  # rows of length 1 whose product is the similarity of two frames as a whole, (n, d)
    cells: Cells  # uint8 (n, GRID, GRID), see `keyframe.summary.describe.luma_cells`
    sharpness: FloatArray  # in any unit that grows with sharpness, >= 0, (n,)
    brightness: FloatArray  # mean luma in [0, 1], (n,)
    contrast: FloatArray  # standard deviation of luma in [0, 1], (n,)
    shots: IntArray  # first and last candidate of each shot, inclusive, (m, 2), covering 0 ... n - 1 in order
    duration: float  # length of the video in seconds
    looks: IntArray | None = None  # how many in a row show each frame, (n,): more where the video holds it; None: one

    def __post_init__(self) -> None:
        n = len(self.scores)
        if n == 0 or not np.isfinite(self.duration):
            raise ValueError(f"there must be a candidate, and duration must be a finite number, not {self.duration}")
        most = {"scores": 1.0, "seconds": self.duration, "sharpness": np.inf, "brightness": 1.0, "contrast": 1.0}
        for name, highest in most.items():
            values = getattr(self, name)
            if values.shape != (n,) or not (np.isfinite(values) & (values >= 0) & (values <= highest)).all():
                raise ValueError(f"{name} must be ({n},) in [0, {highest}]")
        if (np.diff(self.seconds) < 0).any():
            raise ValueError("seconds must not decrease")
        lengths = np.einsum("nd,nd->n", self.descriptors, self.descriptors)
        if len(lengths) != n or not (np.abs(lengths - 1) < 2e-3).all():
            raise ValueError(f"descriptors must be ({n}, d) with rows of length 1, not {self.descriptors.shape}")
        if self.cells.dtype != np.uint8 or self.cells.shape != (n, GRID, GRID):
            raise ValueError(f"cells must be uint8 ({n}, {GRID}, {GRID}), not {self.cells.shape}")
        if self.looks is not None and (self.looks.shape != (n,) or (self.looks < 1).any()):
            raise ValueError(f"looks must be ({n},) and at least 1")
        check_shots(self.shots, n)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def shot_of(self) -> Positions:
        """The shot of each candidate, (n,)."""
        return np.repeat(np.arange(len(self.shots)), self.shots[:, 1] - self.shots[:, 0] + 1)

    @property
    def lengths(self) -> Float64Array:
        """Seconds from each candidate to the next, the last to the end, the first from 0, (n,)."""
        return np.diff(np.append(0.0, self.seconds[1:]), append=self.duration)

    @cached_property
    def changes(self) -> LocalChanges:
        """What changes between any two of them."""
        return LocalChanges(self.cells, self.shots, self._looks)

    @cached_property
    def sketch(self) -> FloatArray:
        """Short rows, (n, 17), whose product is no less than that of two descriptors, and mostly not much more.

        They are the descriptors on 16 principal axes of some of them, and the length of what is left, by the inequality
        of Cauchy and Schwarz.
        """
        some = self.descriptors[:: 1 + len(self) // 1024]
        _, axes = np.linalg.eigh(some.T @ some)
        short = self.descriptors @ axes[:, -16:]
        squares = [np.einsum("nd,nd->n", rows, rows) for rows in (self.descriptors, short)]
        return np.column_stack([short, np.sqrt(np.maximum(squares[0] - squares[1], 0))])

    @cached_property
    def flags(self) -> Positions:
        """Their `quality_flags`, (n,)."""
        return quality_flags(self)

    @cached_property
    def moments(self) -> list[Moment]:
        """The moments of still footage."""
        return find_moments(self.changes, self._looks)

    @cached_property
    def events(self) -> Positions:
        """The number of the event that each shows, (n,), 0 for none."""
        numbers = np.zeros(len(self), dtype=np.int64)
        for number, moment in enumerate(self.moments, start=1):
            if moment.event:
                numbers[moment.frames] = number
        return numbers

    @property
    def _looks(self) -> IntArray:
        return np.ones(len(self), dtype=np.int64) if self.looks is None else self.looks


@dataclass(frozen=True)
class Selection:
    """The keyframes of one video."""

    keyframes: Positions  # their positions in the candidates, rising, int64, (k,), k >= 1
    ranks: Positions  # 1 (best) ... k, int64, (k,): frames without a quality flag first, then by score, then by time
    shots_kept: BoolArray  # whether a skim keeps each shot, (m,)
    asked: int | None = None  # how many keyframes the user asked for; None if the selection chose the number
    notes: tuple[str, ...] = ()  # what fell short, one sentence each
    min_distance: float = 0.0  # seconds that any two keyframes are apart at least

    def __post_init__(self) -> None:
        for name, kind in {"keyframes": np.integer, "ranks": np.integer, "shots_kept": np.bool_}.items():
            values = np.asarray(getattr(self, name))
            if values.ndim != 1 or (values.size and not np.issubdtype(values.dtype, kind)):
                raise ValueError(f"{name} must be a row of {kind.__name__}, not {values.dtype} {values.shape}")
            object.__setattr__(self, name, values)
        if not len(self.keyframes) or (np.diff(self.keyframes) <= 0).any():
            raise ValueError("keyframes must rise, and there must be at least one")
        if not np.array_equal(np.sort(self.ranks), np.arange(1, len(self.keyframes) + 1)):
            raise ValueError(f"ranks must be 1 ... {len(self.keyframes)} in some order")

    def __len__(self) -> int:
        return len(self.keyframes)

    def is_of(self, candidates: Candidates) -> bool:
        """Whether it may be a selection of these."""
        inside = self.keyframes[0] >= 0 and self.keyframes[-1] < len(candidates)
        return bool(inside and len(self.shots_kept) == len(candidates.shots) and isinstance(self.notes, tuple))


class Selector(Protocol):
    """Selects the keyframes of one video."""

    def __call__(self, candidates: Candidates) -> Selection:
        """Select at least one keyframe."""
        ...


# Mean luma of 5 of 255, of which a screen shows nothing; night and space have more (3 to 6 % in real clips).
BLACK_BELOW = 5 / 255

# Standard deviation of luma of 8 of 255: a plain colour, a white flash or thick fog, camera noise included.
FLAT_BELOW = 8 / 255

# Share of the sharpness of the frames of its shot within so many seconds before and after it, below which a frame that
# looks like none of its neighbours is in transition: a whip pan, a dissolve.
_IN_TRANSITION_BELOW, _WITHIN, _UNLIKE_BELOW = 0.6, 1.5, 0.98

# Share of the median sharpness of its own shot below which a frame counts as blurred. Sharpness depends on what is
# filmed (sky or foliage), so it is compared within a shot: there it falls where the camera or the subject moves.
_BLURRED_BELOW = 0.3

# The same against the whole video, for a shot that is out of focus all through; lower, because shots differ.
BLURRED_IN_VIDEO_BELOW = 0.1

GOOD, BLURRED, BLANK = 0, 1, 2


def quality_flags(candidates: Candidates) -> Positions:
    """What makes each candidate a poor still, (n,): 0 nothing, 1 blurred or in transition, 2 black or flat.

    Blurred is relative to the medians of shot and video over the frames that are neither black nor flat.
    """
    blank = (candidates.brightness < BLACK_BELOW) | (candidates.contrast < FLAT_BELOW)
    flags = np.full(len(candidates), BLANK, dtype=np.int64)
    visible = np.flatnonzero(~blank)
    if len(visible):
        sharpness, shots = candidates.sharpness[visible], candidates.shot_of[visible]
        of_shot = _BLURRED_BELOW * median(sharpness.astype(np.float64), shots, shots)
        limit = np.maximum(of_shot, BLURRED_IN_VIDEO_BELOW * np.median(sharpness))
        flags[visible] = np.where((sharpness < limit) | _in_transition(candidates)[visible], BLURRED, GOOD)
    return flags


def _in_transition(candidates: Candidates) -> BoolArray:
    """Which candidates are passed through from one picture to the next, (n,)."""
    n, seconds, sharpness, shot_of = len(candidates), candidates.seconds, candidates.sharpness, candidates.shot_of
    alike = np.einsum("nd,nd->n", candidates.descriptors[:-1], candidates.descriptors[1:]) >= _UNLIKE_BELOW
    lone = ~(np.append(False, alike) | np.append(alike, False))
    found = np.zeros(n, dtype=bool)
    for frame in np.flatnonzero(lone).tolist():
        first, last = candidates.shots[shot_of[frame]]
        near = np.arange(first, last + 1)[np.abs(seconds[first : last + 1] - seconds[frame]) <= _WITHIN]
        before, after = (sharpness[side].max(initial=0) for side in (near[near < frame], near[near > frame]))
        found[frame] = sharpness[frame] < _IN_TRANSITION_BELOW * min(before, after)
    if candidates.changes.still.any():
        same = candidates.changes.same(np.arange(n - 1), np.arange(1, n))
        shown = np.append(False, same) | np.append(same, False)
        for moment in candidates.moments:
            shown[moment.frames] = True
        found |= candidates.changes.still & ~candidates.changes.busy & ~shown
    return found
