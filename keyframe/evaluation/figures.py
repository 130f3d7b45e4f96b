"""The pictures of an evaluation or a comparison, drawn into a folder for its report."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from keyframe.drawing.curves import draw_video
from keyframe.drawing.plots import draw_bars, draw_pairs, draw_per_video, draw_scatter, draw_tradeoff
from keyframe.evaluation.keyshot import hold_scores, keyshots
from keyframe.evaluation.metrics import spearman
from keyframe.evaluation.results import METRICS, ModelResult
from keyframe.evaluation.video import EvalVideo
from keyframe.report.document import ImageFile, Section
from keyframe.types import FloatArray

# The few lines that a bar chart can carry.
_LINES = ("random", "one_annotator", "other_annotators", "ceiling")

Thumbnails = Callable[[str, Sequence[float]], Sequence[tuple[float, npt.NDArray[np.uint8]]]]


def keyframes(scores: FloatArray, subject: EvalVideo) -> npt.NDArray[np.int64]:
    """The best entry of each shot that the keyshot summary keeps, rising, (k,)."""
    kept = keyshots(hold_scores(scores, subject.entries, subject.n_frames), subject.shots)
    chosen = []
    for first, last in subject.shots[kept[subject.shots[:, 0]]]:
        inside = np.flatnonzero((subject.entries >= first) & (subject.entries <= last))
        if len(inside):
            chosen.append(inside[np.argmax(scores[inside])])
    return np.array(chosen, dtype=np.int64)


def chosen_videos(study: ModelResult, count: int) -> list[str]:
    """Videos to draw, from the best to the worst of the model's, evenly spaced in between."""
    order = sorted(study.rows, key=lambda video: -np.nan_to_num(study.rows[video]["spearman"], nan=-2.0))
    places = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    return [order[place] for place in places]


def accuracy_pictures(
    studies: Sequence[ModelResult],
    means: Mapping[str, Mapping[str, float]],
    baseline: Mapping[str, float],
    reference: Mapping[str, float],
    subjects: Mapping[str, EvalVideo],
    directory: Path,
) -> Section:
    """Bars beside the reference lines, a dot a video, and predictions against labels."""
    every = {**means, "training-free baseline": baseline}
    # without annotators there is the reference track only
    metric = "annotator_spearman" if np.isfinite(baseline["annotator_spearman"]) else "spearman"
    what = "Spearman's rho with each annotator" if metric.startswith("annotator") else "Spearman's rho"
    bars = draw_bars(
        {name: values[metric] for name, values in every.items()},
        {name: (values[f"{metric}_lo"], values[f"{metric}_hi"]) for name, values in every.items()},
        {line.replace("_", " "): reference.get(f"reference/{line}/spearman", np.nan) for line in _LINES},
        f"{what}, mean over videos",
        what,
    )
    videos = list(studies[0].rows)
    dots = draw_per_video(
        {video: [one.rows[video][metric] for one in studies] for video in videos},
        [one.name for one in studies],
        "Each video",
        what,
    )
    importance = np.concatenate([subjects[video].importance for video in videos])
    scores = {one.name: np.concatenate([one.scores[video] for video in videos]) for one in studies}
    cloud = draw_scatter(
        scores,
        importance,
        {name: spearman(values, importance) for name, values in scores.items()},
        "Predicted importance and the annotators' mean, all scored frames",
    )
    pictures = [
        save(bars, directory / "accuracy.png", f"Bars: {what} of each model, with reference lines"),
        save(dots, directory / "videos.png", f"Dots: {what} of each model on each video"),
        save(cloud, directory / "scatter.png", "Scatter: predicted importance against the annotators' mean"),
    ]
    return Section("Pictures", pictures)


def pair_pictures(studies: Sequence[ModelResult], directory: Path) -> list[ImageFile]:
    """Each model against the first, a point a video."""
    first = studies[0]
    pictures = []
    for place, other in enumerate(studies[1:], start=1):
        a, b = (np.array([one.rows[video]["spearman"] for video in first.rows]) for one in (first, other))
        figure = draw_pairs(a, b, (first.name, other.name), "Spearman's rho with the annotators' mean, a point a video")
        alt = f"Scatter: {other.name} against {first.name}, a point a video"
        pictures.append(save(figure, directory / f"pair-{place}.png", alt))
    return pictures


def tradeoff_picture(
    means: Mapping[str, Mapping[str, float]], costs: Mapping[str, Mapping[str, float]], directory: Path
) -> ImageFile:
    """Accuracy against the time for one video, discs by parameters."""
    known = all(np.isfinite(means[name]["annotator_spearman"]) for name in costs)
    metric = "annotator_spearman" if known else "spearman"
    figure = draw_tradeoff(
        {name: 1e3 * costs[name].get("seconds_1", np.nan) for name in costs},
        {name: means[name][metric] for name in costs},
        {name: (means[name][f"{metric}_lo"], means[name][f"{metric}_hi"]) for name in costs},
        {name: costs[name]["params_total"] / 1e6 for name in costs},
        "Accuracy against latency",
        METRICS[metric].split(",")[0],
    )
    return save(figure, directory / "tradeoff.png", "Accuracy against milliseconds a video, discs by parameters")


def video_pictures(
    studies: Sequence[ModelResult],
    subjects: Mapping[str, EvalVideo],
    videos: Sequence[str],
    thumbnails: Thumbnails,
    directory: Path,
) -> Section:
    """Importance along a few videos: models over the annotators' band, thumbnails, chosen keyframes."""
    pictures = []
    for place, video in enumerate(videos):
        subject = subjects[video]
        scores = {one.name: one.scores[video] for one in studies}
        figure = draw_video(
            video,
            subject.seconds,
            scores,
            {name: spearman(values, subject.importance) for name, values in scores.items()},
            subject.annotators,
            subject.importance,
            {name: keyframes(values, subject) for name, values in scores.items()},
            thumbnails(video, np.linspace(subject.seconds[0], subject.seconds[-1], 12).tolist()),
            np.interp(subject.shots[:, 0], subject.entries, subject.seconds),
        )
        # a video's id may be anything: it becomes no file name
        pictures.append(save(figure, directory / f"video-{place:02d}.png", f"Importance along {video}"))
    return Section("Importance along videos", pictures)


def save(figure: Figure, path: Path, alt: str) -> ImageFile:
    """Write a figure as PNG and show it in a report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return ImageFile(path, alt)
