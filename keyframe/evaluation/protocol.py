"""The published rank protocol: a score at every 15th frame, compared with each annotator there."""

import numpy as np
import numpy.typing as npt

from keyframe.types import FloatArray, Labels

# The picks are frames 0, 15, 30 ... (about 2 a second), as in the feature files that published systems share.
PICK_STEP = 15

PROTOCOL = (
    "Rank correlation (Kendall's tau-b, Spearman's rho) at every 15th frame with each annotator separately, averaged "
    "over annotators, then over videos: the protocol of Otani et al., Rethinking the evaluation of video summaries, "
    "CVPR 2019. Correlation with the annotators' mean is another, larger number."
)


def picks(frames: int) -> npt.NDArray[np.int64]:
    """The numbers of the scored frames of a video with so many frames: 0, 15, 30 ..., int64, (ceil(frames / 15),)."""
    return np.arange(0, frames, PICK_STEP, dtype=np.int64)


def annotators_at_picks(labels: Labels) -> npt.NDArray[np.float64]:
    """Each annotator's scores at the picks, (A, ceil(L / 15))."""
    return labels.annotators[:, ::PICK_STEP].astype(np.float64)


def mean_track(annotators: FloatArray) -> npt.NDArray[np.float64]:
    """The mean of annotators (A, T), as (T,).

    Rounded to 6 decimals: scores such as 1/3 are stored inexactly, and what they add up to must still tie.
    """
    return np.round(annotators.mean(axis=0, dtype=np.float64), 6)
