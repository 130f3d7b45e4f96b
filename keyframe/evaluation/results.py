"""Every number of one video, and the means over videos with their intervals.

One model's scores on many videos, whether it is one run, the folds of a cross-validation, seeds, or an ensemble.

Each pair of models on the same videos: is one better?
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import rankdata

from keyframe.evaluation.keyshot import f1_user_max, f1_user_mean, hold_scores, keyshots
from keyframe.evaluation.metrics import Difference, defined_mean, interval, paired_difference, video_metrics
from keyframe.evaluation.video import EvalVideo
from keyframe.report.document import NOT_AVAILABLE, format_number
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


def measure(scores: FloatArray, subject: EvalVideo) -> dict[str, float]:
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


ENSEMBLES = ("mean", "rank")


@dataclass(frozen=True)
class ModelResult:
    """What a model did on the videos it was not trained on.

    Attributes:
        name: of the model.
        rows: video -> its numbers (`measure`); where several runs scored a video, the mean of theirs, or with an
            ensemble the numbers of the joined scores.
        scores: video -> scores at the subject's entries, (n,), the mean over runs; for pictures.
        runs: video -> how many runs scored it.
        by_run: for each run, the means over its videos, NaN without any, and `videos`; none for an ensemble.
        members: how many runs there are in all; folds have a part of the videos each.
        ensemble: how the runs' scores were joined; None where their numbers were.
    """

    name: str
    rows: dict[str, dict[str, float]]
    scores: dict[str, FloatArray]
    runs: dict[str, int]
    by_run: list[dict[str, float]]
    members: int = 1
    ensemble: str | None = None

    def over_runs(self) -> dict[str, float]:
        """Standard deviation over runs of each mean, `<name>_over_runs`: what training by itself leaves to chance.

        Empty where there is one run, or runs were tested on different videos.
        """
        if (
            len(self.by_run) < 2
            or len(set(self.runs.values())) > 1
            or len(self.by_run) != next(iter(self.runs.values()))
        ):
            return {}
        return {f"{name}_over_runs": float(np.std([one[name] for one in self.by_run], ddof=1)) for name in METRICS}


def study(
    name: str,
    scored: Sequence[Mapping[str, FloatArray]],
    subjects: Mapping[str, EvalVideo],
    ensemble: str | None = None,
) -> ModelResult:
    """Join what the runs of one model say.

    Args:
        name: of the model.
        scored: for each run, video -> scores at the subject's entries, (n,); folds have different videos.
        subjects: video -> what scores are compared with.
        ensemble: None measures each run by itself and takes the mean of the numbers. `mean` measures the mean of the
            scores, `rank` the mean of their ranks within the video; ranks are no scores, so `mse` and `mae` are NaN.

    Raises:
        ValueError: if `ensemble` is none of these.
    """
    if ensemble not in (None, *ENSEMBLES):
        raise ValueError(f"ensemble must be None, {' or '.join(ENSEMBLES)}, not {ensemble}")
    rows, scores, runs = {}, {}, {}
    each: list[list[dict[str, float]]] = [[] for _ in scored]
    for video, subject in subjects.items():
        tracks = [one[video] for one in scored if video in one]
        if not tracks:
            continue
        if ensemble is None:
            measured = {place: measure(one[video], subject) for place, one in enumerate(scored) if video in one}
            rows[video] = mean_row(list(measured.values()))
            for place, row in measured.items():
                each[place].append(row)
            scores[video] = np.mean(tracks, axis=0)
        else:
            # divided last: frames whose ranks add up to the same must tie
            joined = [rankdata(track) for track in tracks] if ensemble == "rank" else tracks
            scores[video] = np.mean(joined, axis=0) / (len(subject.entries) if ensemble == "rank" else 1)
            rows[video] = measure(scores[video], subject)
            if ensemble == "rank":
                rows[video] |= {"mse": float("nan"), "mae": float("nan")}
        runs[video] = len(tracks)
    nothing = dict.fromkeys(METRICS, float("nan"))
    by_run = [(mean_row(measured) if measured else nothing) | {"videos": float(len(measured))} for measured in each]
    return ModelResult(name, rows, scores, runs, [] if ensemble else by_run, len(scored), ensemble)


SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Pair:
    """Two models and, by metric, the second's mean minus the first's over their videos."""

    first: str
    second: str
    differences: dict[str, Difference]


def pairs(studies: Sequence[ModelResult]) -> list[Pair]:
    """All pairs, in order; the studies must hold the same videos."""
    result = []
    for first, second in combinations(studies, 2):
        differences = {}
        for metric in METRICS:
            theirs, ours = (np.array([one.rows[video][metric] for video in first.rows]) for one in (second, first))
            differences[metric] = paired_difference(theirs, ours)
        result.append(Pair(first.name, second.name, differences))
    return result


def sentence(pair: Pair, metric: str) -> str:
    """What the videos say of a pair, in words; it follows the p-value."""
    difference = pair.differences[metric]
    what = METRICS[metric].split(",")[0]
    if np.isnan(difference.p_value):
        return f"Whether {pair.first} or {pair.second} is better cannot be told from {difference.videos} video(s)."
    figures = (
        f"difference {difference.value:+.3f} [{difference.lo:+.3f}, {difference.hi:+.3f}], p {p_text(difference)}, "
        f"{difference.videos} videos"
    )
    if difference.p_value >= SIGNIFICANT:
        return (
            f"No difference between {pair.first} and {pair.second} can be told from these videos ({what}: {figures})."
        )
    better, worse = (pair.second, pair.first) if difference.value > 0 else (pair.first, pair.second)
    return f"{better} is better than {worse} ({what}: {figures})."


def p_text(difference: Difference) -> str:
    """A p-value to the digits that its draws bear."""
    if np.isnan(difference.p_value):
        return NOT_AVAILABLE
    return "< 0.001" if difference.p_value < 0.001 else f"= {format_number(difference.p_value)}"


def pair_rows(found: Sequence[Pair], metrics: Sequence[str]) -> list[dict[str, str]]:
    """One row a pair and metric: difference, interval, p-value."""
    return [
        {
            "pair": f"{pair.second} - {pair.first}",
            "metric": metric,
            "difference": format_number(pair.differences[metric].value),
            "95 %": NOT_AVAILABLE
            if np.isnan(pair.differences[metric].lo)
            else f"{pair.differences[metric].lo:z.3f} to {pair.differences[metric].hi:z.3f}",
            "p": p_text(pair.differences[metric]).removeprefix("= "),
            "videos": str(pair.differences[metric].videos),
        }
        for pair in found
        for metric in metrics
    ]


def pair_metrics(found: Sequence[Pair]) -> dict[str, float]:
    """Flat: `difference/<second>-<first>/<metric>` with `_lo`, `_hi`, `_p`."""
    flat: dict[str, float] = {}
    for pair in found:
        for metric, difference in pair.differences.items():
            key = f"difference/{pair.second}-{pair.first}/{metric}"
            flat |= {
                key: difference.value,
                f"{key}_lo": difference.lo,
                f"{key}_hi": difference.hi,
                f"{key}_p": difference.p_value,
            }
    return flat
