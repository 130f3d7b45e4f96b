"""Four ways to select keyframes, under the same limits, and a choice made by hand. Nothing is random.

Two limits are hard (`Limits`). Two wishes are soft: frames that look alike as a whole, several moments of one scene,
are taken only to reach a number that the user asked for (and by `UniformSelection`, which goes by time); blurred, black
and flat frames (`quality_flags`) only to reach that number or if the video has nothing else: there is always one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keyframe.summary.candidates import GOOD, Candidates, Positions, Selection
from keyframe.summary.changes import SAME_FROM
from keyframe.summary.constraints import Conflicts, Limits, choose, knapsack
from keyframe.types import BoolArray, FloatArray, KeyframeError, check_number

# The most frames to choose from, and the most frames to be represented: bounds of the table between them.
_MOST_CHOICES = 1024
_MOST_REPRESENTED = 2048

_NEAR_BEST = 0.9  # choices within this share of the greatest gain count as equal, and the best-scoring of them is taken


def cover(
    candidates: Candidates, coverage: float, most: int, limits: Limits, start: Positions
) -> tuple[Positions, float]:
    """Add frames to those of a start, greedily, until they represent enough of the video.

    Maximised is facility location (Lin, Bilmes: Learning mixtures of submodular shells with application to document
    summarization, UAI 2012; for video: Gygli, Grabner, Van Gool: Video summarization by learning submodular mixtures of
    objectives, CVPR 2015)

        F(S) = sum over frames v of length(v) * score(v) * max over s in S of likeness(v, s).

    It is submodular, and to stop at a share of what all choices together reach is the greedy rule for submodular cover
    (Wolsey, Combinatorica 1982), whose number is within a logarithmic factor of the least. Taking a choice within .9 of
    the greatest gain keeps such a bound (Goundan, Schulz: Revisiting the greedy approach to submodular set function
    maximization, 2007).

    likeness is 1 for two frames that are duplicates, 0 if their distance (1 - product) is twice that limit, and linear
    in between: any frame of a steady shot represents the shot.

    Choices are the best-scoring frames without a quality flag of pieces of the video: shots, long ones cut evenly.
    Flagged frames need not be represented. Scores that are all 0 count as equal.

    `coverage`, in [0, 1], is the share of what all choices together represent that is enough. Returns rising positions,
    at least one and `most` at most, and the share that they represent.
    """
    good = candidates.flags == candidates.flags.min()
    weights = candidates.lengths * candidates.scores * good
    if not weights.any():
        weights = good.astype(np.float64)
    choices = np.union1d(_choices(candidates, good, weights, limits.min_distance), start)
    represented = np.unique(
        np.linspace(0, len(candidates) - 1, min(len(candidates), _MOST_REPRESENTED)).round().astype(np.int64)
    )
    weights = np.add.reduceat(weights, represented).astype(np.float32)
    alike = candidates.descriptors[represented] @ candidates.descriptors[choices].T
    tolerance = max(1 - limits.max_similarity, 1e-6)
    likeness = np.clip(2 - (1 - alike) / tolerance, 0, 1).astype(np.float32)

    conflicts = Conflicts(candidates, limits, choices)
    scores = candidates.scores[choices]
    whole = weights @ likeness.max(axis=1)
    shown = np.zeros(len(represented), dtype=likeness.dtype)
    chosen: list[int] = np.searchsorted(choices, start).tolist()
    if chosen:
        shown = likeness[:, chosen].max(axis=1)
    free = ~conflicts.between(np.array(chosen, dtype=np.int64)).any(axis=0)
    more = np.empty_like(likeness)
    while free.any() and len(chosen) < most and (not chosen or weights @ shown < coverage * whole):
        np.subtract(likeness, shown[:, None], out=more)
        gains = np.where(free, weights @ np.maximum(more, 0, out=more), -1.0)
        best = int(np.where(gains >= _NEAR_BEST * gains.max(), scores, -1.0).argmax())
        chosen.append(best)
        shown = np.maximum(shown, likeness[:, best])
        free &= ~conflicts.between(np.array([best]))[0]
    return np.sort(choices[chosen]), float(weights @ shown / whole) if whole else 1.0


def _choices(candidates: Candidates, good: BoolArray, weights: FloatArray, min_length: float) -> Positions:
    """The best-scoring good frame of each piece of the video, rising; of too many pieces the heaviest."""
    shot = candidates.shot_of
    length = max(min_length, candidates.duration / _MOST_CHOICES, 1e-9)
    since = candidates.seconds - candidates.seconds[candidates.shots[shot, 0]]
    pieces = np.stack([shot, (since / length).astype(np.int64)], axis=1)
    piece = np.cumsum(np.append(0, np.diff(pieces, axis=0).any(axis=1)))
    frames = np.flatnonzero(good)
    # By piece, then score, then time: the first of each piece is its choice.
    ordered = frames[np.lexsort((frames, -candidates.scores[frames], piece[frames]))]
    best = ordered[np.unique(piece[ordered], return_index=True)[1]]
    if len(best) > _MOST_CHOICES:
        heaviest = np.argsort(-np.bincount(piece, weights)[piece[best]], kind="stable")
        best = best[heaviest[:_MOST_CHOICES]]
    return np.sort(best)


_UNITS = 50_000  # the knapsack counts in this fraction of the video's length: less than one frame in half an hour


@dataclass(frozen=True, kw_only=True)
class TopSelection(Limits):
    """The best frame of each shot, then the best of all: exactly `k`, or if None by the length of the video.

    That is `per_minute` keyframes per minute, by default one every 15 s, and `most` at most. Fewer than there are shots
    are of those with the best frames. In still footage each moment (`find_moments`) counts as a shot.
    """

    k: int | None = None
    per_minute: float = 4.0
    most: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("selection.k", self.k, 1, optional=True)
        check_number("selection.per_minute", self.per_minute, 0, whole=False)
        check_number("selection.most", self.most, 1)

    def __call__(self, candidates: Candidates) -> Selection:
        """Select k frames, or by default max(1, round(per_minute * minutes)), `most` at most."""
        by_length = min(self.most, max(1, round(self.per_minute * candidates.duration / 60)))
        wanted = by_length if self.k is None else self.k
        groups = _groups(candidates)
        # Moments look alike as a whole; shots that do have a frame each if there are enough.
        moments = wanted >= len(groups) or len(candidates.moments) > 1
        chosen = _one_of_each(candidates, groups, candidates.scores, wanted, self, moments)
        chosen = _best_frames(candidates, candidates.scores, self.k, wanted, self, chosen)
        return _ranked(candidates, chosen, self.k, self)


@dataclass(frozen=True, kw_only=True)
class KnapsackSelection(Limits):
    """The field's summary: whole shots of the greatest value within a share of the video, and a still from each.

    A shot's value is the mean score of its frames, its weight is its length; the choice is exact. `shots_kept` is this
    choice, whatever k is.
    """

    ratio: float = 0.15  # the greatest share of the video's length that the shots may take, in [0, 1]
    # How many keyframes exactly: fewer than shots takes those of the best shots, more adds the best of all frames; None
    # takes one per kept shot that has a good frame.
    k: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("selection.ratio", self.ratio, 0, 1, whole=False)
        check_number("selection.k", self.k, 1, optional=True)

    def __call__(self, candidates: Candidates) -> Selection:
        """Select; if no shot is short enough, the keyframe is the best frame of all."""
        starts, lengths = candidates.shots[:, 0], candidates.lengths
        seconds = np.add.reduceat(lengths, starts)
        counts = np.diff(starts, append=len(candidates))
        values = np.add.reduceat(candidates.scores.astype(np.float64), starts) / counts
        # Rounded up, so that shots never exceed the share; 1e-6 forgives rounding errors.
        unit = max(candidates.duration, 1e-9) / _UNITS
        weights = np.ceil(seconds / unit - 1e-6).astype(np.int64)
        kept = knapsack(values, weights, int(self.ratio * _UNITS + 1e-6))
        shots = np.flatnonzero(kept)
        best_first = shots[np.argsort(-values[shots], kind="stable")]
        groups = [np.arange(first, last + 1) for first, last in candidates.shots[best_first]]
        chosen = _one_of_each(candidates, groups, candidates.scores, self.k or len(groups), self)
        if self.k is not None or not len(chosen):
            chosen = _best_frames(candidates, candidates.scores, self.k, self.k or 1, self, chosen)
        notes = () if kept.any() else (f"no shot with a score fits within {self.ratio:.0%} of the video",)
        return _ranked(candidates, chosen, self.k, self, kept, notes)


@dataclass(frozen=True, kw_only=True)
class UniformSelection(Limits):
    """Exactly k evenly spaced frames, whatever their score: the baseline for every other selection."""

    k: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("selection.k", self.k, 1)

    def __call__(self, candidates: Candidates) -> Selection:
        """Select from each of k equal spans the frame nearest to its middle that the limits allow.

        Frames nearest to the middle of any span replace those of spans that have none.
        """
        step = max(candidates.duration, 1e-9) / self.k
        span = np.minimum((candidates.seconds / step).astype(np.int64), self.k - 1)
        nearness = 1 - np.abs(candidates.seconds / step - span - 0.5).clip(0, 0.5) * 2
        groups = [np.flatnonzero(span == number) for number in np.unique(span)]
        chosen = _one_of_each(candidates, groups, nearness, self.k, self, moments=True)
        chosen = _best_frames(candidates, nearness, self.k, self.k, self, chosen)
        return _ranked(candidates, chosen, self.k, self)


@dataclass(frozen=True, kw_only=True)
class AdaptiveSelection(Limits):
    """As many frames as it takes to show what matters: one for a static video, more if shots and content change.

    Each moment of still footage (`find_moments`: a slide, a visitor) has one, and then frames are added greedily,
    `most` at most, until they represent a share of the video, `coverage` in [0, 1], weighted by score; see `cover`.
    Moments that are not finished, all but the last step of a slide that builds up, are left out unless `steps`.
    """

    coverage: float = 0.98
    most: int = 50
    steps: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("selection.coverage", self.coverage, 0, 1, whole=False)
        check_number("selection.most", self.most, 1)
        if not isinstance(self.steps, bool):
            raise KeyframeError(f"selection.steps must be true or false, not {self.steps!r}: use one of them.")

    def __call__(self, candidates: Candidates) -> Selection:
        """Select; the number follows from the video."""
        moments = [moment.frames for moment in candidates.moments if moment.finished or self.steps]
        moments.sort(key=lambda frames: float(-candidates.scores[frames].max()))
        chosen = _one_of_each(candidates, moments, candidates.scores, self.most, self, moments=True)
        left_out = len(moments) - len(chosen) if len(chosen) == self.most else 0
        chosen, shown = cover(candidates, self.coverage, self.most, self, chosen)
        notes: tuple[str, ...] = ()
        if left_out:
            notes = (f"selection.most={self.most} keyframes leave out {left_out} of {len(moments)} moments",)
        elif shown < self.coverage and len(chosen) == self.most:
            notes = (
                f"selection.most={self.most} keyframes show {shown:.0%} of what matters, "
                f"less than selection.coverage={self.coverage:.0%}",
            )
        return _ranked(candidates, chosen, None, self, notes=notes)


@dataclass(frozen=True, kw_only=True)
class TimesSelection:
    """The frames at times that you name, whatever their score: a choice made by hand."""

    seconds: Sequence[float]  # from the first frame that is looked at; of each the nearest candidate is taken

    def __post_init__(self) -> None:
        seconds = (self.seconds,) if isinstance(self.seconds, int | float) else tuple(self.seconds or ())
        if not seconds:
            raise KeyframeError("selection.seconds names no time: give some, such as selection.seconds=[1.5,12].")
        for one in seconds:
            check_number("selection.seconds", one, 0, whole=False)
        object.__setattr__(self, "seconds", tuple(map(float, seconds)))

    def __call__(self, candidates: Candidates) -> Selection:
        """Select; times that share a candidate give one keyframe."""
        nearest = [int(np.abs(candidates.seconds - second).argmin()) for second in self.seconds]
        return _ranked(candidates, np.unique(nearest), None, Limits(min_distance=0, max_similarity=1))


_DECENT = 1.0  # seconds of a shot that keyframes must not leave out if they are enough for all


def _groups(candidates: Candidates) -> list[Positions]:
    """What top keyframes are spread over, that with the best frame first: moments, if several, and shots that move.

    Left out are pictures that are not finished yet and shots of less than a second.
    """
    groups = [moment.frames for moment in candidates.moments if moment.finished]
    still = candidates.changes.still & (len(groups) > 1)
    groups = groups if len(groups) > 1 else []
    ends = np.append(candidates.seconds[candidates.shots[1:, 0]], candidates.duration)
    for (first, last), end in zip(candidates.shots.tolist(), ends.tolist(), strict=True):
        if not still[first] and end - candidates.seconds[first] >= _DECENT:
            groups.append(np.arange(first, last + 1))
    return sorted(groups, key=lambda frames: float(-candidates.scores[frames].max()))


def _one_of_each(
    candidates: Candidates,
    groups: list[Positions],
    values: FloatArray,
    most: int,
    limits: Limits,
    moments: bool = False,
) -> Positions:
    """From the first groups the good frame of the greatest value that earlier choices allow; `most` at most."""
    conflicts = Conflicts(candidates, limits, np.arange(len(candidates)), moments)
    good = candidates.flags == GOOD
    chosen: list[int] = []
    for group in groups:
        if len(chosen) == most:
            break
        left = group[good[group]]
        left = left[np.argsort(-values[left], kind="stable")]
        # Mostly the first of them is allowed.
        for few in np.split(left, [1, 8, 64]):
            free = few[~conflicts.between(few, np.array(chosen, dtype=np.int64)).any(axis=1)]
            if len(free):
                chosen.append(int(free[0]))
                break
    return np.array(sorted(chosen), dtype=np.int64)


def _best_frames(
    candidates: Candidates, values: FloatArray, asked: int | None, wanted: int, limits: Limits, preferred: Positions
) -> Positions:
    """The `wanted` frames that the limits allow: least flags first, then the most preferred, then the greatest values.

    If the number was not asked for, flagged frames are excluded unless none remain; then one is kept. If it was, and
    good frames that look different are too few, or leave out preferred ones, they come next, and other moments of their
    scenes are added.
    """
    flags = candidates.flags
    among = np.arange(len(candidates))
    if asked is None:
        good = np.flatnonzero(flags == GOOD)
        among, wanted = (good, wanted) if len(good) else (among, 1)
    # Values are at most 1, so one step outweighs those of all keyframes.
    step = min(wanted, len(candidates)) + 1.0
    merits = values.astype(np.float64) - step**3 * flags
    merits[preferred] += step**2
    chosen = choose(candidates, merits, wanted, limits, among)
    good = chosen[flags[chosen] == GOOD]
    if asked is None or (len(good) == wanted and np.isin(preferred, good).all()):
        return chosen
    merits[good] += step
    if limits.max_similarity <= SAME_FROM:
        among = np.setdiff1d(among, _repeats(candidates, merits, limits.max_similarity))
    return choose(candidates, merits, wanted, limits, among, moments=True)


_MOST_OF_MOMENT = 64  # the best frames of a moment among which one is sought that is far enough from other keyframes


def _repeats(candidates: Candidates, merits: FloatArray, max_similarity: float) -> Positions:
    """Frames that show the same as better ones of their moment: in an hour of a still picture all but a few."""
    repeats = [np.zeros(0, dtype=np.int64)]
    for moment in candidates.moments:
        best_first = moment.frames[np.argsort(-merits[moment.frames], kind="stable")]
        rows = candidates.descriptors[best_first]
        repeats.append(best_first[rows @ rows[0] > max_similarity][_MOST_OF_MOMENT:])
    return np.concatenate(repeats)


def _ranked(
    candidates: Candidates,
    chosen: Positions,
    asked: int | None,
    limits: Limits,
    kept: BoolArray | None = None,
    notes: tuple[str, ...] = (),
) -> Selection:
    """Rank the keyframes, note what fell short, and keep the shots with keyframes unless `kept` says which."""
    flags = candidates.flags[chosen]
    ranks = np.empty(len(chosen), dtype=np.int64)
    ranks[np.lexsort((-candidates.scores[chosen], flags))] = np.arange(1, len(chosen) + 1)
    if asked is not None and len(chosen) < asked:
        count = f"{len(chosen)} distinct frame{'' if len(chosen) == 1 else 's'}"
        notes += (f"asked for {asked} keyframes: only {count} at least {limits.min_distance:g} s apart",)
    if (flags != GOOD).any():
        poor = np.count_nonzero(flags)
        notes += (f"no better frame available: {poor} of {len(chosen)} keyframes are blurred, black or flat",)
    if kept is None:
        kept = np.zeros(len(candidates.shots), dtype=bool)
        kept[candidates.shot_of[chosen]] = True
    return Selection(chosen, ranks, kept, asked, notes, limits.min_distance)
