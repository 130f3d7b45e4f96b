"""Numbers of models beside each other: bars with reference lines, a row a video."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from keyframe.drawing.placing import staircase
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
    wrap,
)
from keyframe.types import FloatArray

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
