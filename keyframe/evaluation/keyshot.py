"""The published keyshot F1: cut into shots, keep the best 15 %, compare with the annotators' summaries.

The protocol of Zhang et al. (Video summarization with long short-term memory, ECCV 2016), after Song et al. (TVSum,
CVPR 2015) and Gygli et al. (SumMe, ECCV 2014), read from their published code and from KaiyangZhou/
pytorch-vsumm-reinforce, li-plus/DSNet and e-apostolidis/PGL-SUM, whose common ground is:

- a score holds from its pick to the next, the last one to the end of the video;
- a shot's value is the *mean* of its frames (both ends inclusive), its weight their number;
- the knapsack's capacity is int(0.15 * n_frames), rounded down;
- precision and recall count frames; F1 is per annotator, 0 if nothing is shared; TVSum reports the mean over
  annotators, SumMe the maximum.

Where they differ: DSNet rounds shot values down to 1/1000 before the knapsack; Zhang's TVSum script of 2016 keeps 18 %,
and normalises scores to 0 ... 1. None of that is done here.

Because a long shot is worth no more than a short one, the choice prefers short shots, and F1 depends more on the cuts
than on the scores: random scores reach an F1 of about .57 on TVSum (Otani et al., Rethinking the evaluation of video
summaries, CVPR 2019). Adding a constant to all scores changes the choice as well.
"""

import numpy as np
import numpy.typing as npt

from keyframe.evaluation.metrics import SUMMARY_SHARE
from keyframe.summary.selection import knapsack
from keyframe.summary.shots import check_picks, check_shots
from keyframe.types import FloatArray, IntArray

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def hold_scores(scores: FloatArray, picks: IntArray, n_frames: int) -> Floats:
    """Spread scores at picks over all frames: each holds until the next pick, the last until the end.

    Args:
        scores: one per pick, (n,).
        picks: frame number of each score, rising, (n,); frames before the first get the first score.
        n_frames: frames of the video, more than the last pick.

    Returns:
        A score for every frame, (n_frames,).
    """
    check_picks(picks, n_frames)
    if scores.shape != picks.shape:
        raise ValueError(f"{len(picks)} picks need as many scores, not an array {scores.shape}")
    lengths = np.diff(picks, append=n_frames)
    lengths[0] += picks[0]
    return np.repeat(scores.astype(np.float64), lengths)


def keyshots(frame_scores: FloatArray, shots: IntArray, share: float = SUMMARY_SHARE) -> Mask:
    """The summary of these scores: the shots with the greatest total of shot means that fit into the share.

    Args:
        frame_scores: a score for every frame, finite, (n_frames,); only shots with a mean above 0 can be kept.
        shots: first and last frame of each shot, both inclusive, (m, 2), covering the video.
        share: the greatest share of the frames that a summary may take, in [0, 1].

    Returns:
        Whether each frame is kept, (n_frames,); no more than int(share * n_frames) are. `knapsack` breaks ties.
    """
    return _keep(frame_scores[None], shots, share)[0]


def user_summaries(
    annotators: FloatArray,
    shots: IntArray,
    lowest: float = 1.0,
    highest: float = 5.0,
    share: float = SUMMARY_SHARE,
) -> Mask:
    """Each annotator's summary, for label files that hold scores and no summaries.

    Made like `user_summary` in the field's files for TVSum: the same shots and knapsack on one annotator's own scores,
    on their original scale (Zhang et al.'s evaluate_TVSum.m; Otani et al.'s tvsum_eval_random_summary.py). The scale
    matters: with 1 ... 5 even a shot of the lowest score is worth something.

    Args:
        annotators: scores in [0, 1] as `Labels.annotators` has them, (A, n_frames).
        shots: first and last frame of each shot, both inclusive, (m, 2), covering the video.
        lowest: the original score that 0 stands for.
        highest: the original score that 1 stands for.
        share: the greatest share of the frames that a summary may take, in [0, 1].

    Returns:
        Whether each annotator keeps each frame, (A, n_frames).
    """
    return _keep(lowest + (highest - lowest) * annotators.astype(np.float64), shots, share)


def f1_user(summary: Mask, user_summaries: Mask) -> Floats:
    """F1 of a summary with each user's, over frames.

    Args:
        summary: whether each frame is kept, (n_frames,).
        user_summaries: whether each user keeps each frame, (A, n_frames).

    Returns:
        F1 in [0, 1], (A,); 0 if no frame is shared, NaN if both summaries are empty.
    """
    if summary.ndim != 1 or user_summaries.ndim != 2 or user_summaries.shape[1] != len(summary):
        raise ValueError(
            f"summary and user_summaries must be (n_frames,) and (A, n_frames), not {summary.shape} "
            f"and {user_summaries.shape}"
        )
    summary, users = summary.astype(bool), user_summaries.astype(bool)
    shared = (users & summary).sum(axis=1)
    kept = users.sum(axis=1) + summary.sum()
    return np.where(kept > 0, 2 * shared / np.maximum(kept, 1), np.nan)


def f1_user_mean(summary: Mask, user_summaries: Mask) -> float:
    """Mean over users of `f1_user`, TVSum's number; NaN without users or if one of them is NaN."""
    scores = f1_user(summary, user_summaries)
    return float(scores.mean()) if len(scores) else float("nan")


def f1_user_max(summary: Mask, user_summaries: Mask) -> float:
    """Maximum over users of `f1_user`, SumMe's number; NaN without users or if one of them is NaN."""
    scores = f1_user(summary, user_summaries)
    return float(scores.max()) if len(scores) else float("nan")


def _keep(frame_scores: FloatArray, shots: IntArray, share: float) -> Mask:
    """The summaries of several score tracks, (A, n_frames) -> (A, n_frames)."""
    n_frames = frame_scores.shape[1]
    check_shots(shots, n_frames)
    lengths = shots[:, 1] - shots[:, 0] + 1
    means = np.add.reduceat(frame_scores.astype(np.float64), shots[:, 0], axis=1) / lengths
    capacity = int(share * n_frames)
    kept = [knapsack(values, lengths, capacity) for values in means]
    return np.repeat(np.array(kept, dtype=bool).reshape(len(means), len(shots)), lengths, axis=1)
