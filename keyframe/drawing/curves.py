"""Pictures of importance along a video.

One video on a sheet: what models and people think of it over time, what it shows, what each model would keep.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter
from scipy.stats import rankdata

from keyframe.drawing.plots import side_by_side
from keyframe.drawing.style import (
    BAND,
    FAINT,
    MEAN,
    PALETTE,
    TEXT,
    WIDTH,
    dress,
    key,
    key_columns,
    look,
    panel,
    sheet,
    two_digits,
)
from keyframe.files import format_clock
from keyframe.types import FloatArray, IntArray

# More points than this on a curve are a block of ink: neighbours are drawn as their mean.
POINTS = 400


@dataclass(frozen=True)
class Prediction:
    """What a model said of one video, beside what people said.

    Attributes:
        video: id.
        seconds: time of each frame, (T,).
        scores: predicted importance in [0, 1], (T,).
        importance: the annotators' mean in [0, 1], (T,).
        annotators: each annotator's scores in [0, 1], (A, T); A may be 0.
        spearman: rho of the scores with the annotators' mean; NaN if it is not defined.
    """

    video: str
    seconds: FloatArray
    scores: FloatArray
    importance: FloatArray
    annotators: FloatArray
    spearman: float


def draw_curves(predictions: Sequence[Prediction], title: str = "") -> Figure:
    """One row a video: the model's curve over the annotators' mean and the middle half of them.

    Rank metrics compare orders, so both curves are drawn as ranks within the video, from 0 (least) to 1 (most).
    """
    figure = Figure(figsize=(9, 0.5 + 2.2 * len(predictions)), layout="constrained", facecolor="white")
    axes = figure.subplots(len(predictions), 1, squeeze=False)[:, 0]
    for axis, one in zip(axes, predictions, strict=True):
        dress(axis)
        draw_people(axis, one.seconds, one.importance, one.annotators)
        draw_model(axis, one.seconds, one.scores, PALETTE[0], "model")
        axis.set_title(f"{one.video}   Spearman {two_digits(one.spearman)}", loc="left", fontsize=10, parse_math=False)
        axis.margins(x=0)
    axes[-1].set_xlabel("seconds")
    # The fullest key is that of the row with most annotators.
    fullest = axes[int(np.argmax([len(one.annotators) for one in predictions]))]
    figure.legend(
        *fullest.get_legend_handles_labels(), loc="outside lower right", ncols=3, frameon=False, fontsize=TEXT
    )
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, parse_math=False)
    return figure


def draw_people(axis: Axes, seconds: FloatArray, importance: FloatArray, annotators: FloatArray) -> None:
    """Draws what people said as ranks within the video: their mean, and from 2 annotators on the middle half of them.

    Args:
        axis: where to draw.
        seconds: time of each frame, (T,).
        importance: the annotators' mean, (T,).
        annotators: each annotator's scores, (A, T); A may be 0.
    """
    times = condense(seconds)
    if len(annotators) > 1:
        low, high = np.percentile(rank_share(annotators), [25, 75], axis=0)
        axis.fill_between(
            times, condense(low), condense(high), step="mid", color=BAND, linewidth=0, label="middle half of annotators"
        )
    axis.step(times, condense(rank_share(importance)), where="mid", color=MEAN, label="annotators' mean")
    axis.set_ylabel("importance (rank)")
    axis.set_ylim(-0.03, 1.03)
    axis.set_yticks([0, 0.5, 1])


def draw_model(axis: Axes, seconds: FloatArray, scores: FloatArray, colour: str, label: str) -> None:
    """Draws a model's scores (T,) at `seconds` (T,) as ranks within the video."""
    axis.plot(condense(seconds), condense(rank_share(scores)), color=colour, linewidth=1.8, label=label)


def rank_share(values: FloatArray) -> npt.NDArray[np.float64]:
    """Ranks along the last axis as a share of the video, in (0, 1); ties share their average."""
    ranks: npt.NDArray[np.float64] = rankdata(values, axis=-1)
    return (ranks - 0.5) / values.shape[-1]


def condense(series: FloatArray) -> npt.NDArray[np.float64]:
    """Means of equal runs of neighbours, at most `POINTS` of them; a series (T,) no longer than that stays itself."""
    values = np.asarray(series, dtype=np.float64)
    if len(values) <= POINTS:
        return values
    starts = np.arange(POINTS) * len(values) // POINTS
    return np.add.reduceat(values, starts) / np.diff(starts, append=len(values))


Thumbnail = tuple[float, npt.NDArray[np.uint8]]

_LEFT, _RIGHT = 0.7, 0.35
_ACROSS = WIDTH - _LEFT - _RIGHT
_ROW = 0.17  # a model's row of keyframes
_CURVES = 2.6  # height of the panel of one or two models; of several it is half of that
_PICTURE, _STEM = 0.7, 0.12  # height of a thumbnail, and of the line from it to its time
_STEPS = np.array([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400])


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
    """Curves of all models over the annotators, the keyframes each model selects, and a strip of pictures.

    Rank metrics compare orders, so all curves are drawn as ranks within the video, from 0 (least) to 1 (most).

    Args:
        video: its name.
        seconds: time of each frame, not decreasing, (n,).
        scores: by model, predicted importance of each frame, (n,). A model's colour and marker go by its place here.
        spearman: by model, rho of its scores with the annotators' mean.
        annotators: each annotator's scores, (A, n); A may be 0, then there is no band.
        importance: the annotators' mean, (n,).
        keyframes: by model, the positions into the n frames that it selects, (k,).
        thumbnails: times in seconds and uint8 RGB pictures (h, w, 3). As many as fit are shown.
        shots: where shots start, seconds, (m,).

    Raises:
        ValueError: if there is no frame, or a series is not as long as `seconds`.
    """
    count = len(seconds)
    if count == 0 or any(np.shape(row) != (count,) for row in (*scores.values(), importance, *annotators)):
        raise ValueError(f"every series of {video!r} must have {count} numbers, one a frame and at least one")
    begin, end = float(seconds[0]), float(seconds[-1])
    span = (begin, end) if end > begin else (begin - 0.5, begin + 0.5)
    looks = look(scores)
    labels = [f"{name}   {two_digits(spearman[name])}" for name in scores]
    labels += ["annotators' mean", *["middle half of annotators"] * (len(annotators) > 1)]
    handles: list[Artist] = [Line2D([], [], color=colour, marker=marker) for colour, marker in looks.values()]
    handles += [Line2D([], [], color=MEAN), Patch(color=BAND)][: len(labels) - len(looks)]

    # More than two curves on one panel hide each other.
    panels = [[*scores]] if len(scores) <= 2 else [[name] for name in scores]
    tall = _CURVES if len(panels) == 1 else _CURVES / 2
    strip = _PICTURE + _STEM if thumbnails else 0.0
    bottom = 0.1 + strip + 0.42
    rows = _ROW * len(keyframes) + 0.1
    top = bottom + rows + len(panels) * tall
    height = top + key_columns(labels)[1]
    figure = sheet(video, height, "Spearman rho with the annotators' mean:")
    key(figure, handles, labels, height)
    for place, names in enumerate(panels):
        axis = panel(figure, _LEFT, top - (place + 1) * tall, _ACROSS, tall - 0.1)
        axis.vlines(shots, -0.03, 1.03, color=FAINT, linewidth=0.7, alpha=min(1.0, 60 / max(len(shots), 1)), zorder=0)
        draw_people(axis, seconds, importance, annotators)
        for name in names:
            draw_model(axis, seconds, scores[name], looks[name][0], name)
        axis.set_xlim(span)
        axis.set_ylabel("importance (rank)" if len(panels) == 1 else "rank", size=TEXT)
        axis.tick_params(bottom=False, labelbottom=False)
        axis.spines["bottom"].set_visible(False)
    ruler = panel(figure, _LEFT, bottom, _ACROSS, rows)
    _draw_keyframes(ruler, seconds, keyframes, looks)
    ruler.set_xlim(span)
    time_axis(ruler)
    if thumbnails:
        _draw_strip(panel(figure, _LEFT, 0.1, _ACROSS, strip), thumbnails, span)
    return figure


def _draw_keyframes(
    axis: Axes, seconds: FloatArray, keyframes: Mapping[str, IntArray], looks: Mapping[str, tuple[str, str]]
) -> None:
    """A row of markers a model, the first on top; smaller ones where there are many."""
    for row, (name, chosen) in enumerate(keyframes.items()):
        colour, marker = looks[name]
        size = float(np.clip(72 * _ACROSS / max(len(chosen), 1), 2.0, 6.0))
        axis.plot(
            seconds[chosen], np.full(len(chosen), -row), marker, color=colour, markersize=size, mew=0, clip_on=False
        )
    axis.set_ylim(0.4 - max(len(keyframes), 1), 0.7)
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)


def _draw_strip(axis: Axes, thumbnails: Sequence[Thumbnail], span: tuple[float, float]) -> None:
    """As many pictures as fit side by side, each below its time; axes in inches."""
    axis.set_axis_off()
    times = _ACROSS * (np.array([time for time, _ in thumbnails]) - span[0]) / (span[1] - span[0])
    widths = np.array([min(_ACROSS, _PICTURE * picture.shape[1] / picture.shape[0]) for _, picture in thumbnails])
    lefts = np.clip(times - widths / 2, 0, _ACROSS - widths)
    for index in side_by_side(lefts, lefts + widths, gap=0.04):
        left, width = lefts[index], widths[index]
        picture = thumbnails[index][1]
        height = width * picture.shape[0] / picture.shape[1]
        axis.imshow(picture, extent=(left, left + width, _PICTURE - height, _PICTURE), aspect="auto")
        foot = np.clip(times[index], left, left + width)
        axis.plot([times[index], foot], [_PICTURE + _STEM, _PICTURE], color="0.6", linewidth=1, clip_on=False)
    axis.set_xlim(0, _ACROSS)
    axis.set_ylim(0, _PICTURE + _STEM)


def time_axis(axis: Axes) -> None:
    """Labels the horizontal axis with seconds below two minutes, else with hours, minutes and seconds."""
    begin, end = axis.get_xlim()
    step = float(_STEPS[np.searchsorted(_STEPS, (end - begin) / 9).clip(max=len(_STEPS) - 1)])
    axis.xaxis.set_major_locator(FixedLocator((np.arange(np.ceil(begin / step), end / step + 1e-9) * step).tolist()))
    if end - begin < 120:
        axis.set_xlabel("seconds", size=TEXT)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axis.set_xlabel("time", size=TEXT)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_clock(value)))
