"""Exact and near choices: the best k frames that are far enough apart in time and do not look alike; the knapsack.

Distance in time alone is a problem on a line, and `best_apart` solves it exactly. With similarity it becomes the search
for a maximum weight independent set in a graph of conflicts, which is NP-hard in general: no two frames that `choose`
returns break a limit, and no frame could be added within k. Unless the best choice for the distance alone is without
conflict, it is a local search, in bounded time at any length. On 576 problems from real clips and generated videos of
up to 40 frames it finds as many frames as an exact integer programme (HiGHS), and in 570 the same total.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keyframe.summary.candidates import Candidates, Positions
from keyframe.types import BoolArray, FloatArray, IntArray, check_number

_TIME_TOLERANCE = 1e-6  # timestamps are rounded, so frames may be this many seconds too close
_SIMILARITY_TOLERANCE = 1e-6  # rounding of the product of two float32 rows of length 1
_SKETCH_TOLERANCE = 1e-4  # the same of two rows of a sketch

# Up to this many frames all conflicts are computed at once; above it, those of the frames that are tried.
_MOST_AT_ONCE = 1024

# Frames forced into a local optimum to leave it; fewer if conflicts are computed one by one.
_TRIES, _FEWER_TRIES = 100, 5

_PAIR_TRIES = 32  # frames of a group that are tried as one half of a pair


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What two keyframes of one video must not be, whatever selects them."""

    min_distance: float = 1.0  # least seconds between two keyframes, >= 0
    # Greatest product of two keyframes' descriptors, in [-1, 1]; 1 sets no limit. On real clips 82 % of pairs of one
    # shot and 1.7 % of pairs from different shots are above .98 (88 % and 5.7 % above .95). If moments of one scene are
    # wanted, it is the share of the frame that has not changed (`LocalChanges`), if that is less.
    max_similarity: float = 0.98

    def __post_init__(self) -> None:
        check_number("selection.min_distance", self.min_distance, 0, whole=False)
        check_number("selection.max_similarity", self.max_similarity, -1, 1, whole=False)


class Conflicts:
    """Which of some candidates, at positions `among` (n,), must not be kept together under some limits.

    Frames that look alike as a whole are duplicates; with `moments` only if nothing has changed between them, and
    frames of two events are not.
    """

    def __init__(self, candidates: Candidates, limits: Limits, among: Positions, moments: bool = False) -> None:
        self.limits, self.among, self.seconds = limits, among, candidates.seconds[among]
        self._places = np.arange(len(among))
        every = len(among) == len(candidates)
        self._descriptors = candidates.descriptors if every else candidates.descriptors[among]
        self._sketch = candidates.sketch if every else candidates.sketch[among]
        self._changes = candidates.changes if moments else None
        self._events = candidates.events[among] if moments else np.zeros_like(among)

    def between(self, frames: Positions, others: Positions | slice = slice(None)) -> BoolArray:
        """Whether frames are in conflict with others (all by default), (f, o); each is with itself."""
        gaps = np.abs(self.seconds[frames, None] - self.seconds[others])
        near = gaps < self.limits.min_distance - _TIME_TOLERANCE
        near |= frames[:, None] == self._places[others]
        most = self.limits.max_similarity + _SIMILARITY_TOLERANCE
        like = self._descriptors[frames] @ self._descriptors[others].T > most
        if self._changes is not None:
            ones, rest = self._events[frames, None], self._events[others]
            like &= ~near & ~((ones > 0) & (rest > 0) & (ones != rest))
            for frame, row in zip(frames.tolist(), like, strict=True):
                row[row] = 1 - self._changes.between(int(self.among[frame]), self.among[others][row]) > most
        return like | near

    def row(self, frame: int) -> Positions:
        """What one frame is in conflict with, itself included, rising: as `between`, for a long video in less time."""
        near = np.abs(self.seconds - self.seconds[frame]) < self.limits.min_distance - _TIME_TOLERANCE
        near[frame] = True
        most = self.limits.max_similarity + _SIMILARITY_TOLERANCE
        like = np.flatnonzero(~near & (self._sketch @ self._sketch[frame] > most - _SKETCH_TOLERANCE))
        like = like[self._descriptors[like] @ self._descriptors[frame] > most]
        if self._changes is not None:
            one, rest = self._events[frame], self._events[like]
            like = like[~((one > 0) & (rest > 0) & (one != rest))]
            like = like[1 - self._changes.between(int(self.among[frame]), self.among[like]) > most]
        near[like] = True
        return np.flatnonzero(near)


def best_apart(merits: FloatArray, seconds: FloatArray, k: int, min_distance: float) -> Positions:
    """The k frames with the greatest total merit of which no two are closer than `min_distance` seconds; exact.

    Dynamic programming over time, one row per keyframe (weighted interval scheduling with a cardinality: Kleinberg and
    Tardos, Algorithm Design, 6.1): O(n k) steps, n k / 8 bytes. `merits` (n,), n >= 1, are finite and may be negative;
    `seconds` (n,) do not decrease. Returns rising positions, fewer than k if no more fit: the number comes before the
    total, and of equal totals the one with earlier frames is taken.
    """
    n = len(merits)
    # How many frames are early enough to come before each.
    before = np.searchsorted(seconds, seconds - (min_distance - _TIME_TOLERANCE), side="right")
    before = np.minimum(before, np.arange(n))
    # best[i]: the greatest total of a row's number of frames out of the first i.
    best = np.zeros(n + 1)
    rows = []
    for _ in range(min(k, n)):
        totals = np.append(-np.inf, merits + best[before])
        best = np.maximum.accumulate(totals)
        if best[-1] == -np.inf:
            break
        # A frame is useful as the last one if it beats all earlier last frames.
        rows.append(np.packbits(totals[1:] > best[:-1]))
    chosen: list[int] = []
    end = n
    for row in reversed(rows):
        last = int(np.flatnonzero(np.unpackbits(row, count=n)[:end])[-1])
        chosen.append(last)
        end = int(before[last])
    return np.array(chosen[::-1], dtype=np.int64)


class LocalSearch:
    """Frames without conflict: as many as possible up to k >= 1, and of these the greatest total merit.

    Iterated local search after Andrade, Resende, Werneck: Fast local search for the maximum independent set problem,
    J. Heuristics 2012. The number of conflicts of every frame is kept, so the frames that only one chosen frame keeps
    out are known at once. The paper's random choices are replaced by fixed ones: the same input gives the same frames.
    `row` gives what one frame is in conflict with, itself included, rising; `conflicts` are of some frames with others,
    (f, o); `merits` (n,) are finite.
    """

    def __init__(
        self,
        row: Callable[[int], Positions],
        conflicts: Callable[[Positions, Positions], BoolArray],
        merits: FloatArray,
        k: int,
    ) -> None:
        self._row, self._conflicts, self._merits, self._k = row, conflicts, merits, k
        # What each frame that was ever chosen is in conflict with, rising.
        self._rows: dict[int, Positions] = {}

    def run(self, start: Positions, tries: int = _TRIES) -> Positions:
        """Take what fits of a start, in its order; improve; then force frames in and keep what turns out better.

        Each try forces in the frame that has been out for longest, of these one with few conflicts, of these the best.
        Returns the frames, rising.
        """
        self._chosen: set[int] = set()
        # Number of chosen frames that each frame is in conflict with; a chosen one is with itself.
        self._against = np.zeros(len(self._merits), dtype=np.int32)
        for frame in start.tolist():
            if len(self._chosen) < self._k and not self._against[frame]:
                self._add(frame)
        self._improve()
        best, value = set(self._chosen), self._value()
        last_in = np.zeros(len(self._merits), dtype=np.int64)
        for number in range(1, tries + 1):
            last_in[list(best)] = number
            out = np.flatnonzero(last_in == last_in.min())
            out = out[self._against[out] == self._against[out].min()]
            frame = int(out[self._merits[out].argmax()])
            if frame in best:
                break
            last_in[frame] = number
            self._force(frame)
            self._improve()
            found = self._value()
            if found > (value[0], value[1] + 1e-9):
                best, value = set(self._chosen), found
            else:
                self._restore(best)
        return np.array(sorted(best), dtype=np.int64)

    def _value(self) -> tuple[int, float]:
        """Number and total merit of the chosen frames."""
        return len(self._chosen), float(self._merits[sorted(self._chosen)].sum())

    def _add(self, frame: int) -> None:
        if frame not in self._rows:
            self._rows[frame] = self._row(frame)
        self._chosen.add(frame)
        self._against[self._rows[frame]] += 1

    def _remove(self, frame: int) -> None:
        self._chosen.remove(frame)
        self._against[self._rows[frame]] -= 1

    def _restore(self, frames: set[int]) -> None:
        """Make these the chosen frames."""
        for frame in self._chosen - frames:
            self._remove(frame)
        for frame in frames - self._chosen:
            self._add(frame)

    def _force(self, frame: int) -> None:
        """Add a frame and remove those it is in conflict with, or the worst one if there is none and k are chosen."""
        self._add(frame)
        others = self._chosen - {frame}
        against = others.intersection(self._rows[frame].tolist())
        if not against and len(others) == self._k:
            against = {min(others, key=lambda other: (self._merits[other], -other))}
        for other in against:
            self._remove(other)

    def _improve(self) -> None:
        """Fill up to k frames, and exchange until no exchange helps."""
        self._add_free()
        while len(self._chosen) < self._k and self._exchange_for_two():
            self._add_free()
        while self._exchange_for_better():
            pass

    def _add_free(self) -> None:
        """Add the best frame without conflict, earliest first among equals, until k."""
        while len(self._chosen) < self._k and (best := self._best_free()) is not None:
            self._add(best)

    def _best_free(self) -> int | None:
        """The best frame that is in conflict with none that is chosen, the earliest of equal ones."""
        worth = np.where(self._against == 0, self._merits, -np.inf)
        best = int(worth.argmax())
        return best if worth[best] > -np.inf else None

    def _exchange_for_two(self) -> bool:
        """Replace one frame by two that it alone keeps out, the least merit first; return whether there are such."""
        for frame in sorted(self._chosen, key=lambda chosen: (self._merits[chosen], chosen)):
            held = self._held(frame)
            ordered = held[np.argsort(-self._merits[held], kind="stable")]
            # The ends in time are the likeliest to leave room for another.
            ones = np.append([held[0], held[-1]], ordered[:_PAIR_TRIES])
            pairs = ~self._conflicts(ones, ordered) & (ordered != frame) & (ones != frame)[:, None]
            if pairs.any():
                one = int(pairs.any(axis=1).argmax())
                self._remove(frame)
                self._add(int(ones[one]))
                self._add(int(ordered[pairs[one].argmax()]))
                return True
        return False

    def _exchange_for_better(self) -> bool:
        """Replace frames by others of more merit, or as much and earlier; return whether any was replaced."""
        changed = False
        full = len(self._chosen) == self._k
        free = self._best_free() if full else None
        for frame in sorted(self._chosen):
            held = self._held(frame)
            best = int(held[self._merits[held].argmax()])
            if free is not None and (self._merits[free], -free) > (self._merits[best], -best):
                best = free
            if (self._merits[best], -best) > (self._merits[frame], -frame):
                self._remove(frame)
                self._add(best)
                free = self._best_free() if full else None
                changed = True
        return changed

    def _held(self, frame: int) -> Positions:
        """The frames that a chosen one alone keeps out, itself included, rising."""
        row = self._rows[frame]
        return row[self._against[row] == 1]


def choose(
    candidates: Candidates, merits: FloatArray, k: int, limits: Limits, among: Positions, moments: bool = False
) -> Positions:
    """The k frames (of `among`, rising) with the greatest total merit that the limits allow; see the top of this file.

    The number comes before the total. Merits (n,) are finite and may be negative. With `moments`, several moments of
    one scene may be chosen if something has changed between them. Returns rising positions in the candidates: k, or as
    many as were found.
    """
    worth = merits[among]
    conflicts = Conflicts(candidates, limits, among, moments)
    spaced = best_apart(worth, conflicts.seconds, k, limits.min_distance)
    if conflicts.between(spaced, spaced).sum() == len(spaced):
        return among[spaced]
    row: Callable[[int], Positions] = conflicts.row
    between: Callable[[Positions, Positions], BoolArray] = conflicts.between
    tries = _FEWER_TRIES
    if len(among) <= _MOST_AT_ONCE:
        table = np.zeros((len(among), len(among)), dtype=bool)
        for frame in range(len(among)):
            table[frame, frame:] = conflicts.between(np.array([frame]), slice(frame, None))[0]
        table |= table.T
        row, between, tries = lambda one: np.flatnonzero(table[one]), lambda ones, rest: table[ones][:, rest], _TRIES
    # By merit from nothing; what fits of the best for the distance alone; in order of time.
    starts = spaced[:0], spaced[np.argsort(-worth[spaced], kind="stable")], np.arange(len(among))
    search = LocalSearch(row, between, worth, k)
    found = [search.run(start, tries) for start in starts]
    return among[max(found, key=lambda chosen: (len(chosen), worth[chosen].sum()))]


def knapsack(values: FloatArray, weights: IntArray, capacity: int) -> BoolArray:
    """Choose the items of the greatest value whose weights fit, exactly (0/1 knapsack): bool (n,).

    Dynamic programming over integer weights: O(n capacity) steps; n (capacity + 1) / 8 bytes for the choices (one bit
    each) and three rows of capacity + 1 floats. `values` (n,) are finite; `weights` (n,) and `capacity`, the most that
    the chosen ones may sum to, are integers and not negative.

    Ties: going from the last item to the first, an item is taken only if every best choice needs it. So of sets of
    equal value the one with the earlier items is taken, and an item of value 0 or less never; the public
    implementations of the keyshot protocol break ties in the same way. Values are added in float64 in item order.
    """
    if values.ndim != 1 or values.shape != weights.shape:
        raise ValueError(f"values and weights must be (n,), not {values.shape} and {weights.shape}")
    if not np.isfinite(values).all():
        raise ValueError("values must be finite")
    if not np.issubdtype(weights.dtype, np.integer) or (weights < 0).any():
        raise ValueError("weights must be integers that are not negative")
    if capacity != int(capacity) or capacity < 0:
        raise ValueError(f"capacity must be an integer that is not negative, not {capacity}")
    room = min(int(capacity), int(weights.sum(dtype=np.int64)))
    # best[w]: the greatest value of the items so far within weight w; taken[i]: for which w item i is among them.
    best, better = np.zeros(room + 1), np.zeros(room + 1, dtype=bool)
    taken = np.zeros((len(values), room // 8 + 1), dtype=np.uint8)
    left = weights.sum(dtype=np.int64)
    for item, (value, weight) in enumerate(zip(values.astype(np.float64), weights.tolist(), strict=True)):
        left -= weight
        # What is below this leaves more room than all later items need.
        first = max(weight, room - int(left))
        if first > room:
            continue
        with_item = best[first - weight : room + 1 - weight] + value
        better[:first] = False
        np.greater(with_item, best[first:], out=better[first:])
        taken[item] = np.packbits(better)
        np.maximum(with_item, best[first:], out=best[first:])
    chosen = np.zeros(len(values), dtype=bool)
    for item in range(len(values) - 1, -1, -1):
        if taken[item, room >> 3] >> (7 - (room & 7)) & 1:
            chosen[item] = True
            room -= int(weights[item])
    return chosen
