"""The figures of an evaluation or a comparison, drawn into a folder for its report."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from keyframe.drawing.curves import draw_video
from keyframe.drawing.plots import draw_bars, draw_pairs, draw_per_video, draw_scatter, draw_tradeoff
from keyframe.evaluation.metrics import spearman
from keyframe.evaluation.results import METRICS, Evaluation, ModelResult
from keyframe.evaluation.video import EvalVideo
from keyframe.report.document import ImageFile, Section
from keyframe.types import FloatArray

# The few reference lines that a bar chart has room for.
_LINES = ("random", "one_annotator", "other_annotators", "ceiling")

# Small frames of a video near the given seconds: (second, uint8 (h, w, 3)) each.
ReadThumbnails = Callable[[Sequence[float]], Sequence[tuple[float, npt.NDArray[np.uint8]]]]


def draw_overview(evaluation: Evaluation, videos: Mapping[str, EvalVideo], directory: Path) -> Section:
    """Bars beside the reference lines, a dot per video, predictions against labels; pairs and costs of several models.

    Args:
        evaluation: the numbers.
        videos: video -> its labels.
        directory: where the PNG files go.
    """
    results, costs, reference = evaluation.results, evaluation.costs, evaluation.reference
    means = {one.name: one.metrics for one in results} | {"training-free baseline": evaluation.baseline}
    metric = evaluation.main_metric
    what = "Spearman's rho with each annotator" if metric == "annotator_spearman" else "Spearman's rho"
    intervals = {name: (values[f"{metric}_lo"], values[f"{metric}_hi"]) for name, values in means.items()}
    bars = draw_bars(
        {name: values[metric] for name, values in means.items()},
        intervals,
        {line.replace("_", " "): reference.get(f"reference/{line}/spearman", np.nan) for line in _LINES},
        f"{what}, mean over videos",
        what,
    )
    dots = draw_per_video(
        {video: [one.rows[video][metric] for one in results] for video in results[0].rows},
        [one.name for one in results],
        "Each video",
        what,
    )
    scores = {one.name: np.concatenate([one.scores[video] for video in results[0].rows]) for one in results}
    importance = np.concatenate([videos[video].importance for video in results[0].rows])
    correlations = {name: spearman(values, importance) for name, values in scores.items()}
    title = "Predicted importance and the annotators' mean, all scored frames"
    cloud = draw_scatter(scores, importance, correlations, title)
    images = [
        _save(bars, directory / "accuracy.png", f"Bars: {what} of each model, with reference lines"),
        _save(dots, directory / "videos.png", f"Dots: {what} of each model on each video"),
        _save(cloud, directory / "scatter.png", "Scatter: predicted importance against the annotators' mean"),
    ]
    first = results[0]
    for place, other in enumerate(results[1:], start=1):
        a, b = (np.array([one.rows[video]["spearman"] for video in first.rows]) for one in (first, other))
        pair = draw_pairs(a, b, (first.name, other.name), "Spearman's rho with the annotators' mean, a point per video")
        alt = f"Scatter: {other.name} against {first.name}, a point per video"
        images.append(_save(pair, directory / f"pair-{place}.png", alt))
    if costs:
        tradeoff = draw_tradeoff(
            {name: 1e3 * costs[name].get("seconds_1", np.nan) for name in costs},
            {name: means[name][metric] for name in costs},
            intervals,
            {name: costs[name]["params_total"] / 1e6 for name in costs},
            "Accuracy against latency",
            METRICS[metric].split(",")[0],
        )
        alt = "Accuracy against milliseconds per video, discs by parameters"
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


def keyshot_keyframes(scores: FloatArray, video: EvalVideo) -> npt.NDArray[np.int64]:
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
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return ImageFile(path, alt)
