"""The best k frames that are far enough apart in time and do not look alike.

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

from dataclasses import dataclass

import numpy as np

from keyframe.errors import KeyframeError
from keyframe.summary.candidates import Candidates, Mask, Positions
from keyframe.summary.changes import Changes
from keyframe.summary.exact import best_independent
from keyframe.summary.local_search import LocalSearch
from keyframe.summary.spacing import apart, best_apart
from keyframe.types import FloatArray

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
            scene are wanted, it is the share of the picture that has not changed (see `keyframe.summary.changes`), if
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
    changes: Changes | None = None

    @classmethod
    def of(cls, candidates: Candidates, limits: Limits, among: Positions, moments: bool = False) -> "Conflicts":
        """Of some candidates; with `moments` only frames are duplicates in which nothing has changed."""
        changes = Changes(candidates.thumbnails[among]) if moments else None
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
