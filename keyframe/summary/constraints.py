"""What selection chooses from, and what it returns.

Frames far enough apart in time: the best k of them, exactly.

A large independent set of great merit, by greedy choice and exchanges.

The best independent set of a small graph of conflicts, by integer programming.

The best k frames that are far enough apart in time and do not look alike.

Distance in time alone is a problem on a line, and solved exactly. Likeness makes it the search for a largest
independent set of a graph of conflicts, which is NP-hard in general; but like frames of a video come in clusters, and
then it is easy. What is guaranteed:

- no two frames that are returned break a limit, and no frame could be added within k;
- where the best choice for the distance alone has no two frames alike, it is the best of all;
- up to `exact.MOST_FRAMES` frames whose conflicts fall into few cliques, the number is the greatest that is possible
  (k whenever k frames fit), and the total merit the greatest to the solver's tolerance;
- beyond that it is a local search: the number can be less than the greatest, but exchanges of one frame for two have
  been tried.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from keyframe.summary.describe import GRID, PatchChanges, Thumbnails
from keyframe.summary.shots import check_shots
from keyframe.types import FloatArray, IntArray, KeyframeError

Positions = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    """The frames of one video that may become keyframes, one row each, in order of time.

    Attributes:
        scores: importance in [0, 1], (n,), n >= 1.
        seconds: when each is shown, from the start of the video, in [0, duration], not decreasing, (n,).
        descriptors: rows of length 1 whose product is the similarity of two frames as a whole, (n, d).
        thumbnails: what each shows where, uint8 (n, GRID, GRID, 3), as `keyframe.summary.describe.thumbnails` gives it.
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


# Seconds by which frames may be too close: timestamps are rounded.
SLACK = 1e-6


def apart(seconds: FloatArray, others: FloatArray, min_distance: float) -> np.ndarray:
    """Whether times are at least `min_distance` seconds from others, by broadcasting."""
    return np.abs(seconds - others) >= min_distance - SLACK


def best_apart(merits: FloatArray, seconds: FloatArray, k: int, min_distance: float) -> Positions:
    """The k frames with the greatest total merit of which no two are closer than `min_distance`; exact.

    Dynamic programming over time, one row a keyframe (weighted interval scheduling with a cardinality: Kleinberg and
    Tardos, Algorithm Design, 6.1): O(n k) steps, n k / 8 bytes. Merits may be negative; the number comes first. Of
    equal totals the one that needs no later frame is taken.

    Args:
        merits: what each frame is worth, finite, (n,), n >= 1.
        seconds: when each is shown, not decreasing, (n,).
        k: how many, >= 1.
        min_distance: seconds, >= 0.

    Returns:
        Positions, rising: k of them, or as many as fit at most.
    """
    n = len(merits)
    # How many frames are early enough to come before each.
    before = np.minimum(np.searchsorted(seconds, seconds - (min_distance - SLACK), side="right"), np.arange(n))
    # best[i]: the greatest total of a row's number of frames out of the first i.
    best = np.zeros(n + 1)
    rows = []
    for _ in range(min(k, n)):
        totals = np.append(-np.inf, merits + best[before])
        best = np.maximum.accumulate(totals)
        if best[-1] == -np.inf:
            break
        # A frame is of use where it beats all earlier last frames.
        rows.append(np.packbits(totals[1:] > best[:-1]))
    chosen: list[int] = []
    end = n
    for row in reversed(rows):
        last = int(np.flatnonzero(np.unpackbits(row, count=n)[:end])[-1])
        chosen.append(last)
        end = int(before[last])
    return np.array(chosen[::-1], dtype=np.int64)


# Frames of a group that are tried as the one half of a pair.
_TRIES = 32


class LocalSearch:
    """Frames without conflict, improved by exchanges until none helps.

    After Andrade, Resende, Werneck: Fast local search for the maximum independent set problem, J. Heuristics 2012:
    with the number of conflicts of every frame kept, the frames that stand against one chosen frame only are at hand.
    """

    def __init__(self, conflicts: Callable[[Positions, Positions | slice], Mask], merits: FloatArray, k: int) -> None:
        """Search up to k frames.

        Args:
            conflicts: of some frames with others, (f, o), each with itself included.
            merits: what each frame is worth, finite, (n,).
            k: the most to take, >= 1.
        """
        self._conflicts, self._merits, self._k = conflicts, merits, k
        self._rows: dict[int, Mask] = {}
        # With how many chosen frames each frame is in conflict; a chosen one with itself.
        self._against = np.zeros(len(merits), dtype=np.int32)

    def run(self, start: Positions) -> Positions:
        """Take what fits of a start, in its order, fill up to k, and exchange while it helps.

        Returns:
            The frames, rising.
        """
        for frame in start.tolist():
            if len(self._rows) < self._k and not self._against[frame]:
                self._add(frame)
        self._fill()
        while len(self._rows) < self._k and self._exchange_for_two():
            self._fill()
        while self._exchange_for_better():
            pass
        return np.array(sorted(self._rows), dtype=np.int64)

    def _add(self, frame: int) -> None:
        self._rows[frame] = self._conflicts(np.array([frame]), slice(None))[0]
        self._against += self._rows[frame]

    def _remove(self, frame: int) -> None:
        self._against -= self._rows.pop(frame)

    def _fill(self) -> None:
        """Add the best frame that is free, earliest first among equals, until k."""
        while len(self._rows) < self._k:
            worth = np.where(self._against == 0, self._merits, -np.inf)
            best = int(worth.argmax())
            if worth[best] == -np.inf:
                return
            self._add(best)

    def _held_by(self, frame: int) -> Positions:
        """The frames that this chosen one alone keeps out, and itself, rising."""
        return np.flatnonzero((self._against == 1) & self._rows[frame])

    def _exchange_for_two(self) -> bool:
        """Replace one frame by two that it alone keeps out, the least worth first; whether there are such."""
        for frame in sorted(self._rows, key=lambda chosen: (self._merits[chosen], chosen)):
            held = self._held_by(frame)
            ordered = held[np.argsort(-self._merits[held], kind="stable")]
            # The ends in time are the likeliest to leave room for another.
            ones = np.append([held[0], held[-1]], ordered[:_TRIES])
            pairs = ~self._conflicts(ones, ordered) & (ordered != frame) & (ones != frame)[:, None]
            if pairs.any():
                one = int(pairs.any(axis=1).argmax())
                self._remove(frame)
                self._add(int(ones[one]))
                self._add(int(ordered[pairs[one].argmax()]))
                return True
        return False

    def _exchange_for_better(self) -> bool:
        """Replace frames by others of more merit, or as much and earlier; whether there was one."""
        changed = False
        for frame in list(self._rows):
            within_reach = (self._against == 1) & self._rows[frame]
            if len(self._rows) == self._k:
                within_reach |= self._against == 0
            best = int(np.where(within_reach, self._merits, -np.inf).argmax())
            if (self._merits[best], -best) > (self._merits[frame], -frame):
                self._remove(frame)
                self._add(best)
                changed = True
        return changed


# Above either, it is not tried: the linear programmes would take seconds.
MOST_FRAMES = 1000
_MOST_CLIQUES = 1000

# Nodes of branch and bound; a number, and no time, so that the result is the same on every machine.
_NODES = 200


def best_independent(graph: Callable[[], Mask], merits: FloatArray, k: int) -> Positions | None:
    """Up to k nodes without a conflict: the most there can be, and of these the greatest total merit.

    Two integer programmes by HiGHS. Conflicts become cliques of which one node is chosen at most: for frames that
    come in clusters and for near times these are few, and the programme's linear relaxation is (nearly) integral.

    Args:
        graph: makes the conflicts, symmetric, (n, n); called only where n allows it.
        merits: what each node is worth, finite, (n,).
        k: the most to choose, >= 1.

    Returns:
        Positions, rising; None where the graph is too large or too irregular, or no proof was found in time.
    """
    n = len(merits)
    if n > MOST_FRAMES:
        return None
    cliques = _cliques(graph())
    if cliques is None:
        return None
    rows = np.repeat(np.arange(len(cliques)), [len(clique) for clique in cliques])
    apart = csr_array((np.ones(len(rows)), (rows, np.concatenate(cliques))), shape=(len(cliques), n))
    most = _solve(np.ones(n), apart, 0, k)
    return None if most is None else _solve(merits, apart, len(most), len(most))


def _solve(values: FloatArray, apart: csr_array, least: int, most: int) -> Positions | None:
    """The set of least ... most nodes, one of each row of `apart`, with the greatest total."""
    n = len(values)
    result = milp(
        -values,
        integrality=np.ones(n, dtype=np.int64),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(apart, -np.inf, 1), LinearConstraint(np.ones((1, n)), least, most)],
        options={"node_limit": _NODES, "mip_rel_gap": 0},
    )
    return np.flatnonzero(result.x > 0.5) if result.status == 0 else None


def _cliques(graph: Mask) -> list[Positions] | None:
    """Cliques that hold every edge, each grown greedily from an edge that is not yet held; None if too many."""
    left = np.triu(graph)
    cliques: list[Positions] = []
    for node in range(len(graph)):
        while left[node].any():
            members, common = [node], graph[node]
            while common.any():
                # Edges not yet held come first.
                new = common & left[node]
                member = int((new if new.any() else common).argmax())
                members.append(member)
                common = common & graph[member]
            clique = np.sort(np.array(members, dtype=np.int64))
            left[np.ix_(clique, clique)] = False
            cliques.append(clique)
            if len(cliques) > _MOST_CLIQUES:
                return None
    return cliques


# Rounding of the product of two float32 rows of length 1.
_SLACK = 1e-6


def check_count(name: str, count: int) -> None:
    """Refuse a number of keyframes that is none.

    Raises:
        KeyframeError: if it is no whole number from 1 on.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise KeyframeError(f"selection.{name} must be a whole number from 1 on, not {count!r}.")


def check_number(name: str, value: float, least: float, most: float = np.inf) -> None:
    """Refuse a number outside its range, both ends allowed.

    Raises:
        KeyframeError: if it is no finite number between them.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not np.isfinite(value) or not least <= value <= most:
        wanted = f"from {least:g} on" if most == np.inf else f"from {least:g} to {most:g}"
        raise KeyframeError(f"selection.{name} must be a number {wanted}, not {value!r}.")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What two keyframes of one video must not be, whatever chooses them.

    Attributes:
        min_distance: seconds between two keyframes at least, >= 0.
        max_similarity: how alike they may be at most, in [-1, 1]; 1 sets no limit. Two frames are as alike as their
            descriptors' product says. With the project's descriptor, 82 % of pairs of one shot and 1.7 % of pairs from
            different shots are above .98 (88 % and 5.7 % above .95; measured on real clips). Where moments of one
            scene are wanted, it is the share of the picture that has not changed (see `keyframe.summary.describe`), if
            that is less: at .98 a fiftieth of the picture makes another moment.

    Raises:
        KeyframeError: if an attribute is outside its range.
    """

    min_distance: float = 1.0
    max_similarity: float = 0.98

    def __post_init__(self) -> None:
        check_number("min_distance", self.min_distance, 0)
        check_number("max_similarity", self.max_similarity, -1, 1)


@dataclass(frozen=True)
class Conflicts:
    """Which frames must not be kept together.

    Attributes:
        limits: what two of them must not be.
        seconds: when each is shown, not decreasing, (n,).
        descriptors: rows of length 1, (n, d).
        changes: between them; None where frames that look alike as a whole are duplicates, whatever moves in them.
    """

    limits: Limits
    seconds: FloatArray
    descriptors: FloatArray
    changes: PatchChanges | None = None

    @classmethod
    def of(cls, candidates: Candidates, limits: Limits, among: Positions, moments: bool = False) -> "Conflicts":
        """Of some candidates; with `moments` only frames are duplicates in which nothing has changed."""
        changes = PatchChanges(candidates.thumbnails[among]) if moments else None
        return cls(limits, candidates.seconds[among], candidates.descriptors[among], changes)

    def between(self, frames: Positions, others: Positions | slice = slice(None)) -> Mask:
        """Whether frames must not be kept together with others (all by default), (f, o); each with itself."""
        every = np.arange(len(self.seconds))
        near = ~apart(self.seconds[frames, None], self.seconds[others], self.limits.min_distance)
        near |= every[frames, None] == every[others]
        like = self.descriptors[frames] @ self.descriptors[others].T > self.limits.max_similarity + _SLACK
        if self.changes is not None:
            like &= ~near  # of these there is nothing more to find out
            for frame, row in zip(frames.tolist(), like, strict=True):
                same = 1 - self.changes.between(frame, every[others][row])
                row[row] = same > self.limits.max_similarity + _SLACK
        return like | near

    def graph(self, frames: Positions) -> Mask:
        """Which of some frames must not be kept together, symmetric, (f, f); none with itself."""
        result = self.between(frames, frames)
        np.fill_diagonal(result, False)
        return result | result.T


def choose(
    candidates: Candidates, merits: FloatArray, k: int, limits: Limits, among: Positions, moments: bool = False
) -> Positions:
    """The k frames with the greatest total merit that the limits allow; see the top of this file.

    The number comes first, then the total.

    Args:
        candidates: the video's, n.
        merits: what each candidate is worth, finite, may be negative, (n,).
        k: how many, >= 1.
        limits: what two of them must not be.
        among: which candidates may be chosen, rising, (a,), a >= 1.
        moments: whether several moments of one scene may be chosen, where something has changed between them.

    Returns:
        Positions in candidates, rising: k of them, or as many as were found.
    """
    worth = merits[among]
    conflicts = Conflicts.of(candidates, limits, among, moments)
    spaced = best_apart(worth, conflicts.seconds, k, limits.min_distance)
    if not conflicts.graph(spaced).any():
        return among[spaced]
    exact = best_independent(lambda: conflicts.graph(np.arange(len(among))), worth, len(spaced))
    if exact is not None:
        # The solver's tolerance, and equal merits, leave a little to exchange.
        return among[LocalSearch(conflicts.between, worth, k).run(exact)]
    # From nothing: by merit. In order of time: many, where looks change slowly.
    starts = (spaced[:0], spaced[np.argsort(-worth[spaced], kind="stable")], np.arange(len(among)))
    found: list[Positions] = []
    for start in starts:
        found.append(LocalSearch(conflicts.between, worth, k).run(start))
        if len(found[-1]) == len(spaced):
            break
    return among[max(found, key=lambda chosen: (len(chosen), worth[chosen].sum()))]
