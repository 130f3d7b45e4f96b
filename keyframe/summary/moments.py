"""The moments of still footage: slides, screens and whiteboards, and what comes and goes before a fixed camera.

The descriptor of a whole frame is blind to a line of text and to a person far away. So frames are compared cell by
cell, each cell with the tolerance that its own noise and motion ask for. In a film nearly all moves, and only large
changes count. Where a shot stands still a change of a third of a per cent of the picture counts, and each picture that
stays, and each thing that comes and goes, is a moment.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.ndimage import binary_dilation, median_filter

from keyframe.summary.describe import GRID, Cells
from keyframe.types import BoolArray, Float64Array, Int64Array, IntArray, UInt8Array

# A cell has changed if it differs by more than these levels of 255 (coding, rounding, flicker) and so many times its
# median step from look to look.
_FLOOR, _NOISES = 4, 5

# Cells that change in this share of so many looks or more, if they are a small part of the picture, are a picture of
# their own, such as a speaker beside slides.
_RESTLESS, _AT_LEAST, _SMALL_PART = 0.3, 16, 0.25

# The light of a frame is evened up to this factor (more is a fade), with this added to luma: nearly black cells say
# nothing about the light.
_MOST_LIGHT, _DARK = 2.0, 8.0

# Cells that make a change in still footage. A mouse pointer covers up to 4, a person of .4 % of the picture touches 12.
_LEAST = 8

# Looks over which a shot must stay the same, in half of its length, to be still footage: a slow zoom does not.
_STILL_OVER = 2

# How many times more a change counts in still footage.
_CLOSER = 6.0

# Frames that show the same have less than `_LEAST` changed cells, and are this similar by `LocalChanges.between`.
SAME_FROM = 1 - _CLOSER * (_LEAST - 1) / GRID**2

# Looks that light and noise are estimated from, and pairs compared at once.
_ESTIMATED, _AT_ONCE = 256, 256


class LocalChanges:
    """The changes between any two frames of a video, without those of its light, its noise and its constant motion.

    Args:
        cells: of `luma_cells`, uint8 (n, GRID, GRID).
        shots: first and last frame of each shot, inclusive, (m, 2), covering 0 ... n - 1 in order.
        looks: how many looks in a row show each frame, (n,), >= 1; more than one where a video holds a frame.

    Attributes:
        cells: the luma of the cells in even light, uint8 (n, GRID ** 2).
        still: whether the frame is of a shot whose picture stays the same for at least half of the time, (n,).
    """

    def __init__(self, cells: Cells, shots: IntArray, looks: IntArray) -> None:
        n = len(cells)
        self.cells = np.empty((n, GRID**2), np.uint8)
        self.still = np.zeros(n, dtype=bool)
        self._shot_of = np.repeat(np.arange(len(shots)), shots[:, 1] - shots[:, 0] + 1)
        # With and without what restless cells show.
        self._tolerances, self._calm = np.full((2, len(shots), GRID**2), _FLOOR, np.uint8)
        for shot, (first, last) in enumerate(shots.tolist()):
            own = slice(first, last + 1)
            _even_light(cells[own].reshape(-1, GRID**2), self.cells[own])
            held = int((looks[own] - 1).sum())
            self._tolerances[shot], restless = self._tolerance(np.arange(first + 1, last + 1), held)
            self._calm[shot] = np.where(restless, 255, self._tolerances[shot])
            later = np.arange(first + _STILL_OVER, last + 1)
            quiet = np.count_nonzero(self.same(later - _STILL_OVER, later)) + held
            # How long a last frame stays is not known.
            self.still[own] = quiet >= max(1, (len(later) + held) / 2) or first == n - 1

    def _tolerance(self, steps: Int64Array, held: int) -> tuple[IntArray, BoolArray]:
        """The largest difference that is no change, and whether the cell is restless, of each, (GRID ** 2,)."""
        # The median of the steps to some frames, with a step of zero for each look that repeats a frame.
        looks = len(steps) + held
        place = looks // 2 - held
        some = steps[_spread(len(steps))]
        apart = _apart(self.cells[some], self.cells[some - 1])
        if 0 <= place < len(steps):
            usual = np.partition(apart, place * len(some) // len(steps), axis=0)[place * len(some) // len(steps)]
        else:
            usual = np.zeros(GRID**2, np.uint8)
        tolerance = (_FLOOR + _NOISES * usual.astype(np.int64)).clip(0, 255)
        often = np.count_nonzero(apart > np.median(tolerance), axis=0) * len(steps) >= _RESTLESS * looks * len(some)
        restless = binary_dilation(often.reshape(GRID, GRID)).ravel()
        return tolerance, restless & (looks >= _AT_LEAST) & (np.count_nonzero(restless) < _SMALL_PART * GRID**2)

    def changed(self, frames: IntArray | int, others: IntArray, calm: bool = True) -> BoolArray:
        """Which cells differ between frames, or one frame, and as many others, (o, GRID ** 2); `calm` ones or all."""
        one, other = self._shot_of[frames], self._shot_of[others]
        of_shots = self._calm if calm else self._tolerances
        tolerances = of_shots[one]
        if (one != other).any():
            tolerances = np.maximum(tolerances, of_shots[other])
        elif len(others):
            tolerances = of_shots[other[0]]
        return _apart(self.cells[frames], self.cells[others]) > tolerances

    def _counts(self, frames: IntArray | int, others: IntArray, calm: bool) -> Int64Array:
        """How many cells differ, (o,)."""
        counts = np.zeros(len(others), dtype=np.int64)
        for few in _pieces(len(others)):
            own = frames if isinstance(frames, int) else frames[few]
            counts[few] = np.count_nonzero(self.changed(own, others[few], calm), axis=1)
        return counts

    def same(self, frames: IntArray | int, others: IntArray) -> BoolArray:
        """Whether frames of still footage show the same as others, (o,), but for restless parts."""
        return self._counts(frames, others, calm=True) < _LEAST

    def between(self, frame: int, others: IntArray) -> Float64Array:
        """How much of the image differs between a frame and others, in [0, 1], (o,); symmetric.

        It is the share of cells that have changed, and six times that share if both frames are of still shots.
        """
        closer = np.where(self.still[frame] & self.still[others], _CLOSER, 1.0)
        return np.minimum(1, closer * self._counts(frame, others, calm=False) / GRID**2)


def _even_light(rows: UInt8Array, out: UInt8Array) -> None:
    """Scale each frame (n, cells) to the light of the shot's typical frame.

    The ratio is the median over the cells, which a change of less than half of the picture does not move.
    """
    typical = np.median(rows[_spread(len(rows))], axis=0).astype(np.float32) + np.float32(_DARK)
    for few in _pieces(len(rows)):
        lit = rows[few] + np.float32(_DARK)
        lit /= np.median(lit / typical, axis=1, keepdims=True).clip(1 / _MOST_LIGHT, _MOST_LIGHT)
        out[few] = np.round(lit - _DARK).clip(0, 255)


def _apart(ones: UInt8Array, others: UInt8Array) -> UInt8Array:
    """|a - b| of unsigned numbers."""
    return np.maximum(ones, others) - np.minimum(ones, others)


def _spread(n: int) -> Int64Array:
    """Some of n places, evenly spread."""
    return np.linspace(0, n - 1, min(n, _ESTIMATED)).astype(np.int64)


def _pieces(n: int) -> Iterator[slice]:
    return (slice(first, first + _AT_ONCE) for first in range(0, n, _AT_ONCE))


@dataclass(frozen=True)
class Moment:
    """One picture that stays for two looks at least, whenever it is seen, or something that comes and goes before it.

    Attributes:
        frames: the frames that show it well, rising, (f,).
        finished: False if the next picture is this one with something added, as on a slide that builds up.
    """

    frames: Int64Array
    finished: bool = True


def find_moments(changes: LocalChanges, looks: IntArray) -> list[Moment]:
    """The moments of a video's still footage; footage that moves has none.

    A picture that returns is one moment. Changes that do not stay (a dissolve, a scroll, a flash) are none, unless
    something was there for two looks that is neither in the picture before nor in the one after. `looks` are those of
    `LocalChanges`.
    """
    n = len(looks)
    # How long the last frame stays is not known.
    looks = looks + (np.arange(n) == n - 1)
    begins = np.append(True, ~changes.same(np.arange(n - 1), np.arange(1, n)))
    pictures: list[tuple[int, int]] = []
    passing: list[Moment] = []
    for first, end in np.flatnonzero(np.diff(changes.still, prepend=False, append=False)).reshape(-1, 2).tolist():
        starts = np.union1d(first, first + np.flatnonzero(begins[first:end]))
        stays = np.add.reduceat(looks[first:end], starts - first) > 1
        ends = np.stack([starts, np.append(starts[1:], end) - 1], axis=1)[stays]
        pictures += map(tuple, ends.tolist())
        anchors = ends.ravel().tolist()
        spans = [(*span, *span) for span in pairwise(anchors)]
        if anchors and first == 0:
            spans.append((-1, anchors[0], anchors[0], anchors[0]))
        if anchors and end == n:
            spans.append((anchors[-1], n, anchors[-1], anchors[-1]))
        for start, stop, before, after in spans:
            passing += _passing(changes, np.arange(start + 1, stop), before, after)
    return _merged(changes, pictures) + passing


def _passing(changes: LocalChanges, frames: Int64Array, before: int, after: int) -> Iterator[Moment]:
    """What is to be seen in two frames in a row, of some, and neither in the one before nor in the one after."""
    kept = ~changes.changed(before, np.array([after]))
    if 2 * np.count_nonzero(kept) < GRID**2:
        return  # From one picture to another.
    sizes = np.zeros(len(frames), dtype=np.int64)
    for few in _pieces(len(frames)):
        new = changes.changed(before, frames[few]) & changes.changed(after, frames[few]) & kept
        sizes[few] = np.count_nonzero(new, axis=1)
    seen = np.flatnonzero(np.diff(sizes >= _LEAST, prepend=False, append=False))
    for first, end in seen.reshape(-1, 2).tolist():
        if end - first > 1:
            yield Moment(frames[first:end][sizes[first:end] >= sizes[first:end].max() / 2])


def _merged(changes: LocalChanges, pictures: list[tuple[int, int]]) -> list[Moment]:
    """A moment of each picture, given the first and last frame of each stay of one."""
    moments: list[Moment] = []
    lasts = np.zeros(0, dtype=np.int64)
    for number, (first, last) in enumerate(pictures):
        # Of what slowly comes to be, such as handwriting, the frames that show what the last one shows. The first and
        # the last of them may still show a change.
        frames = np.arange(first, last + 1)
        frames = frames[changes.same(last, frames)]
        frames = frames[1:-1] if len(frames) > 2 else frames
        finished = number + 1 == len(pictures) or not _adds(changes, last, pictures[number + 1][0])
        known = np.flatnonzero(changes.same(last, lasts))
        if len(known):
            moments[known[0]] = Moment(np.append(moments[known[0]].frames, frames), finished)
        else:
            moments.append(Moment(frames, finished))
            lasts = np.append(lasts, last)
    return moments


def _adds(changes: LocalChanges, frame: int, following: int) -> bool:
    """Whether the following frame is this one with something added to its plain ground, and the rest as it was."""
    old, new = (changes.cells[place].reshape(GRID, GRID) for place in (frame, following))
    ground = median_filter(old, 9, mode="nearest")
    changed = changes.changed(frame, np.array([following])).reshape(GRID, GRID)
    content = _apart(old, ground) > _FLOOR
    lost = np.count_nonzero(changed & (_apart(new, ground) < _apart(old, ground)))
    # Of a word put in place of another a third is lost.
    only_added = lost < min(_LEAST, np.count_nonzero(changed) / 8)
    return bool(only_added and np.count_nonzero(changed & content) <= np.count_nonzero(content) / 2)
