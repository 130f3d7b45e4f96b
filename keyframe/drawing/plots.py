"""Where things go so that none covers another; lengths in any one unit.

Numbers of models beside each other: bars with reference lines, a row a video.

Clouds of points: scores against people, a model against another, accuracy against latency.

What accuracy costs: a disc a model at its latency, as large as its parameters.

Parallel coordinates: how the parameters of many runs go with what came of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from keyframe.drawing.style import (
    FAINT,
    INK,
    MEAN,
    TEXT,
    WIDTH,
    key,
    key_columns,
    line_height,
    look,
    panel,
    sheet,
    shorten,
    text_width,
    tint,
    two_digits,
    wrap,
)
from keyframe.types import FloatArray

_STEPS = 100  # places tried along the longer side of a room


def side_by_side(lefts: FloatArray, rights: FloatArray, gap: float = 0.0) -> list[int]:
    """As many intervals as can be had of which no two are nearer than `gap`, and of those sets an even one.

    Args:
        lefts: where the intervals begin, (N,).
        rights: where they end, (N,).
        gap: what must stay free between two.

    Returns:
        Positions of the chosen, from left to right.
    """
    # Taking what begins last, from the right, gives a largest set; the n-th interval from the left of any such set
    # must end no later than the n-th of this one.
    latest: list[int] = []
    for index in np.argsort(-lefts, kind="stable"):
        if not latest or rights[index] + gap <= lefts[latest[-1]]:
            latest.append(int(index))
    chosen: list[int] = []
    middles = (lefts + rights) / 2
    for place, last in enumerate(reversed(latest)):
        wanted = lefts.min() + (place + 0.5) / len(latest) * np.ptp([lefts.min(), rights.max()])
        free = rights <= rights[last]
        if chosen:
            free &= lefts >= rights[chosen[-1]] + gap
        chosen.append(int(np.argmin(np.where(free, np.abs(middles - wanted), np.inf))))
    return chosen


def staircase(places: Sequence[float], widths: Sequence[float]) -> list[int]:
    """Floors for flags that fly to the right of their poles, so that no flag crosses another or a pole.

    Args:
        places: where the poles stand, increasing.
        widths: how far each flag reaches to the right of its pole.

    Returns:
        The floor of each flag, from 0: above every pole that it passes.
    """
    floors: list[int] = []
    for index in reversed(range(len(places))):
        reach = places[index] + widths[index]
        passed = [floor for place, floor in zip(places[index + 1 :], floors, strict=True) if place < reach]
        floors.insert(0, max(passed, default=-1) + 1)
    return floors


def place_labels(
    points: FloatArray, boxes: FloatArray, obstacles: FloatArray, bars: FloatArray, area: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """Lower left corners of labels, each as near to its point as it can be without covering an obstacle or a label.

    A line may lead from a point to its label. Detours are taken so that labels cover no line and no bar, lines
    cross no label and no obstacle but those that their points lie in, and no label stands nearly as close to another
    point as to its own. Crowded points choose first. Where there is no free place, the one that covers least is taken.

    Args:
        points: what the labels belong to, (N, 2).
        boxes: width and height of each label, (N, 2).
        obstacles: left, bottom, right, top of what must stay visible, (M, 4).
        bars: likewise of what better stays visible, (K, 4).
        area: width and height of the room from (0, 0) that labels must stay in.

    Returns:
        Left and bottom of each label, (N, 2).
    """
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)
    corners = np.zeros(points.shape)
    labels, lines = np.zeros((0, 4)), np.zeros((0, 4))
    step = max(area) / _STEPS
    detour = max(area) / 50  # what it costs to touch a line with a label, or a label with a point of a line
    for index in np.argsort(-np.exp(-gaps).sum(1), kind="stable"):
        point, box = points[index], boxes[index]
        room = np.maximum(np.array(area) - box, 0)
        grid = np.stack(np.meshgrid(*(np.arange(0, side + 1e-9, step) for side in room)), axis=-1).reshape(-1, 2)
        paths = point + np.linspace(0, 1, 11)[:, None, None] * (np.clip(point, grid, grid + box) - point)
        away = np.linalg.norm(paths[-1] - point, axis=-1)
        others = np.delete(points, index, axis=0)[:, None]
        nearest = np.linalg.norm(np.clip(others, grid, grid + box) - others, axis=-1).min(axis=0, initial=np.inf)
        cost = away + 6 * detour * (nearest < 2 * away)
        # Of places equally near, the one whose middle is: a label does not hang far to one side.
        cost += 0.1 * np.linalg.norm(grid + box / 2 - point, axis=-1)
        cost += 100 * max(area) * _touched(grid, grid + box, np.vstack([obstacles, labels]))
        cost += 6 * detour * _touched(grid, grid + box, bars)
        cost += detour * _touched(grid, grid + box, lines)
        inside = np.all((obstacles[:, :2] <= point) & (point <= obstacles[:, 2:]), axis=1)
        crossed = np.vstack([obstacles[~inside], labels])
        cost += detour * sum(_touched(stop, stop, crossed) for stop in paths)
        best = np.argmin(cost)
        corners[index] = grid[best]
        labels = np.vstack([labels, [*grid[best], *(grid[best] + box)]])
        lines = np.vstack([lines, np.tile(paths[:, best], 2)])
    return corners


def _touched(low: FloatArray, high: FloatArray, taken: FloatArray) -> npt.NDArray[np.int64]:
    """How many of the boxes `taken` (M, 4) each box from `low` to `high` (N, 2) touches, (N,)."""
    return np.all((low[:, None] <= taken[:, 2:]) & (high[:, None] >= taken[:, :2]), axis=-1).sum(1)


_NAMES = 2.4  # inches that names may take


def draw_bars(
    means: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    lines: Mapping[str, float],
    title: str,
    axis: str,
) -> Figure:
    """A bar a model with its interval, and what to hold it against (people, the ceiling, chance) as labelled lines.

    Args:
        means: by model; a NaN gets no bar.
        intervals: by model, lower and upper end; a model without one, or with a NaN in it, gets no error bar.
        lines: by label, a reference value; NaN is left out.
        title: what is shown.
        axis: what the numbers are.

    Raises:
        ValueError: if there is no model.
    """
    if not means:
        raise ValueError("bars need at least one model")
    names = [wrap(name, _NAMES) for name in means]
    spans = [intervals.get(name, (np.nan, np.nan)) for name in means]
    numbers = [_with_interval(mean, span) for mean, span in zip(means.values(), spans, strict=True)]
    marks = sorted((value, label) for label, value in lines.items() if np.isfinite(value))
    low, high = _limits([*means.values(), *np.ravel(spans), *(value for value, _ in marks)])

    left = 0.25 + max(text_width(name) for name in names)
    flags = [text_width(label) + 0.12 for _, label in marks]
    # A flag flies to the right of its line: the margin must hold what sticks out.
    shares = [min((high - value) / (high - low), 0.95) for value, _ in marks]
    sticking = [(flag - share * (WIDTH - left)) / (1 - share) for flag, share in zip(flags, shares, strict=True)]
    right = 0.1 + max(0.15 + max(map(text_width, numbers)), *sticking, 0.0)
    across = WIDTH - left - right
    places = [(value - low) / (high - low) * across for value, _ in marks]
    floors = staircase(places, flags)

    heights = [max(0.34, line_height() * (name.count("\n") + 1) + 0.1) for name in names]
    middles = np.cumsum(heights) - np.array(heights) / 2
    top = (max(floors) + 1) * line_height() + 0.05 if floors else 0.0
    figure = sheet(title, 0.55 + sum(heights) + 0.1 + top)
    plot = panel(figure, left, 0.55, across, sum(heights) + 0.1)
    plot.set_ylim(sum(heights), -0.1)
    plot.set_xlim(low, high)
    plot.grid(axis="x", color=FAINT, linewidth=0.5)
    plot.set_axisbelow(True)
    looks = look(means)
    for middle, (name, mean), span, number in zip(middles, means.items(), spans, numbers, strict=True):
        if np.isfinite(mean):
            plot.barh(middle, mean, height=0.22, color=tint(looks[name][0]), linewidth=0)
        if np.isfinite(span).all() and np.isfinite(mean):
            plot.plot(span, [middle, middle], color=INK, linewidth=1.4, marker="|", markersize=7)
        plot.text(
            1 + 0.12 / across, middle, number, transform=plot.get_yaxis_transform(), va="center_baseline", size=TEXT
        )
    for (value, label), floor in zip(marks, floors, strict=True):
        up = -0.1 - (floor + 0.9) * line_height()
        plot.plot([value, value], [sum(heights), up], color=MEAN, linestyle=(0, (4, 2)), linewidth=1, clip_on=False)
        plot.text(value + 0.06 / across * (high - low), up, label, size=TEXT, color=MEAN, va="top", parse_math=False)
    plot.axvline(0, color="0.6", linewidth=0.8)
    plot.spines["left"].set_visible(False)
    plot.locator_params(axis="x", nbins=7)
    plot.set_yticks(middles, names, parse_math=False)
    plot.tick_params(axis="y", length=0)
    plot.set_xlabel(axis, size=TEXT, parse_math=False)
    return figure


def draw_per_video(
    rows: Mapping[str, Sequence[float] | FloatArray], models: Sequence[str], title: str = "", axis: str = "Spearman rho"
) -> Figure:
    """A row a video and a dot a model, sorted by the mean over models, best on top; a dashed line at each model's mean.

    Args:
        rows: by video, a number a model in the order of `models`; NaN has no dot, a row of them says n/a.
        models: their names.
        title: what is shown.
        axis: what the numbers are.

    Raises:
        ValueError: if there is no video or no model, or a row has not one number a model.
    """
    table = np.array([*rows.values()], dtype=np.float64)
    if not models or table.shape != (len(rows), len(models)) or not len(rows):
        raise ValueError(f"every row must have {len(models)} numbers, one a model, and there must be one row at least")
    defined = np.isfinite(table)
    with np.errstate(invalid="ignore"):
        worth = np.where(defined, table, 0).sum(1) / defined.sum(1)
        means = np.where(defined, table, 0).sum(0) / defined.sum(0)
    order = np.argsort(-worth, kind="stable")  # NaN last
    table = table[order]
    names = [shorten(list(rows)[index], _NAMES) for index in order]
    labels = [
        f"{name}   mean {mean:.3f}" if np.isfinite(mean) else f"{name}   n/a"
        for name, mean in zip(models, means, strict=True)
    ]

    left = 0.2 + max(text_width(name) for name in names)
    tall = line_height() * len(rows) + 0.1
    ruler = 0.3 if len(rows) > 30 else 0.05  # a second scale on top of what is taller than a screen
    key_height = key_columns(labels)[1]
    figure = sheet(title, 0.55 + tall + ruler + key_height)
    plot = panel(figure, left, 0.55, WIDTH - left - 0.3, tall)
    plot.set_ylim(len(rows) - 0.4, -0.6)
    plot.set_xlim(_limits([*table.ravel()], zero=False))
    plot.grid(axis="x", color=FAINT, linewidth=0.5)
    plot.set_axisbelow(True)
    plot.axvline(0, color="0.6", linewidth=0.8)
    handles = []
    for row, values in enumerate(table):
        some = values[np.isfinite(values)]
        if len(some):
            plot.plot([some.min(), some.max()], [row, row], color=FAINT, linewidth=1.5, zorder=1)
        else:
            plot.text(0.01, row, "n/a", transform=plot.get_yaxis_transform(), va="center_baseline", size=TEXT)
    for index, (colour, marker) in enumerate(look(models).values()):
        plot.plot(table[:, index], np.arange(len(rows)), marker, color=colour, markersize=5.5, mew=0, alpha=0.9)
        plot.axvline(means[index], color=colour, linestyle=(0, (4, 2)), linewidth=1, zorder=0)
        handles.append(Line2D([], [], color=colour, marker=marker, linestyle="none"))
    plot.set_yticks(range(len(rows)), names, parse_math=False)
    plot.tick_params(axis="y", length=0)
    plot.tick_params(axis="x", labeltop=len(rows) > 30)
    plot.set_xlabel(axis, size=TEXT, parse_math=False)
    key(figure, handles, labels, 0.55 + tall + ruler + key_height)
    return figure


def _limits(values: Sequence[float], zero: bool = True) -> tuple[float, float]:
    """An axis that holds all defined values, and 0 if asked for, with a margin."""
    some = [value for value in values if np.isfinite(value)] + [0.0] * zero
    low, high = min(some, default=0.0), max(some, default=1.0)
    margin = 0.04 * (high - low) or 0.5
    return low - margin * (low < 0 or not zero), high + margin


def _with_interval(mean: float, span: tuple[float, float]) -> str:
    if not np.isfinite(mean):
        return "n/a"
    return f"{mean:.3f} [{span[0]:.3f}, {span[1]:.3f}]" if np.isfinite(span).all() else f"{mean:.3f}"


# More points than this hide each other: their density is drawn.
_POINTS = 1000


def draw_scatter(
    scores: Mapping[str, FloatArray], importance: FloatArray, spearman: Mapping[str, float], title: str
) -> Figure:
    """A panel a model: predicted importance against the annotators' mean, over all frames of all videos.

    Args:
        scores: by model, predicted importance, (N,); NaN is left out.
        importance: the annotators' mean of the same frames, (N,).
        spearman: by model, rho of the two over all frames; NaN if it is not defined.
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
        text = f"{names[name]}\nSpearman {two_digits(spearman[name])}"
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


_ACROSS, _UP = WIDTH - 1.2, 4.8  # inches of the axes
_ROOM = (_ACROSS - 0.1, _UP - 0.1)  # labels keep off the axes
_LARGEST = 0.28  # inches, radius of the largest disc


def draw_tradeoff(
    latency: Mapping[str, float],
    accuracy: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    sizes: Mapping[str, float],
    title: str,
    axis: str = "Spearman rho",
) -> Figure:
    """Accuracy against latency; the area of a disc goes with the number of parameters.

    Args:
        latency: by model, milliseconds a video, > 0.
        accuracy: by model; one without a finite latency or accuracy is left out and named in a note.
        intervals: by model, lower and upper end; one without, or with a NaN in it, gets no error bar.
        sizes: by model, million parameters.
        title: what is shown.
        axis: what the accuracy is.
    """
    drawn = [name for name in latency if _drawable(latency[name], accuracy.get(name, np.nan))]
    missing = [name for name in latency if name not in drawn]
    note = "area of a disc: parameters" + (f"; without latency or accuracy: {', '.join(missing)}" if missing else "")
    figure = sheet(title, _UP + 0.7, note)
    plot = panel(figure, 0.8, 0.6, _ACROSS, _UP)
    plot.grid(color=FAINT, linewidth=0.5)
    plot.set_axisbelow(True)
    plot.set_xlabel("milliseconds a video", size=TEXT)
    plot.set_ylabel(axis, size=TEXT, parse_math=False)
    if not drawn:
        return figure
    x, y = np.array([latency[name] for name in drawn]), np.array([accuracy[name] for name in drawn])
    spans = np.array([intervals.get(name, (np.nan, np.nan)) for name in drawn])
    spans = np.where(np.isfinite(spans).all(1, keepdims=True), spans, y[:, None])
    area = np.array([sizes.get(name, np.nan) for name in drawn])
    radii = _radii(area)
    _set_scales(plot, x, np.append(spans, y))

    looks = look(latency)
    for name, across, up, span, radius in zip(drawn, x, y, spans, radii, strict=True):
        colour = looks[name][0]
        plot.plot([across, across], span, "_-", color=colour, linewidth=1.4, markersize=8 if np.ptp(span) else 0)
        plot.plot(across, up, "o", color=colour, markersize=144 * radius, alpha=0.75, mew=0)

    def inches(heights: FloatArray) -> npt.NDArray[np.float64]:
        places = plot.transData.transform(np.stack([x, heights], axis=1))
        return np.asarray((places - plot.transAxes.transform((0, 0))) / figure.dpi)

    centres = inches(y)
    cap = np.array([0.06, 0.0])
    bars = np.concatenate([inches(spans[:, 0]) - cap, inches(spans[:, 1]) + cap], axis=1)
    discs = np.concatenate([centres - radii[:, None], centres + radii[:, None]], axis=1)
    texts = [wrap(name, 2.2) + (f"\n{a:.3g} M" if np.isfinite(a) else "") for name, a in zip(drawn, area, strict=True)]
    boxes = np.array([(text_width(text) + 0.06, line_height() * (text.count("\n") + 1)) for text in texts])
    corners = 0.06 + place_labels(centres - 0.06, boxes, discs - 0.06, bars - 0.06, _ROOM)
    for text, centre, corner, box, radius in zip(texts, centres, corners, boxes, radii, strict=True):
        near = np.clip(centre, corner, corner + box)
        away = np.linalg.norm(near - centre)
        if away > radius + 0.15:
            line = np.stack([centre + (near - centre) * radius / away, near]) / (_ACROSS, _UP)
            plot.plot(*line.T, transform=plot.transAxes, color=MEAN, linewidth=0.7)
        left, bottom = corner / (_ACROSS, _UP)
        plot.text(left, bottom, text, transform=plot.transAxes, size=TEXT, color=INK, va="bottom", parse_math=False)
    return figure


def _drawable(latency: float, accuracy: float) -> bool:
    return bool(np.isfinite([latency, accuracy]).all()) and latency > 0


def _radii(area: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Inches; a disc of unknown size is a dot."""
    known = np.where(area > 0, area, 0.0)
    radii: npt.NDArray[np.float64] = np.maximum(_LARGEST * np.sqrt(known / (known.max() or 1.0)), 0.05)
    return radii


def _set_scales(plot: Axes, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> None:
    """Limits that hold all discs; latencies that differ more than tenfold stand on a logarithmic scale."""
    plot.set_ylim(_padded(y, _UP, 0.6))
    if x.max() <= 10 * x.min():
        plot.set_xlim(_padded(x, _ACROSS, 0.5))
        return
    plot.set_xscale("log")
    low, high = np.exp(_padded(np.log(x), _ACROSS, 0.5))
    plot.set_xlim(low, high)
    plot.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 2000 * low else (1,)))
    plot.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    plot.xaxis.set_minor_formatter(NullFormatter())


def _padded(values: npt.NDArray[np.float64], inches: float, room: float) -> tuple[float, float]:
    """Limits of an axis so many inches long that leave room at both ends, for discs and labels."""
    low, high = float(values.min()), float(values.max())
    if high == low:
        low, high = low - 0.05 * (abs(low) or 1), high + 0.05 * (abs(high) or 1)
    margin = (high - low) * room / (inches - 2 * room)
    return low - margin, high + margin


_PARALLEL_UP = 4.2  # inches of an axis
_GAP = 1.15  # inches between two axes, at least
_SIDE = 0.75  # inches left of the first axis and right of the last
_BAND = 0.05  # half of what lines through one value may spread, in parts of an axis
_LEVELS = 6  # so many different numbers are all labelled, if they are round

_COLOURS = LinearSegmentedColormap.from_list("worth", ["#d9e3ec", "#56b4e9", "#004488"])
_NO_VALUE = "#d1495b"


@dataclass(frozen=True)
class _Scale:
    """Where the values of one axis lie, from 0 (bottom) to 1, and its labels."""

    places: npt.NDArray[np.float64]
    ticks: Mapping[str, float]


def draw_parallel(settings: Sequence[Mapping[str, str]], values: Sequence[float], title: str, axis: str) -> Figure:
    """A line a run through its parameters to its value; colour is the value too, the best run is a bold line.

    Numbers stand on a linear scale, or on a logarithmic one where they would crowd at its lower end (learning rates);
    words stand in the order of their first appearance. Lines through one value are spread a little, better ones up.

    Args:
        settings: by run, parameter -> value; all runs together have one parameter at least.
        values: by run; a run with NaN is a dashed line that ends before the last axis.
        title: what is shown.
        axis: what the values are; larger is better.

    Raises:
        ValueError: if there is no parameter, or not one value a run.
    """
    names = list(dict.fromkeys(name for run in settings for name in run))
    worth = np.asarray(values, dtype=np.float64)
    if not names or worth.shape != (len(settings),):
        raise ValueError("parallel coordinates need a parameter at least, and a value for every run")
    scales = [_scale([run.get(name, "") for run in settings], worth) for name in names]
    known = np.isfinite(worth)
    last = _number_scale(worth[known], may_bend=False) if known.any() else _Scale(np.zeros(0), {})

    width = max(WIDTH, 2 * _SIDE + _GAP * len(names))
    gap = (width - 2 * _SIDE) / len(names)
    heads = [wrap(name, gap - 0.15) for name in [*names, axis]]
    head = (1 + max(text.count("\n") for text in heads)) * line_height() + 0.1
    figure = sheet(title, _PARALLEL_UP + head + 0.2, _note(known), width)
    plot = panel(figure, 0.0, 0.15, width, _PARALLEL_UP)
    plot.set_axis_off()
    plot.set_xlim(-_SIDE / gap, len(names) + _SIDE / gap)
    plot.set_ylim(-0.02, 1.02)

    _draw_lines(plot, np.stack([scale.places for scale in scales]), worth, last)
    strip = 0.12 / gap
    plot.imshow(
        np.linspace(0, 1, 64)[:, None],
        extent=(len(names), len(names) + strip, 0, 1),
        cmap=_COLOURS,
        origin="lower",
        aspect="auto",
        zorder=3,
    )
    for place, (text, scale) in enumerate(zip(heads, [*scales, last], strict=True)):
        plot.plot([place, place], [0, 1], color=INK, linewidth=1, zorder=4)
        plot.text(
            place,
            1 + 0.1 / _PARALLEL_UP,
            text,
            size=TEXT,
            color=INK,
            ha="center",
            va="bottom",
            parse_math=False,
            clip_on=False,
        )
        after = strip if place == len(names) else 0.0
        room = _SIDE - 0.3 if place == len(names) else gap - 0.3
        for label, height in scale.ticks.items():
            _draw_tick(plot, place + after, height, shorten(label, room), gap)
    return figure


def _draw_lines(plot: Axes, places: npt.NDArray[np.float64], worth: npt.NDArray[np.float64], last: _Scale) -> None:
    """One smooth line a run, the worst first so that the best lie on top."""
    known = np.isfinite(worth)
    ends = np.full(len(worth), np.nan)
    ends[known] = last.places
    colours = Normalize(*_parallel_limits(worth[known])) if known.any() else Normalize(0, 1)
    best = int(np.nanargmax(worth)) if known.any() else -1
    for run in np.argsort(np.where(known, worth, -np.inf), kind="stable"):
        heights = np.append(places[:, run], ends[run]) if known[run] else places[:, run]
        if len(heights) < 2:
            continue
        colour = _COLOURS(colours(worth[run])) if known[run] else _NO_VALUE
        style = "solid" if known[run] else (0, (4, 2))
        line = LineCollection(
            [_smooth(heights)], colors=[colour], linewidths=3.0 if run == best else 1.3, linestyles=[style], zorder=2
        )
        plot.add_collection(line)


def _draw_tick(plot: Axes, place: float, height: float, text: str, gap: float) -> None:
    plot.plot([place, place + 0.06 / gap], [height, height], color=INK, linewidth=1, zorder=4)
    box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1.0}
    plot.text(place + 0.1 / gap, height, text, size=TEXT, color=INK, va="center", bbox=box, zorder=5, parse_math=False)


def _scale(texts: Sequence[str], worth: npt.NDArray[np.float64]) -> _Scale:
    """A parameter's axis: of numbers if all are numbers, else of words."""
    try:
        scale = _number_scale(np.array([float(text) for text in texts]))
    except ValueError:
        words = list(dict.fromkeys(texts))
        heights = (np.arange(len(words)) + 0.5) / len(words)
        scale = _Scale(
            np.array([heights[words.index(text)] for text in texts]),
            {word or "(not set)": float(height) for word, height in zip(words, heights, strict=True)},
        )
    return _Scale(_spread(scale.places, worth), scale.ticks)


def _number_scale(numbers: npt.NDArray[np.float64], may_bend: bool = True) -> _Scale:
    """Finite numbers; positive ones that crowd at the lower end of a linear scale stand on a logarithmic one."""
    if not np.isfinite(numbers).all():
        raise ValueError("not all are numbers")
    levels = np.unique(numbers)
    crowded = (np.median(levels) - levels[0]) < 0.3 * np.ptp(levels)
    logarithmic = may_bend and levels[0] > 0 and crowded
    bend: Callable[[Any], npt.NDArray[np.float64]] = np.log if logarithmic else np.asarray
    low, high = _parallel_limits(bend(levels))

    def at(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return np.asarray(0.04 + 0.92 * (bend(values) - low) / (high - low))

    marks: Sequence[float] = levels.tolist()
    if len(levels) > _LEVELS or any(f"{level:.4g}" != f"{level:.12g}" for level in marks):
        locator = LogLocator(subs=(1, 2, 5)) if logarithmic else MaxNLocator(6)
        marks = locator.tick_values(levels[0], levels[-1])
    heights = at(marks)
    shown: dict[str, float] = {}
    for mark, height in zip(marks, heights, strict=True):
        free = all(abs(height - other) > 1.1 * line_height() / _PARALLEL_UP for other in shown.values())
        if -1e-9 <= height <= 1 + 1e-9 and free:
            shown[f"{mark:.6g}"] = float(height)
    return _Scale(at(numbers), shown)


def _parallel_limits(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _spread(places: npt.NDArray[np.float64], worth: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Move what shares a place apart, better runs up, by less than half the way to the next place."""
    levels = np.unique(places)
    band = min(_BAND, 0.3 * float(np.diff(levels).min())) if len(levels) > 1 else _BAND
    moved = places.copy()
    for level in levels:
        (runs,) = np.nonzero(places == level)
        runs = runs[np.argsort(np.where(np.isfinite(worth[runs]), worth[runs], -np.inf), kind="stable")]
        moved[runs] += np.linspace(-band, band, len(runs)) if len(runs) > 1 else 0.0
    return moved


def _smooth(heights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Points of a line that crosses every axis level, so that it can be followed through a crowd."""
    steps = np.linspace(0, 1, 24)
    ease = steps * steps * (3 - 2 * steps)
    parts = [a + (b - a) * ease for a, b in pairwise(heights)]
    across = np.concatenate([steps + place for place in range(len(parts))])
    return np.stack([across, np.concatenate(parts)], axis=1)


def _note(known: npt.NDArray[np.bool_]) -> str:
    runs = f"{len(known)} run{'s' if len(known) > 1 else ''}, the best in bold"
    return runs + (f"; dashed: {int((~known).sum())} without a value" if not known.all() else "")
