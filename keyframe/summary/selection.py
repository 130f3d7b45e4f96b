"""The exact 0/1 knapsack, which keyshot summaries are chosen by.

Which frames nobody wants as a still: black, flat and blurred ones.

As few frames as show what matters of a video.

Four ways to choose keyframes, under the same limits.

Two limits are hard (`Limits`): keyframes are `min_distance` apart and no more alike than `max_similarity`. Two wishes
are soft. Frames that look alike as a whole, several moments of one scene, are taken only to reach a number that the
user asked for (and by `UniformSelection`, which goes by time). Blurred, black and flat frames (`faults`) are passed
over while a better frame is left, such a moment say, and taken only to reach that number, or where the video has
nothing else. There is always one keyframe. Nothing is random.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from keyframe.summary.constraints import (
    Candidates,
    Conflicts,
    Limits,
    Mask,
    Positions,
    Selection,
    check_count,
    check_number,
    choose,
)
from keyframe.types import FloatArray, IntArray


def knapsack(values: FloatArray, weights: IntArray, capacity: int) -> npt.NDArray[np.bool_]:
    """Choose the items of the greatest value whose weights fit, exactly (0/1 knapsack).

    Dynamic programming over integer weights: O(n capacity) steps; n (capacity + 1) / 8 bytes for the choices (one bit
    each) and three rows of capacity + 1 floats.

    Ties: going from the last item to the first, an item is taken only where every best choice needs it. So of sets of
    equal value the one with the earlier items is taken, and an item without value never; the public implementations
    of the keyshot protocol break ties in the same way. Values are added in float64 in item order.

    Args:
        values: what each item is worth, (n,), finite; an item worth nothing or less is left out.
        weights: integers, (n,), not negative.
        capacity: the most the chosen weights may sum to, not negative.

    Returns:
        Whether each item is chosen, (n,).

    Raises:
        ValueError: if the arrays do not fit each other, a value is not finite, or a weight or the capacity is negative
            or no integer.
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
    best = np.zeros(room + 1)
    taken = np.zeros((len(values), room // 8 + 1), dtype=np.uint8)
    for item, (value, weight) in enumerate(zip(values.astype(np.float64), weights.tolist(), strict=True)):
        if weight > room:
            continue
        with_item = best[: room + 1 - weight] + value
        better = with_item > best[weight:]
        taken[item] = np.packbits(np.append(np.zeros(weight, dtype=bool), better))
        best[weight:] = np.where(better, with_item, best[weight:])
    chosen = np.zeros(len(values), dtype=bool)
    for item in range(len(values) - 1, -1, -1):
        if taken[item, room >> 3] >> (7 - (room & 7)) & 1:
            chosen[item] = True
            room -= int(weights[item])
    return chosen


# Mean luma of 5 of 255, of which a screen shows nothing. Night and space have more (3 to 6 % in real clips), and what a
# real clip has of black or faded frames is mostly flat as well.
BLACK = 5 / 255

# Standard deviation of luma of 8 of 255: a plain colour, a white flash or thick fog, noise of the camera included.
FLAT = 8 / 255

# Share of the median sharpness of its own shot under which a frame counts as blurred. Sharpness depends on what is
# filmed (sky or foliage), so it is compared within a shot: there it falls where the camera or the subject moves.
BLURRED = 0.3

# The same against the whole video, for a shot that is out of focus all through; lower, because shots differ.
BLURRED_IN_VIDEO = 0.1

ACCEPTABLE, IS_BLURRED, IS_BLANK = 0, 1, 2


def faults(candidates: Candidates) -> Positions:
    """How unfit each candidate is as a still, (n,): 0 fit, 1 blurred, 2 black or flat.

    Sharpness has no unit that holds from video to video, so blurred is relative to medians, of shot and video, over
    what is neither black nor flat.
    """
    blank = (candidates.brightness < BLACK) | (candidates.contrast < FLAT)
    result = np.full(len(candidates), IS_BLANK, dtype=np.int64)
    seen = np.flatnonzero(~blank)
    if len(seen):
        sharpness = candidates.sharpness[seen]
        limit = np.maximum(
            BLURRED * _medians(sharpness, candidates.shot_of[seen]), BLURRED_IN_VIDEO * np.median(sharpness)
        )
        result[seen] = np.where(sharpness < limit, IS_BLURRED, ACCEPTABLE)
    return result


def _medians(values: npt.NDArray[np.floating], groups: Positions) -> npt.NDArray[np.float64]:
    """For each value the median of its group; groups do not decrease."""
    ordered = values[np.lexsort((values, groups))].astype(np.float64)
    _, first, group, counts = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    return (0.5 * (ordered[first + (counts - 1) // 2] + ordered[first + counts // 2]))[group]


# Frames that may be chosen, and parts of the video that are to be shown: bounds of the table between them.
_MOST_CHOICES = 1024
_MOST_PARTS = 2048

# A choice within this share of the greatest gain is as good, and the best-scoring of them is taken.
_NEARLY = 0.9


def cover(
    candidates: Candidates, faulty: Positions, coverage: float, most: int, limits: Limits
) -> tuple[Positions, float]:
    """Add frames greedily until together they show enough.

    Maximised is facility location (Lin, Bilmes: Learning mixtures of submodular shells with application to document
    summarization, UAI 2012; for video: Gygli, Grabner, Van Gool: Video summarization by learning submodular mixtures
    of objectives, CVPR 2015)

        F(S) = sum over frames v of length(v) * score(v) * max over s in S of likeness(v, s).

    It is submodular, and to stop at a share of what all choices together reach is the greedy rule for submodular cover
    (Wolsey, Combinatorica 1982), whose number is within a logarithmic factor of the least. Taking a choice within .9
    of the greatest gain keeps such a bound (Goundan, Schulz: Revisiting the greedy approach to submodular set function
    maximization, 2007).

    likeness is 1 where two frames are as alike as keyframes must not be, 0 where their distance (1 - product) is
    twice that, and linear in between: so frames of one steady shot are shown by any of them.

    Choices are the best-scoring acceptable frames of pieces of the video: shots, long ones cut evenly. Faulty frames
    need not be shown. Scores that are all 0 count as equal.

    Args:
        candidates: the video's.
        faulty: 0 where a candidate is an acceptable still, (n,).
        coverage: the share of what all choices together show that is enough, in [0, 1].
        most: the most frames to choose, >= 1.
        limits: what two of them must not be.

    Returns:
        Positions in candidates, rising: at least one, though all be faulty; and the share that they show, in [0, 1].
    """
    fit = faulty == ACCEPTABLE
    if not fit.any():
        fit = faulty == faulty.min()
    weights = candidates.lengths * candidates.scores * fit
    if not weights.any():
        weights = fit.astype(np.float64)
    choices = _choices(candidates, fit, weights, limits.min_distance)
    parts = np.unique(np.linspace(0, len(candidates) - 1, min(len(candidates), _MOST_PARTS)).round().astype(np.int64))
    weights = np.add.reduceat(weights, parts).astype(np.float32)
    alike = candidates.descriptors[parts] @ candidates.descriptors[choices].T
    tolerance = max(1 - limits.max_similarity, 1e-6)
    likeness = np.clip(2 - (1 - alike) / tolerance, 0, 1).astype(np.float32)

    conflicts = Conflicts.of(candidates, limits, choices)
    scores = candidates.scores[choices]
    whole = weights @ likeness.max(axis=1)
    shown = np.zeros(len(parts), dtype=likeness.dtype)
    free = np.ones(len(choices), dtype=bool)
    chosen: list[int] = []
    more = np.empty_like(likeness)
    while free.any() and len(chosen) < most and (not chosen or weights @ shown < coverage * whole):
        np.subtract(likeness, shown[:, None], out=more)
        gains = np.where(free, weights @ np.maximum(more, 0, out=more), -1.0)
        best = int(np.where(gains >= _NEARLY * gains.max(), scores, -1.0).argmax())
        chosen.append(best)
        shown = np.maximum(shown, likeness[:, best])
        free &= ~conflicts.between(np.array([best]))[0]
    return np.sort(choices[chosen]), float(weights @ shown / whole) if whole else 1.0


def _choices(candidates: Candidates, fit: np.ndarray, weights: np.ndarray, min_length: float) -> Positions:
    """The best-scoring fit frame of each piece of the video, rising; of too many pieces those that weigh most."""
    shot = candidates.shot_of
    length = max(min_length, candidates.duration / _MOST_CHOICES, 1e-9)
    since = candidates.seconds - candidates.seconds[candidates.shots[shot, 0]]
    pieces = np.stack([shot, (since / length).astype(np.int64)], axis=1)
    piece = np.cumsum(np.append(0, np.diff(pieces, axis=0).any(axis=1)))
    frames = np.flatnonzero(fit)
    # By piece, then score, then time: the first of each piece is its choice.
    ordered = frames[np.lexsort((frames, -candidates.scores[frames], piece[frames]))]
    best = ordered[np.unique(piece[ordered], return_index=True)[1]]
    if len(best) > _MOST_CHOICES:
        heaviest = np.argsort(-np.bincount(piece, weights)[piece[best]], kind="stable")
        best = best[heaviest[:_MOST_CHOICES]]
    return np.sort(best)


# Parts of a video's length that the knapsack counts in: 1 is less than a frame of half an hour.
_PARTS = 50_000


@dataclass(frozen=True, kw_only=True)
class TopSelection(Limits):
    """The frames with the greatest total score.

    Attributes:
        k: how many exactly; None lets the length of the video decide.
        per_minute: keyframes a minute where k is None, >= 0. The default, one every 15 s, gives
            clips of minutes what a person takes in at a glance.
        most: the most where k is None: a contact sheet, however long the video.

    Raises:
        KeyframeError: if an attribute is outside its range.
    """

    k: int | None = None
    per_minute: float = 4.0
    most: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k is not None:
            check_count("k", self.k)
        check_number("per_minute", self.per_minute, 0)
        check_count("most", self.most)

    def __call__(self, candidates: Candidates) -> Selection:
        """Choose; with k = None max(1, round(per_minute * minutes)), but no more than `most`."""
        by_length = min(self.most, max(1, round(self.per_minute * candidates.duration / 60)))
        wanted = by_length if self.k is None else self.k
        chosen = _fill(candidates, candidates.scores, self.k, wanted, self)
        return _selection(candidates, chosen, self.k, self)


@dataclass(frozen=True, kw_only=True)
class KnapsackSelection(Limits):
    """The field's summary, whole shots of the greatest value in a share of the video, and a still from each.

    Shots are worth the mean score of their frames and weigh their length; the choice is exact. `shots_kept` is this
    choice, whatever k is.

    Attributes:
        ratio: the greatest share of the video's length that the shots may take, in [0, 1].
        k: how many keyframes exactly: fewer than shots keeps those of the best shots, more are filled up with the best
            of all frames; None gives one a kept shot that has one.

    Raises:
        KeyframeError: if an attribute is outside its range.
    """

    ratio: float = 0.15
    k: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("ratio", self.ratio, 0, 1)
        if self.k is not None:
            check_count("k", self.k)

    def __call__(self, candidates: Candidates) -> Selection:
        """Choose; where no shot is short enough, the keyframe is the best frame of all."""
        starts, lengths = candidates.shots[:, 0], candidates.lengths
        seconds = np.add.reduceat(lengths, starts)
        counts = np.diff(starts, append=len(candidates))
        values = np.add.reduceat(candidates.scores.astype(np.float64), starts) / counts
        # Weights are rounded up and so never exceed the share; what is whole but for rounding errors stays.
        unit = max(candidates.duration, 1e-9) / _PARTS
        weights = np.ceil(seconds / unit - 1e-6).astype(np.int64)
        kept = knapsack(values, weights, int(self.ratio * _PARTS + 1e-6))
        shots = np.flatnonzero(kept)
        best_first = shots[np.argsort(-values[shots], kind="stable")]
        groups = [np.arange(first, last + 1) for first, last in candidates.shots[best_first]]
        chosen = _one_of_each(candidates, groups, candidates.scores, self.k or len(groups), self)
        if self.k is None:
            chosen = chosen if len(chosen) else _fill(candidates, candidates.scores, None, 1, self)
        else:
            chosen = _fill(candidates, candidates.scores, self.k, self.k, self, chosen)
        notes = () if kept.any() else (f"no shot that scores is as short as {self.ratio:.0%} of the video",)
        return _selection(candidates, chosen, self.k, self, kept, notes)


@dataclass(frozen=True, kw_only=True)
class UniformSelection(Limits):
    """Evenly spaced frames, whatever their score: the baseline every other choice has to beat.

    Attributes:
        k: how many exactly.

    Raises:
        KeyframeError: if an attribute is outside its range.
    """

    k: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("k", self.k)

    def __call__(self, candidates: Candidates) -> Selection:
        """Choose from each of k equal spans the frame nearest to its middle that the limits allow.

        Spans that have none are made up for by the frames nearest to the middle of any span.
        """
        step = max(candidates.duration, 1e-9) / self.k
        span = np.minimum((candidates.seconds / step).astype(np.int64), self.k - 1)
        nearness = 1 - np.abs(candidates.seconds / step - span - 0.5).clip(0, 0.5) * 2
        groups = [np.flatnonzero(span == number) for number in np.unique(span)]
        chosen = _one_of_each(candidates, groups, nearness, self.k, self, moments=True)
        return _selection(candidates, _fill(candidates, nearness, self.k, self.k, self, chosen), self.k, self)


@dataclass(frozen=True, kw_only=True)
class AdaptiveSelection(Limits):
    """As many frames as it takes to show what matters: one for a static video, more where shots and content change.

    Frames are added, greedily, until together they stand for a share of the video, weighted by score; see `cover`.

    Attributes:
        coverage: the share at which enough is shown, in [0, 1].
        most: the most keyframes.

    Raises:
        KeyframeError: if an attribute is outside its range.
    """

    coverage: float = 0.9
    most: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("coverage", self.coverage, 0, 1)
        check_count("most", self.most)

    def __call__(self, candidates: Candidates) -> Selection:
        """Choose; the number follows from the video."""
        chosen, shown = cover(candidates, faults(candidates), self.coverage, self.most, self)
        notes: tuple[str, ...] = ()
        if shown < self.coverage and len(chosen) == self.most:
            notes = (
                f"stopped at selection.most={self.most} keyframes, which show {shown:.0%} of what matters, "
                f"not the {self.coverage:.0%} of selection.coverage",
            )
        return _selection(candidates, chosen, None, self, notes=notes)


def _one_of_each(
    candidates: Candidates,
    groups: list[Positions],
    values: FloatArray,
    most: int,
    limits: Limits,
    moments: bool = False,
) -> Positions:
    """From the first groups the acceptable frame of the greatest value that earlier choices allow; `most` at most."""
    conflicts = Conflicts.of(candidates, limits, np.arange(len(candidates)), moments)
    fit = faults(candidates) == ACCEPTABLE
    chosen: list[int] = []
    for group in groups:
        if len(chosen) == most:
            break
        left = group[fit[group]]
        left = left[~conflicts.between(left, np.array(chosen, dtype=np.int64)).any(axis=1)]
        if len(left):
            chosen.append(int(left[values[left].argmax()]))
    return np.array(sorted(chosen), dtype=np.int64)


def _fill(
    candidates: Candidates,
    values: FloatArray,
    asked: int | None,
    wanted: int,
    limits: Limits,
    preferred: Positions | None = None,
) -> Positions:
    """The `wanted` frames that the limits allow: the fewest faults, then the most preferred, then the greatest values.

    Where nobody asked for a number, faulty frames are no candidates, unless there is nothing else: then it is one.
    Where somebody did and faultless frames that look different are too few, they are preferred, and moments of what
    they show come beside them.
    """
    faulty = faults(candidates)
    among = np.arange(len(candidates))
    if asked is None:
        fit = np.flatnonzero(faulty == ACCEPTABLE)
        among, wanted = (fit, wanted) if len(fit) else (among, 1)
    # Values are at most 1, so a step outweighs those of all keyframes.
    step = min(wanted, len(candidates)) + 1.0
    merits = values.astype(np.float64) - step**2 * faulty
    if preferred is not None:
        merits[preferred] += step
    chosen = choose(candidates, merits, wanted, limits, among)
    faultless = chosen[faulty[chosen] == ACCEPTABLE]
    if asked is None or len(faultless) == wanted:
        return chosen
    if preferred is None:
        merits[faultless] += step
    return choose(candidates, merits, wanted, limits, among, moments=True)


def _selection(
    candidates: Candidates,
    chosen: Positions,
    asked: int | None,
    limits: Limits,
    kept: Mask | None = None,
    notes: tuple[str, ...] = (),
) -> Selection:
    """Rank the keyframes, say what fell short, and keep the shots that hold one unless others are kept."""
    faulty = faults(candidates)[chosen]
    ranks: npt.NDArray[np.int64] = np.empty(len(chosen), dtype=np.int64)
    ranks[np.lexsort((-candidates.scores[chosen], faulty))] = np.arange(1, len(chosen) + 1)
    if asked is not None and len(chosen) < asked:
        notes += (
            f"asked for {asked} keyframes, found {len(chosen)}: "
            f"no more are different and {limits.min_distance:g} s apart",
        )
    if (faulty != ACCEPTABLE).any():
        notes += (f"blurred, black or flat for want of better: {np.count_nonzero(faulty)} of {len(chosen)}",)
    if kept is None:
        kept = np.zeros(len(candidates.shots), dtype=bool)
        kept[candidates.shot_of[chosen]] = True
    return Selection(chosen, ranks, kept, asked, notes)
