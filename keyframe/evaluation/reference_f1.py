"""Keyshot F1 of the reference lines: on some data sets chance comes close to people, and a reader should see it."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from keyframe.evaluation.bootstrap import interval
from keyframe.evaluation.keyshot import f1_user, hold_scores, keyshots
from keyframe.evaluation.metrics import defined_mean
from keyframe.evaluation.protocol import mean_track
from keyframe.evaluation.reference import evenly_spaced
from keyframe.evaluation.subject import Subject
from keyframe.types import FloatArray

F1_DRAWS = 20

# Lines that have a summary of their own; the names are those of `keyframe.evaluation.reference.LINES`.
F1_LINES = ("one_annotator", "other_annotators", "ceiling", "random", "uniform", "position", "training_free")


def reference_f1(subject: Subject, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """Each line's F1 on one video, as (mean over users, best user); NaN where it has none.

    `one_annotator` is each user's summary against all others'. `other_annotators` is made from the mean scores of all
    but one annotator, compared with that one's summary; so it has no best user, and nothing where there are no scores.

    Args:
        subject: the video.
        rng: draws the random scores.
    """
    count, length = len(subject.users), len(subject.entries)
    undefined = (float("nan"), float("nan"))
    if not count:
        return dict.fromkeys(F1_LINES, undefined)
    others = [np.delete(subject.users, user, axis=0) for user in range(count)]
    between = [f1_user(subject.users[user], rest) for user, rest in enumerate(others) if len(rest)]
    left_out: list[float] = []
    if len(subject.annotators) == count > 1:
        means = [mean_track(np.delete(subject.annotators, user, axis=0)) for user in range(count)]
        left_out = [
            float(f1_user(_summary(mean, subject), subject.users[[user]])[0]) for user, mean in enumerate(means)
        ]
    tracks = {
        "ceiling": [subject.importance],
        "random": list(rng.random((F1_DRAWS, length))),
        "uniform": [evenly_spaced(length)],
        "position": [1 - np.abs(2.0 * np.arange(length) - (length - 1)) / (length + 1)],
        "training_free": [subject.training_free],
    }
    lines = {
        "one_annotator": _mean_and_best(between),
        "other_annotators": (defined_mean(left_out), float("nan")),
    }
    for name, rows in tracks.items():
        lines[name] = _mean_and_best([f1_user(_summary(row, subject), subject.users) for row in rows])
    return lines


def f1_metrics(table: Sequence[Mapping[str, tuple[float, float]]]) -> dict[str, float]:
    """Means over videos by name, `reference/<line>/f1_user_mean` and `.../f1_user_max`, each with `_lo` and `_hi`.

    Args:
        table: what `reference_f1` gives, one a video.
    """
    metrics: dict[str, float] = {}
    for line in F1_LINES:
        for place, name in enumerate(("f1_user_mean", "f1_user_max")):
            values = [row[line][place] for row in table]
            key = f"reference/{line}/{name}"
            metrics[key] = defined_mean(values)
            metrics[f"{key}_lo"], metrics[f"{key}_hi"] = interval(values)
    return metrics


def _summary(scores: FloatArray, subject: Subject) -> npt.NDArray[np.bool_]:
    return keyshots(hold_scores(scores, subject.entries, subject.n_frames), subject.shots)


def _mean_and_best(rows: Sequence[npt.NDArray[np.float64]]) -> tuple[float, float]:
    """Mean over rows of their mean and of their greatest."""
    return defined_mean([row.mean() for row in rows]), defined_mean([row.max() for row in rows])
