"""What changes between frames of a video, cell by cell, without its light, its noise and its constant motion.

The descriptor of a whole frame is blind to a line of text and to a person far away. So frames are compared cell by
cell, each cell with the tolerance that its own noise and motion ask for. In a film nearly all moves, and only large
changes count. Where a shot stands still a change of a third of a per cent of the picture counts.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageFilter
from scipy.ndimage import binary_dilation, label, maximum_filter

from keyframe.summary.describe import GRID, Cells
from keyframe.types import BoolArray, Float64Array, Int64Array, IntArray, UInt8Array

# A cell has changed if it differs by more than these levels of 255 (coding, rounding, flicker) and so many times its
# median step from look to look.
FLOOR, _NOISES = 4, 5

# Cells that change in this share of so many looks or more, if they are a small part of the picture, are a picture of
# their own, such as a speaker beside slides.
_RESTLESS, _AT_LEAST, _SMALL_PART = 0.3, 16, 0.25

# The light of a frame is evened up to this factor (more is a fade), with this added to luma: nearly black cells say
# nothing about the light.
_MOST_LIGHT, _DARK = 2.0, 8.0

# Cells that make a change in still footage. A mouse pointer covers up to 4, a person of .4 % of the picture touches 12.
LEAST = 8

# Looks over which a shot must stay the same, in half of its length, to be still footage: a slow zoom does not.
_STILL_OVER = 2

# A shot of so many looks whose cells mostly keep their value from look to look, and of which a frame mostly shows the
# background but for so large a part, is of a fixed camera, however much passes it.
_LONG, _STEADY_CELLS, _STEADY_STEP, _BEFORE_IT = 20, 0.6, 1, 0.25

_CLOSER = 6.0  # how many times more a change counts in still footage

# Frames that show the same have less than `LEAST` changed cells, and are this similar by `LocalChanges.between`.
SAME_FROM = 1 - _CLOSER * (LEAST - 1) / GRID**2

# Patches of changed cells touch at sides or corners. From so many changed cells on, no patch is sought.
_IN_ONE_FRAME = np.zeros((3, 3, 3), dtype=bool)
_IN_ONE_FRAME[1] = True
_MANY = 32

_BACKGROUND = 128  # looks of which the median is a fixed camera's background

# An image, RGB (H, W, 3), and its cells, (GRID, GRID).
Shown = tuple[UInt8Array, Cells]

_ESTIMATED, _AT_ONCE = 256, 256  # looks that light and noise are estimated from, and pairs compared at once


class LocalChanges:
    """The changes between any two frames of a video, without those of its light, its noise and its constant motion.

    Made of the `cells`, `shots` and `looks` of `Candidates`.

    Attributes:
        cells: the luma of the cells in even light, uint8 (n, GRID ** 2).
        still: whether the frame is of a shot whose picture stays the same for at least half of the time, or whose
            camera is fixed, (n,).
        busy: whether it is of a shot whose camera is fixed, but whose picture stays the same for less, (n,).
    """

    def __init__(self, cells: Cells, shots: IntArray, looks: IntArray) -> None:
        n = len(cells)
        self._grounds: dict[int, UInt8Array] = {}
        self.cells = np.empty((n, GRID**2), np.uint8)
        self.still, self.busy, self._fixed = np.zeros((3, n), dtype=bool)
        self._shot_of = np.repeat(np.arange(len(shots)), shots[:, 1] - shots[:, 0] + 1)
        # With and without what restless cells show.
        self._tolerances, self._calm = np.full((2, len(shots), GRID**2), FLOOR, np.uint8)
        for shot, (first, last) in enumerate(shots.tolist()):
            own = slice(first, last + 1)
            _even_light(cells[own].reshape(-1, GRID**2), self.cells[own])
            held = int((looks[own] - 1).sum())
            self._tolerances[shot], restless = self._tolerance(np.arange(first + 1, last + 1), held)
            self._calm[shot] = np.where(restless, 255, self._tolerances[shot])
            self._fixed[own] = self._is_fixed(own, self._tolerances[shot])
            later = np.arange(first + _STILL_OVER, last + 1)
            quiet = np.count_nonzero(self.same(later - _STILL_OVER, later)) + held
            # How long a last frame stays is not known.
            stays = quiet >= max(1, (len(later) + held) / 2) or first == n - 1
            self.busy[own] = self._fixed[own] & ~stays
            self.still[own] = stays | self.busy[own]

    def _tolerance(self, steps: Int64Array, held: int) -> tuple[IntArray, BoolArray]:
        """The largest difference that is no change, and whether the cell is restless, of each, (GRID ** 2,)."""
        # The median of the steps to some frames, with a step of zero for each look that repeats a frame.
        looks = len(steps) + held
        place = looks // 2 - held
        some = steps[_spread(len(steps))]
        apart = differences(self.cells[some], self.cells[some - 1])
        if 0 <= place < len(steps):
            usual = np.partition(apart, place * len(some) // len(steps), axis=0)[place * len(some) // len(steps)]
        else:
            usual = np.zeros(GRID**2, np.uint8)
        tolerance = (FLOOR + _NOISES * usual.astype(np.int64)).clip(0, 255)
        often = np.count_nonzero(apart > np.median(tolerance), axis=0) * len(steps) >= _RESTLESS * looks * len(some)
        restless = binary_dilation(often.reshape(GRID, GRID)).ravel()
        return tolerance, restless & (looks >= _AT_LEAST) & (np.count_nonzero(restless) < _SMALL_PART * GRID**2)

    def _is_fixed(self, frames: slice, tolerance: IntArray) -> bool:
        """Whether the camera of a shot does not move."""
        some = self.cells[frames][_spread(frames.stop - frames.start)]
        away = np.count_nonzero(differences(some, _background(some)) > tolerance, axis=1)
        steady = np.count_nonzero(tolerance <= FLOOR + _NOISES * _STEADY_STEP)
        long = frames.stop - frames.start >= _LONG
        return bool(long and steady >= _STEADY_CELLS * GRID**2 and np.median(away) <= _BEFORE_IT * GRID**2)

    def ground(self, frame: int) -> UInt8Array:
        """The paper below what is written, or the wall behind small things: the median of 9x9 cells, (GRID ** 2,)."""
        if frame not in self._grounds:
            cells = Image.fromarray(self.cells[frame].reshape(GRID, GRID))
            self._grounds[frame] = np.asarray(cells.filter(ImageFilter.MedianFilter(9))).ravel()
        return self._grounds[frame]

    def foreground(self, first: int, end: int) -> BoolArray:
        """Which calm cells of a fixed camera's shot show no background, for frames first ... end - 1, (f, GRID, GRID).

        The background is the median over a minute around: somebody may stay for half of it.
        """
        found = np.zeros((end - first, GRID**2), dtype=bool)
        for start in range(first, end, _BACKGROUND // 4):
            few = slice(start, min(end, start + _BACKGROUND // 4))
            around = slice(max(first, start - _BACKGROUND // 2), min(end, start + _BACKGROUND // 2))
            away = differences(self.cells[few], _background(self.cells[around]))
            found[few.start - first : few.stop - first] = away > self._calm[self._shot_of[few]]
        return found.reshape(-1, GRID, GRID)

    def changed(self, frames: IntArray | int, others: IntArray, calm: bool = True) -> BoolArray:
        """Which cells differ between frames, or one frame, and as many others, (o, GRID ** 2); `calm` ones or all."""
        one, other = self._shot_of[frames], self._shot_of[others]
        of_shots = self._calm if calm else self._tolerances
        tolerances = of_shots[one]
        if (one != other).any():
            tolerances = np.maximum(tolerances, of_shots[other])
        elif len(others):
            tolerances = of_shots[other[0]]
        return differences(self.cells[frames], self.cells[others]) > tolerances

    def same(self, frames: IntArray | int, others: IntArray) -> BoolArray:
        """Whether frames of still footage show the same as others, (o,), but for restless parts.

        They do if less than `LEAST` cells have changed. Before a fixed camera, and on a screen, it may be a few more
        that do not hang together: a pointer, a clock and a laser dot. In a film they are large things that move little.
        """
        same = np.zeros(len(others), dtype=bool)
        for few in _pieces(len(others)):
            own = frames if isinstance(frames, int) else frames[few]
            fixed = self._fixed[own] & self._fixed[others[few]]
            same[few] = _sizes(self.changed(own, others[few]), fixed) < LEAST
        return same

    def added(self, before: int, frames: Int64Array, after: int) -> Int64Array:
        """The size of what frames show in place of what both a frame before and one after them show, (f,)."""
        kept = ~self.changed(before, np.array([after]))
        sizes = np.zeros(len(frames), dtype=np.int64)
        for few in _pieces(len(frames)):
            new = self.changed(before, frames[few]) & self.changed(after, frames[few]) & kept
            sizes[few] = _sizes(new, self._fixed[frames[few]])
        return sizes

    def between(self, frame: int, others: IntArray) -> Float64Array:
        """How much of the image differs between a frame and others, in [0, 1], (o,); symmetric.

        It is the share of cells that have changed, and six times that share if both frames are of still shots.
        """
        closer = np.where(self.still[frame] & self.still[others], _CLOSER, 1.0)
        counts = [
            np.count_nonzero(self.changed(frame, others[few], calm=False), axis=1) for few in _pieces(len(others))
        ]
        return np.minimum(1, closer * np.concatenate([*counts, np.zeros(0)]) / GRID**2)


def _even_light(rows: UInt8Array, out: UInt8Array) -> None:
    """Scale each frame (n, cells) to the light of the shot's typical frame.

    The ratio is the median over the cells, which a change of less than half of the picture does not move.
    """
    typical = np.median(rows[_spread(len(rows))], axis=0).astype(np.float32) + np.float32(_DARK)
    for few in _pieces(len(rows)):
        lit = rows[few] + np.float32(_DARK)
        lit /= np.median(lit / typical, axis=1, keepdims=True).clip(1 / _MOST_LIGHT, _MOST_LIGHT)
        out[few] = np.round(lit - _DARK).clip(0, 255)


def _background(cells: UInt8Array) -> UInt8Array:
    """The median of some frames (n, cells), (cells,)."""
    return np.partition(cells, len(cells) // 2, axis=0)[len(cells) // 2]


def _sizes(changed: BoolArray, fixed: BoolArray) -> Int64Array:
    """How many cells have changed, (f,), given (f, GRID ** 2); of few in `fixed` footage, in the largest patch."""
    sizes = np.count_nonzero(changed, axis=1)
    some = np.flatnonzero(fixed & (sizes >= LEAST) & (sizes < _MANY))
    cells = changed[some].reshape(-1, GRID, GRID)
    # Words of a line, and lines of a box, are one patch.
    patches, count = label(maximum_filter(cells, (1, 3, 3)), _IN_ONE_FRAME)
    sizes[some] = np.bincount(patches[cells], minlength=count + 1)[patches].max(axis=(1, 2), initial=0)
    return sizes


def show_again(images: UInt8Array, cells: Cells, latest: Shown | None = None) -> Shown:
    """Put the image that was shown last in place of each that shows the same: less than `LEAST` cells have changed.

    Args:
        images: RGB, in order of time, (p, H, W, 3), changed in place.
        cells: of `luma_cells`, of the same frames, (p, GRID, GRID).
        latest: what was returned for the images before.

    Returns:
        The image shown last and its cells. Steps do not add up: each image is compared to the one that is shown.
    """
    for image, own in zip(images, cells, strict=True):
        if latest is not None and np.count_nonzero(differences(own, latest[1]) > FLOOR) < LEAST:
            image[:] = latest[0]
        else:
            latest = image.copy(), own
    assert latest is not None
    return latest


def differences(ones: UInt8Array, others: UInt8Array) -> UInt8Array:
    """|a - b| of unsigned numbers."""
    return np.maximum(ones, others) - np.minimum(ones, others)


def _spread(n: int) -> Int64Array:
    """Some of n places, evenly spread."""
    return np.linspace(0, n - 1, min(n, _ESTIMATED)).astype(np.int64)


def _pieces(n: int) -> Iterator[slice]:
    return (slice(first, first + _AT_ONCE) for first in range(0, n, _AT_ONCE))
