"""Four ways to choose keyframes, under the same limits.

Two limits are hard (`Limits`): keyframes are `min_distance` apart and no more alike than `max_similarity`. Two wishes
are soft. Frames that look alike as a whole, several moments of one scene, are taken only to reach a number that the
user asked for (and by `UniformSelection`, which goes by time). Blurred, black and flat frames (`faults`) are passed
over while a better frame is left, such a moment say, and taken only to reach that number, or where the video has
nothing else. There is always one keyframe. Nothing is random.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from keyframe.summary.candidates import Candidates, Mask, Positions, Selection
from keyframe.summary.constraints import Conflicts, Limits, check_count, check_number, choose
from keyframe.summary.coverage import cover
from keyframe.summary.knapsack import knapsack
from keyframe.summary.quality import ACCEPTABLE, faults
from keyframe.types import FloatArray

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
