"""Clouds of points: scores against people, a model against another, accuracy against latency."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from keyframe.drawing.style import (
    FAINT,
    INK,
    TEXT,
    WIDTH,
    line_height,
    look,
    panel,
    sheet,
    two_digits,
    wrap,
)
from keyframe.evaluation.metrics import spearman
from keyframe.types import FloatArray

# More points than this hide each other: their density is drawn.
_POINTS = 1000


def draw_scatter(scores: Mapping[str, FloatArray], importance: FloatArray, title: str) -> Figure:
    """A panel a model: predicted importance against the annotators' mean, over all frames of all videos.

    Args:
        scores: by model, predicted importance, (N,); NaN is left out.
        importance: the annotators' mean of the same frames, (N,).
        title: what is shown.

    Raises:
        ValueError: if there is no model, or a model has not as many scores as there are frames.
    """
    if not scores or any(np.shape(values) != np.shape(importance) for values in scores.values()):
        raise ValueError("every model needs a score for every frame, and there must be one model at least")
    columns = min(len(scores), 3)
    cell = (WIDTH - 0.1) / max(columns, 2)
    names = {name: wrap(name, cell - 0.9) for name in scores}
    head = (max(name.count("\n") for name in names.values()) + 2) * line_height() + 0.1
    side = cell - 0.85
    rows = -(-len(scores) // columns)
    figure = sheet(title, rows * (head + side + 0.6), width=columns * cell + 0.1)
    for index, (name, values) in enumerate(scores.items()):
        row, column = divmod(index, columns)
        bottom = (rows - 1 - row) * (head + side + 0.6) + 0.55
        axis = panel(figure, 0.7 + column * cell, bottom, side, side)
        _draw_cloud(axis, values, importance, look(scores)[name][0])
        axis.set_xlabel("predicted importance", size=TEXT)
        axis.set_ylabel("annotators' mean" if column == 0 else "", size=TEXT)
        text = f"{names[name]}\nSpearman {two_digits(spearman(*_both(values, importance)))}"
        axis.set_title(text, loc="left", size=TEXT, color=INK, parse_math=False)
    return figure


def draw_pairs(a: FloatArray, b: FloatArray, names: tuple[str, str], title: str) -> Figure:
    """A point a video: model A's number across, model B's upwards; B is better above the diagonal.

    Args:
        a: model A's number of each video, (V,); a video where either is NaN is left out and counted.
        b: model B's, (V,).
        names: of A and B.
        title: what is shown.

    Raises:
        ValueError: if `a` and `b` differ in length.
    """
    if np.shape(a) != np.shape(b):
        raise ValueError(f"both models need a number for every video, not {np.shape(a)} and {np.shape(b)}")
    x, y = _both(a, b)
    left_out = len(a) - len(x)
    note = f"{names[1]} is better in {np.sum(y > x)} of {len(x)} videos (above the diagonal), "
    note += f"{names[0]} in {np.sum(y < x)}"
    note += f", equal: {np.sum(y == x)}" + (f", not defined: {left_out}" if left_out else "")
    figure = sheet(title, 6.25, note, width=6.6)
    axis = panel(figure, 0.8, 0.55, 5.6, 5.6)
    low, high = (min(x.min(), y.min()), max(x.max(), y.max())) if len(x) else (0.0, 1.0)
    margin = 0.05 * (high - low) or 0.5
    limits = (low - margin, high + margin)
    axis.plot(limits, limits, color="0.6", linewidth=1)
    axis.grid(color=FAINT, linewidth=0.5)
    axis.set_axisbelow(True)
    axis.scatter(x, y, s=34, color=look(names)[names[0]][0], alpha=0.75, linewidths=0)
    axis.set_xlim(limits)
    axis.set_ylim(limits)
    axis.set_xlabel(names[0], size=TEXT, parse_math=False)
    axis.set_ylabel(names[1], size=TEXT, parse_math=False)
    return figure


def _draw_cloud(axis: Axes, values: FloatArray, importance: FloatArray, colour: str) -> None:
    x, y = _both(values, importance)
    if len(x) > _POINTS:
        fade = LinearSegmentedColormap.from_list("fade", ["#f4f4f4", colour])
        axis.hexbin(x, y, gridsize=32, bins="log", mincnt=1, cmap=fade, linewidths=0)
    else:
        axis.scatter(x, y, s=14, color=colour, alpha=0.5, linewidths=0)


def _both(a: FloatArray, b: FloatArray) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The pairs of which both numbers are finite."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    defined = np.isfinite(x) & np.isfinite(y)
    return x[defined], y[defined]
