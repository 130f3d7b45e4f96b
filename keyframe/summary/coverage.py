"""As few frames as show what matters of a video."""

import numpy as np

from keyframe.summary.candidates import Candidates, Positions
from keyframe.summary.constraints import Conflicts, Limits
from keyframe.summary.quality import ACCEPTABLE

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
