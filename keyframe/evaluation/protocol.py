"""The published rank protocol: a score at every 15th frame, compared with each annotator there."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from keyframe.evaluation.metrics import defined_mean, kendall, spearman
from keyframe.types import FloatArray, Labels

# The picks are frames 0, 15, 30 ... (about 2 a second), as in the feature files that published systems share.
PICK_STEP = 15

PROTOCOL = (
    "Rank correlation (Kendall's tau-b, Spearman's rho) at every 15th frame with each annotator separately, averaged "
    "over annotators, then over videos: the protocol of Otani et al., Rethinking the evaluation of video summaries, "
    "CVPR 2019. Correlation with the annotators' mean is another, larger number."
)


@dataclass(frozen=True)
class Agreement:
    """How well scores at the picks agree with one video's annotators.

    Attributes:
        annotator_kendall: Kendall's tau-b with each annotator, the mean over annotators; in [-1, 1] or NaN.
        annotator_spearman: Spearman's rho likewise.
        kendall: tau-b with the annotators' mean (with `Labels.importance` where there are no annotators).
        spearman: rho with the same.
        annotators: how many annotators there are.
        undefined: with how many of them there is no correlation, because they or the scores are constant; these
            are left out of the means over annotators. All of them: the means are NaN.
    """

    annotator_kendall: float
    annotator_spearman: float
    kendall: float
    spearman: float
    annotators: int
    undefined: int


def picks(frames: int) -> npt.NDArray[np.int64]:
    """The numbers of the scored frames of a video with so many frames: 0, 15, 30 ..., int64, (ceil(frames / 15),)."""
    return np.arange(0, frames, PICK_STEP, dtype=np.int64)


def agreement(scores: FloatArray, labels: Labels) -> Agreement:
    """Compare a video's scores at its picks with its labels.

    Args:
        scores: one score a pick, any scale, shape (ceil(L / 15),).
        labels: the video's labels, L frames.

    Raises:
        ValueError: if there is not one finite score a pick.
    """
    expected = (len(picks(len(labels))),)
    if scores.shape != expected or not np.isfinite(scores).all():
        raise ValueError(f"a video of {len(labels)} labels needs {expected} finite scores, not {scores.shape}")
    annotators = annotators_at_picks(labels)
    taus = np.array([kendall(scores, one) for one in annotators])
    rhos = np.array([spearman(scores, one) for one in annotators])
    mean = mean_track(annotators) if len(annotators) else labels.importance[::PICK_STEP]
    return Agreement(
        annotator_kendall=defined_mean(taus),
        annotator_spearman=defined_mean(rhos),
        kendall=kendall(scores, mean),
        spearman=spearman(scores, mean),
        annotators=len(annotators),
        undefined=int(np.isnan(taus).sum()),
    )


def annotators_at_picks(labels: Labels) -> npt.NDArray[np.float64]:
    """Each annotator's scores at the picks, (A, ceil(L / 15))."""
    return labels.annotators[:, ::PICK_STEP].astype(np.float64)


def mean_track(annotators: FloatArray) -> npt.NDArray[np.float64]:
    """The mean of annotators (A, T), as (T,).

    Rounded to 6 decimals: scores such as 1/3 are stored inexactly, and what they add up to must still tie.
    """
    return np.round(annotators.mean(axis=0, dtype=np.float64), 6)
