"""The moments of still footage: slides, screens and whiteboards, and what comes and goes before a fixed camera.

Each picture that stays, and each thing that comes and goes, is a moment. Where something passes a fixed camera most of
the time, frames are compared with the background, and what comes into view is followed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.ndimage import label, maximum_filter

from keyframe.summary.changes import FLOOR, LEAST, LocalChanges, differences
from keyframe.summary.describe import GRID
from keyframe.types import BoolArray, Int64Array, IntArray

# So many pictures in a row, each seen in one look, may be slides: a film on a screen is more. A picture is another one
# moved, by so many cells at most, if they are so alike where they overlap.
_MOST_SHORT, _FARTHEST, _MOVED = 2, 40, 0.8

# What comes into view is a patch of so many cells at least, so far from what was in view a look before. It is an event
# of its own so many looks after the last one, and is followed for so many. A picture is one that stays for so many.
_SPECK, _REACH, _APART, _FOLLOWED, _LINGERS = 3, 6, 8, 32, 4


@dataclass(frozen=True)
class Moment:
    """A picture that stays for two looks at least, whenever it is seen, or something that comes and goes before it."""

    frames: Int64Array  # the frames that show it well, rising, (f,)
    finished: bool = True  # False if the next picture is this one with something added, as on a slide that builds up
    event: bool = False  # whether it comes into view before a busy camera: then it is one of its own, however it looks


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
    kinds = changes.still + changes.busy.astype(np.int64)
    borders = [0, *(1 + np.flatnonzero(np.diff(kinds))).tolist(), n]
    for first, end in pairwise(borders):
        if not kinds[first]:
            continue
        starts = np.union1d(first, first + np.flatnonzero(begins[first:end]))
        stays = np.add.reduceat(looks[first:end], starts - first) >= (_LINGERS if changes.busy[first] else 2)
        if not changes.busy[first]:
            stays |= _short_slides(changes, starts, stays)
        ends = np.stack([starts, np.append(starts[1:], end) - 1], axis=1)[stays]
        pictures += map(tuple, ends.tolist())
        if changes.busy[first]:
            passing += (Moment(first + frames, event=True) for frames in _events(changes.foreground(first, end)))
            continue
        anchors = ends.ravel().tolist()
        spans = [(*span, *span) for span in pairwise(anchors)]
        if anchors and first == 0:
            spans.append((-1, anchors[0], anchors[0], anchors[0]))
        if anchors and end == n:
            spans.append((anchors[-1], n, anchors[-1], anchors[-1]))
        for start, stop, before, after in spans:
            passing += _passing(changes, np.arange(start + 1, stop), before, after)
    return _merged(changes, pictures) + passing


def _short_slides(changes: LocalChanges, starts: Int64Array, stays: BoolArray) -> BoolArray:
    """Which pictures that are seen in one look are slides, (p,), and not passed through from one to the next."""
    found = np.zeros(len(stays), dtype=bool)
    for first, end in np.flatnonzero(np.diff(~stays, prepend=False, append=False)).reshape(-1, 2).tolist():
        if end - first <= _MOST_SHORT:
            for place in range(max(first, 1), min(end, len(stays) - 1)):
                found[place] = _is_slide(changes, int(starts[place]))
    return found


def _is_slide(changes: LocalChanges, frame: int) -> bool:
    """Whether a frame replaces much of what is on the one before, is replaced by the one after, and is new.

    It is not if it mixes the two (a dissolve, a wipe), or shows one of them moved (a scroll, a push) or lit (a flash).
    """
    beside = np.array([frame - 1, frame + 1])
    before, own, after = (changes.cells[place].astype(np.int64) for place in (frame - 1, frame, frame + 1))
    grounds = [changes.ground(place) for place in (frame - 1, frame, frame + 1)]
    content = [_content(changes, place) for place in (frame - 1, frame, frame + 1)]
    changed = changes.changed(frame, beside)
    replaced = all(
        3 * np.count_nonzero(change & shown) >= np.count_nonzero(shown)
        for change, others in zip(changed, (content[:2], content[1:]), strict=True)
        for shown in others
    )
    mixed = (own >= np.minimum(before, after) - FLOOR) & (own <= np.maximum(before, after) + FLOOR)
    if not replaced or 4 * np.count_nonzero(~mixed & content[1]) < np.count_nonzero(content[1]):
        return False
    rows = zip((before, own, after), grounds, strict=True)
    last, one, following = ((row - ground).reshape(GRID, GRID) for row, ground in rows)
    return all(
        _likeness(one.T if turned else one, other.T if turned else other, by) < _MOVED
        for other in (last, following)
        for turned in (False, True)
        for by in range(-_FARTHEST, _FARTHEST + 1)
    )


def _likeness(one: Int64Array, other: Int64Array, by: int) -> float:
    """The cosine of two pictures (GRID, GRID), one of which is moved down by some rows, where both show something."""
    one, other = (one[by:], other[: GRID - by]) if by >= 0 else (one[:by], other[-by:])
    lengths = np.sqrt(np.square(one).sum() * np.square(other).sum())
    return float((one * other).sum() / lengths) if lengths else 0.0


def _passing(changes: LocalChanges, frames: Int64Array, before: int, after: int) -> Iterator[Moment]:
    """What is to be seen in two frames in a row, of some, and neither in the one before nor in the one after."""
    content = _content(changes, before)
    if 2 * np.count_nonzero(changes.changed(before, np.array([after])) & content) > np.count_nonzero(content):
        return  # From one picture to another.
    sizes = changes.added(before, frames, after)
    seen = np.flatnonzero(np.diff(sizes >= LEAST, prepend=False, append=False))
    for first, end in seen.reshape(-1, 2).tolist():
        if end - first > 1:
            yield Moment(frames[first:end][sizes[first:end] >= sizes[first:end].max() / 2])


def _events(foreground: BoolArray) -> Iterator[Int64Array]:
    """The frames that show well each thing that comes into view, given the foreground (n, GRID, GRID)."""
    begun, near = -_APART, np.zeros((GRID, GRID), dtype=bool)
    for place, cells in enumerate(foreground):
        patches, _ = label(cells, np.ones((3, 3)))
        fresh = np.bincount(patches.ravel()) >= _SPECK
        fresh[np.append(0, patches[near])] = False
        if fresh.any() and place - begun >= _APART:
            sizes = _followed(foreground[place : place + _FOLLOWED], fresh[patches])
            if np.count_nonzero(sizes >= LEAST) > 1:
                begun = place
                yield place + np.flatnonzero(sizes >= max(LEAST, 0.75 * sizes.max()))
        near = maximum_filter(cells, 2 * _REACH + 1)


def _followed(foreground: BoolArray, thing: BoolArray) -> Int64Array:
    """How many cells a thing (GRID, GRID) covers in frames (f, GRID, GRID), until it is out of sight, (f,)."""
    sizes = np.zeros(len(foreground), dtype=np.int64)
    for place, cells in enumerate(foreground):
        patches, _ = label(cells, np.ones((3, 3)))
        thing = cells & np.isin(patches, patches[maximum_filter(thing, 2 * _REACH + 1)])
        sizes[place] = np.count_nonzero(thing)
        if not sizes[place]:
            break
    return sizes


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
    old, new = changes.cells[frame], changes.cells[following]
    ground = changes.ground(frame)
    changed = changes.changed(frame, np.array([following]))[0]
    content = differences(old, ground) > FLOOR
    lost = np.count_nonzero(changed & (differences(new, ground) < differences(old, ground)))
    # Of a word put in place of another a third is lost.
    only_added = lost < min(LEAST, np.count_nonzero(changed) / 8)
    return bool(only_added and np.count_nonzero(changed & content) <= np.count_nonzero(content) / 2)


def _content(changes: LocalChanges, frame: int) -> BoolArray:
    """Which cells of a frame show more than their ground, (GRID ** 2,)."""
    return differences(changes.cells[frame], changes.ground(frame)) > FLOOR
