"""Figures of importance along a video.

Rank metrics compare orders, so all curves are drawn as ranks within the video, from 0 (least) to 1 (most).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy.stats import rankdata

from keyframe import drawing as style
from keyframe.types import Float64Array, FloatArray, IntArray, UInt8Array

POINTS = 400  # on a curve; of more, neighbours are drawn as their mean

Thumbnail = tuple[float, UInt8Array]

_THUMBNAIL, _STEM = 0.7, 0.12  # inches: height of a thumbnail, and of the line from it to its time


@dataclass(frozen=True)
class Prediction:
    """A model's scores of one video's frames, beside its labels; all scores are in [0, 1]."""

    video: str
    seconds: FloatArray  # (T,)
    scores: FloatArray  # (T,)
    importance: FloatArray  # the annotators' mean, (T,)
    annotators: FloatArray  # (A, T); A may be 0
    spearman: float  # rho of scores and importance; NaN if it is not defined


def draw_curves(predictions: Sequence[Prediction], title: str = "") -> Figure:
    """One row per video: the model's curve over the annotators' mean and the middle half of them."""
    figure = style.sheet(title, 2.2 * len(predictions))
    axes = figure.subplots(len(predictions), 1, squeeze=False)[:, 0]
    for axis, one in zip(axes, predictions, strict=True):
        _draw_annotators(style.dress(axis), one.seconds, one.importance, one.annotators)
        _draw_model(axis, one.seconds, one.scores, style.PALETTE[0])
        text = f"{one.video}   Spearman {style.two_digits(one.spearman)}"
        axis.set_title(style.drawable(text), loc="left", size=style.TEXT, parse_math=False)
        axis.margins(x=0)
    axes[-1].set_xlabel("seconds")
    handles, labels = _annotator_key(any(len(one.annotators) > 1 for one in predictions))
    style.key(figure, [Line2D([], [], color=style.PALETTE[0], linewidth=1.8), *handles], ["model", *labels])
    return figure


def draw_video(
    video: str,
    seconds: FloatArray,
    scores: Mapping[str, FloatArray],
    spearman: Mapping[str, float],
    annotators: FloatArray,
    importance: FloatArray,
    keyframes: Mapping[str, IntArray],
    thumbnails: Sequence[Thumbnail],
    shots: Sequence[float] | FloatArray = (),
) -> Figure:
    """Curves of all models over the annotators, each model's keyframes, and a strip of thumbnails.

    `seconds` (n,) do not decrease, `importance` (n,) is the annotators' mean, `annotators` (A, n) are each one's
    scores; A may be 0. By model there are the predicted importance (n,), its rho with the mean, and keyframes (k,),
    positions in the n frames. Of thumbnails as many as fit are shown; `shots` are where shots start, seconds (m,).
    """
    begin, end = float(seconds[0]), float(seconds[-1])
    span = (begin, end) if end > begin else (begin - 0.5, begin + 0.5)
    looks = style.look(scores)
    # More than two curves on one panel hide each other.
    panels = [[*scores]] if len(scores) <= 2 else [[name] for name in scores]
    heights = [2.6 if len(panels) == 1 else 1.3] * len(panels) + [style.LINE * max(len(keyframes), 1)]
    heights += [_THUMBNAIL + _STEM] if thumbnails else []
    figure = style.sheet(video, sum(heights) + 0.7)
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, names in zip(axes, panels, strict=False):
        style.dress(axis)
        axis.vlines(
            shots, -0.03, 1.03, color=style.FAINT, linewidth=0.7, alpha=style.shot_opacity(len(shots)), zorder=0
        )
        _draw_annotators(axis, seconds, importance, annotators)
        for name in names:
            _draw_model(axis, seconds, scores[name], looks[name][0])
        axis.set_xlim(span)
        axis.set_ylabel("importance (rank)" if len(panels) == 1 else "rank")
        axis.tick_params(bottom=False, labelbottom=False)
        axis.spines["bottom"].set_visible(False)
    ruler = style.dress(axes[len(panels)])
    for row, (name, chosen) in enumerate(keyframes.items()):
        colour, marker = looks[name]
        size = float(np.clip(72 * style.WIDTH / max(len(chosen), 1), 2.0, 6.0))
        ruler.plot(seconds[chosen], np.full(len(chosen), -row), marker, color=colour, markersize=size, clip_on=False)
    ruler.set_ylim(0.4 - max(len(keyframes), 1), 0.7)
    ruler.set_yticks([])
    ruler.spines["left"].set_visible(False)
    ruler.set_xlim(span)
    style.time_axis(ruler)

    handles: list[Artist] = [Line2D([], [], color=colour, marker=marker) for colour, marker in looks.values()]
    labels = [f"{name}   {style.two_digits(spearman[name])}" for name in scores]
    band_handles, band_labels = _annotator_key(len(annotators) > 1)
    style.key(figure, [*handles, *band_handles], [*labels, *band_labels], "Spearman rho with the annotators' mean:")
    if thumbnails:
        _draw_strip(axes[-1], thumbnails, span)
    return figure


def _draw_annotators(axis: Axes, seconds: FloatArray, importance: FloatArray, annotators: FloatArray) -> None:
    """The annotators' mean (T,), and the middle half of two or more annotators (A, T)."""
    times = _condense(seconds)
    if len(annotators) > 1:
        low, high = (_condense(row) for row in np.percentile(_rank_share(annotators), [25, 75], axis=0))
        axis.fill_between(times, low, high, step="mid", color=style.BAND, linewidth=0)
    axis.step(times, _condense(_rank_share(importance)), where="mid", color=style.MEAN)
    axis.set_ylabel("importance (rank)")
    axis.set_ylim(-0.03, 1.03)
    axis.set_yticks([0, 0.5, 1])


def _draw_model(axis: Axes, seconds: FloatArray, scores: FloatArray, colour: str) -> None:
    axis.plot(_condense(seconds), _condense(_rank_share(scores)), color=colour, linewidth=1.8)


def _annotator_key(band: bool) -> tuple[list[Artist], list[str]]:
    handles: list[Artist] = [Line2D([], [], color=style.MEAN), Patch(color=style.BAND)]
    return handles[: 1 + band], ["annotators' mean", "middle half of annotators"][: 1 + band]


def _rank_share(values: FloatArray) -> Float64Array:
    """Ranks along the last axis as a share of the video, in (0, 1); ties share their average."""
    ranks: Float64Array = rankdata(values, axis=-1)
    return (ranks - 0.5) / values.shape[-1]


def _condense(series: FloatArray) -> Float64Array:
    """Means of equal runs of neighbours, if a series (T,) is longer than `POINTS`."""
    values = np.asarray(series, dtype=np.float64)
    if len(values) <= POINTS:
        return values
    starts = np.arange(POINTS) * len(values) // POINTS
    return np.add.reduceat(values, starts) / np.diff(starts, append=len(values))


def _draw_strip(axis: Axes, thumbnails: Sequence[Thumbnail], span: tuple[float, float]) -> None:
    """As many thumbnails as fit side by side, each below its time; the axes' unit is an inch."""
    axis.set_axis_off()
    across, up = style.size_of(axis)
    tall = up - _STEM
    times = across * (np.array([time for time, _ in thumbnails]) - span[0]) / (span[1] - span[0])
    widths = np.array([min(across, tall * image.shape[1] / image.shape[0]) for _, image in thumbnails])
    lefts = np.clip(times - widths / 2, 0, across - widths)
    for index in side_by_side(lefts, lefts + widths, gap=0.04):
        left, width, image = lefts[index], widths[index], thumbnails[index][1]
        height = width * image.shape[0] / image.shape[1]
        axis.imshow(image, extent=(left, left + width, tall - height, tall), aspect="auto")
        foot = np.clip(times[index], left, left + width)
        axis.plot([times[index], foot], [up, tall], color="0.6", linewidth=1, clip_on=False)
    axis.set_xlim(0, across)
    axis.set_ylim(0, up)


def side_by_side(lefts: FloatArray, rights: FloatArray, gap: float = 0.0) -> list[int]:
    """Positions of evenly spread intervals (ends (N,)), as many as possible with `gap` between two, left to right."""
    middles = (lefts + rights) / 2
    for count in range(len(lefts), 0, -1):
        wanted = lefts.min() + (np.arange(count) + 0.5) / count * (rights.max() - lefts.min())
        chosen = np.unique(np.abs(middles[:, None] - wanted).argmin(axis=0))
        chosen = chosen[np.argsort(lefts[chosen])]
        if np.all(rights[chosen[:-1]] + gap <= lefts[chosen[1:]]):
            return [int(index) for index in chosen]
    return []
