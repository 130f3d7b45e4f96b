"""Every number of one video, and the means over videos with their intervals."""

from collections.abc import Mapping, Sequence

import numpy as np

from keyframe.evaluation.bootstrap import interval
from keyframe.evaluation.keyshot import f1_user_max, f1_user_mean, hold_scores, keyshots
from keyframe.evaluation.metrics import defined_mean, video_metrics
from keyframe.evaluation.subject import Subject
from keyframe.types import FloatArray

# In the order of tables: the published protocol first, then the same against the annotators' mean.
METRICS = {
    "annotator_kendall": "Kendall's tau-b with each annotator, mean over annotators",
    "annotator_spearman": "Spearman's rho with each annotator, mean over annotators",
    "kendall": "Kendall's tau-b with the annotators' mean",
    "spearman": "Spearman's rho with the annotators' mean",
    "f1_user_mean": "keyshot F1, mean over users",
    "f1_user_max": "keyshot F1, best user",
    "precision_at_15": "precision@15 %: overlap of the best 15 % with the annotators' mean's",
    "mse": "mean squared error against the annotators' mean",
    "mae": "mean absolute error against the annotators' mean",
}


def measure(scores: FloatArray, subject: Subject) -> dict[str, float]:
    """The `METRICS` of one video, and how many of its comparisons are not defined.

    Args:
        scores: one an entry, any scale for all but `mse` and `mae`, finite, (n,).
        subject: the video.

    Returns:
        The `METRICS`, NaN where not defined, and `annotators`, `undefined_annotators`: how many there are, and with how
        many of them there is no correlation, because they or the scores are constant.

    Raises:
        ValueError: if there is not one finite score an entry.
    """
    if scores.shape != subject.entries.shape or not np.isfinite(scores).all():
        raise ValueError(f"{subject.video} needs {subject.entries.shape} finite scores, not {scores.shape}")
    values = video_metrics(scores, subject.importance, subject.annotators)
    summary = keyshots(hold_scores(scores, subject.entries, subject.n_frames), subject.shots)
    values |= {
        "f1_user_mean": f1_user_mean(summary, subject.users),
        "f1_user_max": f1_user_max(summary, subject.users),
    }
    constant = np.ptp(scores) == 0 or len(scores) < 2
    undefined = len(subject.annotators) if constant else int((np.ptp(subject.annotators, axis=1) == 0).sum())
    return {
        **{name: values[name] for name in METRICS},
        "annotators": float(len(subject.annotators)),
        "undefined_annotators": float(undefined),
    }


def mean_row(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Several rows as one: means, the undefined ones left out."""
    return {name: defined_mean([row[name] for row in rows]) for name in rows[0]}


def over_videos(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over videos by name, with `<name>_std`, `<name>_lo`, `<name>_hi`, `<name>_videos`.

    The spread over videos, the 95 % bootstrap interval of the mean over videos (both NaN for fewer than 2), and how
    many videos have a value. With them go `videos`, `undefined`: videos without a rank correlation, and
    `undefined_annotators`: the annotators of all videos with whom there is none.

    Args:
        rows: what `measure` gives, one a video.
    """
    result = {
        "videos": float(len(rows)),
        "undefined": float(sum(np.isnan(row["spearman"]) for row in rows)),
        "undefined_annotators": float(sum(row["undefined_annotators"] for row in rows)),
        "annotators": float(sum(row["annotators"] for row in rows)),
    }
    for name in METRICS:
        values = np.array([row[name] for row in rows], dtype=np.float64)
        defined = values[~np.isnan(values)]
        result[name] = defined_mean(values)
        result[f"{name}_std"] = float(defined.std(ddof=1)) if len(defined) > 1 else float("nan")
        result[f"{name}_lo"], result[f"{name}_hi"] = interval(values)
        result[f"{name}_videos"] = float(len(defined))
    return result
