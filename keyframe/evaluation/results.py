"""The numbers of models on videos they were not trained on, per video, over videos and by pair, and their figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import rankdata

from keyframe.drawing import save_figure
from keyframe.drawing.curves import draw_video
from keyframe.drawing.plots import draw_bars, draw_per_video, draw_scatter, draw_tradeoff
from keyframe.evaluation import metrics
from keyframe.evaluation.metrics import Difference, mean_metrics, spearman
from keyframe.evaluation.video import RIDGE, TRAINING_FREE, EvalVideo
from keyframe.report import ImageFile, Section
from keyframe.types import FloatArray, Int64Array, UInt8Array

Metrics = Mapping[str, float]

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
ENSEMBLES = ("mean", "rank")
BASELINES = {TRAINING_FREE: "training-free baseline", RIDGE: "ridge regression"}


def measure(scores: FloatArray, video: EvalVideo) -> dict[str, float]:
    """The `METRICS` of one video, NaN where not defined, and the number of `annotators` and `undefined_annotators`.

    The latter have no correlation with the scores because either is constant. Scores are finite, one per entry, (n,),
    on any scale for all but `mse` and `mae`.
    """
    if scores.shape != video.entries.shape or not np.isfinite(scores).all():
        raise ValueError(f"{video.video} needs {video.entries.shape} finite scores, not {scores.shape}")
    values = metrics.video_metrics(scores, video.importance, video.annotators)
    summary = video.summary(scores)
    values["f1_user_mean"] = metrics.f1_user_mean(summary, video.users)
    values["f1_user_max"] = metrics.f1_user_max(summary, video.users)
    constant = np.ptp(scores) == 0 or len(scores) < 2
    undefined = len(video.annotators) if constant else int((np.ptp(video.annotators, axis=1) == 0).sum())
    return {
        **{name: values[name] for name in METRICS},
        "annotators": float(len(video.annotators)),
        "undefined_annotators": float(undefined),
    }


def overall_metrics(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The `mean_metrics` of each of the `METRICS` over videos, and `<name>_videos`: how many videos have a value.

    Besides: `videos`, `undefined` (videos without a rank correlation), `annotators` and `undefined_annotators` (both
    summed over videos). Each row is a result of `measure`.
    """
    result = {"videos": float(len(rows)), "undefined": float(sum(np.isnan(row["spearman"]) for row in rows))}
    for name in ("annotators", "undefined_annotators"):
        result[name] = float(sum(row[name] for row in rows))
    for name in METRICS:
        values = np.array([row[name] for row in rows], dtype=np.float64)
        result |= mean_metrics(name, values)
        result[f"{name}_videos"] = float(np.count_nonzero(~np.isnan(values)))
    return result


@dataclass(frozen=True)
class ModelResult:
    """One model on the videos it was not trained on: of one run, of folds, of seeds, or of an ensemble."""

    name: str  # of the model
    # video -> its numbers (`measure`), the mean over runs or the numbers of the ensemble's scores
    rows: dict[str, dict[str, float]]
    scores: dict[str, FloatArray]  # video -> scores at its entries, (n,), the mean over runs; for figures
    runs: dict[str, int]  # video -> how many runs scored it
    # for each run, the means over its videos, NaN without any, and `videos`; empty for an ensemble
    by_run: list[dict[str, float]]
    labels: Sequence[str] = ()  # for each run, what tells it apart from the others
    ensemble: str | None = None  # how the runs' scores were joined; None if their numbers were averaged

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The means over videos (`overall_metrics`), and their standard deviation over runs as `<name>_over_runs`.

        The latter exists if several runs were tested on the same videos: the part that training leaves to chance.
        """
        result = overall_metrics(list(self.rows.values()))
        if len(self.by_run) > 1 and set(self.runs.values()) == {len(self.by_run)}:
            for name in METRICS:
                result[f"{name}_over_runs"] = float(np.std([run[name] for run in self.by_run], ddof=1))
        return result


def model_result(
    name: str,
    scored: Sequence[Mapping[str, FloatArray]],
    videos: Mapping[str, EvalVideo],
    labels: Sequence[str] = (),
    ensemble: str | None = None,
) -> ModelResult:
    """Join the scores of one model's runs, each video -> scores at its entries, (n,); folds have different videos.

    Without an ensemble each run is measured by itself and the numbers are averaged. `mean` measures the mean of the
    scores, `rank` the mean of their ranks within the video. `mse` and `mae` are NaN for ranks, and for all videos if
    some scores are outside [0, 1], the labels' scale.
    """
    tracks_of_all = [one[id_] for one in scored for id_ in one.keys() & videos.keys()]
    other_scale = ensemble == "rank" or any(track.min() < 0 or track.max() > 1 for track in tracks_of_all)

    def numbers(track: FloatArray, video: EvalVideo) -> dict[str, float]:
        return measure(track, video) | (dict.fromkeys(("mse", "mae"), float("nan")) if other_scale else {})

    rows, scores, runs = {}, {}, {}
    by_run: list[list[dict[str, float]]] = [[] for _ in scored]
    for id_, video in videos.items():
        tracks = {place: one[id_] for place, one in enumerate(scored) if id_ in one}
        if not tracks:
            continue
        runs[id_] = len(tracks)
        if ensemble == "rank":
            # divided last: frames whose ranks add up to the same must tie
            scores[id_] = np.mean([rankdata(track) for track in tracks.values()], axis=0) / len(video.entries)
        else:
            scores[id_] = np.mean(list(tracks.values()), axis=0)
        if ensemble is not None:
            rows[id_] = numbers(scores[id_], video)
            continue
        measured = {place: numbers(track, video) for place, track in tracks.items()}
        rows[id_] = _mean_row(list(measured.values()))
        for place, row in measured.items():
            by_run[place].append(row)
    means = [_mean_row(measured) | {"videos": float(len(measured))} for measured in by_run]
    return ModelResult(name, rows, scores, runs, [] if ensemble else means, labels, ensemble)


def _mean_row(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: metrics.defined_mean([row[name] for row in rows]) for name in (rows[0] if rows else METRICS)}


@dataclass(frozen=True)
class Pair:
    """Two models and, by metric, the second's mean minus the first's over their videos."""

    first: str
    second: str
    differences: dict[str, Difference]


def compare_pairs(results: Sequence[ModelResult]) -> list[Pair]:
    """All pairs of models, in order; all must have the same videos."""

    def difference(first: ModelResult, second: ModelResult, metric: str) -> Difference:
        theirs, ours = ([one.rows[video][metric] for video in first.rows] for one in (second, first))
        return metrics.paired_difference(theirs, ours)

    return [
        Pair(first.name, second.name, {metric: difference(first, second, metric) for metric in METRICS})
        for first, second in combinations(results, 2)
    ]


def pair_metrics(pairs: Sequence[Pair]) -> dict[str, float]:
    """Flat: `difference/<second>-<first>/<metric>` with `_lo`, `_hi`, `_p`."""
    flat: dict[str, float] = {}
    for pair in pairs:
        for metric, difference in pair.differences.items():
            key = f"difference/{pair.second}-{pair.first}/{metric}"
            flat |= {key: difference.value, f"{key}_lo": difference.lo, f"{key}_hi": difference.hi}
            flat[f"{key}_p"] = difference.p_value
    return flat


@dataclass(frozen=True)
class Evaluation:
    """Everything in a report of one model, or of several models on the same videos."""

    results: Sequence[ModelResult]  # one at least
    baselines: Mapping[str, Metrics]  # the `overall_metrics` of those of `BASELINES` that there are
    reference: Metrics  # `reference_metrics` and `f1_metrics`; may be empty
    protocol: str  # how the models' scores were made, in words
    skipped: Mapping[str, str] = field(default_factory=dict)  # video -> why it was left out
    pairs: Sequence[Pair] = ()
    costs: Mapping[str, Metrics] = field(default_factory=dict)  # by model, see `cost_sections`
    reference_design: tuple[str, str] | None = None  # the models that stand for its ResNet50 and EfficientNet-B0
    parts: Mapping[str, str] = field(default_factory=dict)  # video -> what the models have to do with it
    notes: Sequence[str] = ()  # on the choice of videos, sentences

    @property
    def means(self) -> dict[str, Metrics]:
        """The `overall_metrics` of each model and baseline, by name in tables."""
        baselines = {BASELINES[name]: values for name, values in self.baselines.items()}
        return {one.name: one.metrics for one in self.results} | baselines

    @property
    def main_metric(self) -> str:
        """The published protocol's metric, or without annotators the correlation with the file's track."""
        known = all(np.isfinite(one.metrics["annotator_spearman"]) for one in self.results)
        return "annotator_spearman" if known else "spearman"


# The few reference lines that a bar chart has room for.
_LINES = ("random", "one_annotator", "other_annotators", "ceiling")

# Small frames of a video near the given seconds: (second, uint8 (h, w, 3)) each.
ReadThumbnails = Callable[[Sequence[float]], Sequence[tuple[float, UInt8Array]]]


def per_video_rows(evaluation: Evaluation, videos: Mapping[str, EvalVideo]) -> list[Mapping[str, object]]:
    """The rows of `per_video.csv`: each model on each video."""
    return [
        {"model": one.name, "video": id_, "category": videos[id_].category, "part": evaluation.parts[id_]}
        | {"runs": one.runs[id_], **row}
        for one in evaluation.results
        for id_, row in one.rows.items()
    ]


def draw_overview(evaluation: Evaluation, videos: Mapping[str, EvalVideo], directory: Path) -> Section:
    """PNG files of bars beside the reference lines, a dot per video, predictions against labels; and costs."""
    results, costs, reference = evaluation.results, evaluation.costs, evaluation.reference
    means, metric = evaluation.means, evaluation.main_metric
    what = "Spearman's rho with each annotator" if metric == "annotator_spearman" else "Spearman's rho"
    intervals = {name: (values[f"{metric}_lo"], values[f"{metric}_hi"]) for name, values in means.items()}
    bars = draw_bars(
        {name: values[metric] for name, values in means.items()},
        intervals,
        {line.replace("_", " "): reference.get(f"reference/{line}/spearman", np.nan) for line in _LINES},
        f"{what}, mean over videos",
        what,
    )
    rows = {video: [one.rows[video][metric] for one in results] for video in results[0].rows}
    dots = draw_per_video(rows, [one.name for one in results], "Each video", what)
    scores = {one.name: np.concatenate([one.scores[video] for video in rows]) for one in results}
    importance = np.concatenate([videos[video].importance for video in rows])
    correlations = {name: spearman(values, importance) for name, values in scores.items()}
    title = "Predicted importance and the annotators' mean, all scored frames"
    cloud = draw_scatter(scores, importance, correlations, title)
    images = [
        _save(bars, directory / "accuracy.png", f"Bars: {what} of each model, with reference lines"),
        _save(dots, directory / "videos.png", f"Dots: {what} of each model on each video"),
        _save(cloud, directory / "scatter.png", "Scatter: predicted importance against the annotators' mean"),
    ]
    if costs:
        tradeoff = draw_tradeoff(
            {name: 1e3 * costs[name].get("seconds_1", np.nan) for name in costs},
            {name: means[name][metric] for name in costs},
            intervals,
            {name: costs[name]["params_total"] / 1e6 for name in costs},
            "Accuracy against latency",
            METRICS[metric].split(",")[0],
        )
        alt = "Accuracy against milliseconds per video, marks by parameters"
        images.append(_save(tradeoff, directory / "tradeoff.png", alt))
    return Section("Figures", images)


def draw_videos(
    results: Sequence[ModelResult],
    videos: Mapping[str, EvalVideo],
    chosen: Mapping[str, ReadThumbnails],
    directory: Path,
) -> Section:
    """Importance along the chosen videos: models over the annotators' band, thumbnails, keyframes."""
    images = []
    for place, (id_, thumbnails) in enumerate(chosen.items()):
        video = videos[id_]
        scores = {one.name: one.scores[id_] for one in results}
        figure = draw_video(
            id_,
            video.seconds,
            scores,
            {name: spearman(values, video.importance) for name, values in scores.items()},
            video.annotators,
            video.importance,
            {name: keyshot_keyframes(values, video) for name, values in scores.items()},
            thumbnails(np.linspace(video.seconds[0], video.seconds[-1], 12).tolist()),
            np.interp(video.shots[:, 0], video.entries, video.seconds),
        )
        # a video's id may hold any character: it is no file name
        images.append(_save(figure, directory / f"video-{place:02d}.png", f"Importance along {id_}"))
    return Section("Importance along videos", images)


def keyshot_keyframes(scores: FloatArray, video: EvalVideo) -> Int64Array:
    """The best entry of each shot in the keyshot summary of scores (n,): positions into the entries, rising, (k,)."""
    kept = video.summary(scores)
    chosen = []
    for first, last in video.shots[kept[video.shots[:, 0]]]:
        inside = np.flatnonzero((video.entries >= first) & (video.entries <= last))
        if len(inside):
            chosen.append(inside[np.argmax(scores[inside])])
    return np.array(chosen, dtype=np.int64)


def chosen_videos(result: ModelResult, count: int) -> list[str]:
    """Videos to draw, from the model's best to its worst, evenly spaced in between."""
    order = sorted(result.rows, key=lambda video: -np.nan_to_num(result.rows[video]["spearman"], nan=-2.0))
    places = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    return [order[place] for place in places]


def _save(figure: Figure, path: Path, alt: str) -> ImageFile:
    save_figure(figure, path)
    return ImageFile(path, alt)
