"""Figures of many numbers: models beside each other, on each video, against labels and costs, and runs of a sweep."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from keyframe import drawing as style
from keyframe.types import Float64Array, FloatArray

# By the name of a model or line: a number, and the lower and upper end of an interval.
Numbers = Mapping[str, float]
Intervals = Mapping[str, tuple[float, float]]

_NAME_WIDTH = 2.4  # inches, at most
_MOST_POINTS = 1000  # more hide each other: their density is drawn


def draw_bars(means: Numbers, intervals: Intervals, lines: Numbers, title: str, axis: str) -> Figure:
    """A bar per model with its interval (lower and upper end), and labelled reference lines.

    A mean or a line that is NaN is left out, and so is the error bar of an interval that is missing or holds a NaN.
    """
    names = [style.wrap(name, _NAME_WIDTH) for name in means]
    marks = sorted((value, label) for label, value in lines.items() if np.isfinite(value))
    rows = sum(max(0.36, style.LINE * (name.count("\n") + 1) + 0.1) for name in names)
    figure = style.sheet(title, rows + style.LINE * len(marks) + 0.7)
    plot = style.dress(figure.add_subplot(), "x")
    values = [*means.values(), *(end for span in intervals.values() for end in span), *(value for value, _ in marks)]
    plot.set_xlim(_limits([*values, 0.0]))
    plot.set_ylim(len(means) - 0.5, -0.5)
    for row, (name, (colour, _)) in enumerate(style.look(means).items()):
        mean, span = means[name], intervals.get(name, (np.nan, np.nan))
        number = f"{mean:.3f}" if np.isfinite(mean) else "n/a"
        if np.isfinite(mean):
            plot.barh(row, mean, height=0.6, color=colour, alpha=0.65, linewidth=0)
        if np.isfinite([mean, *span]).all():
            plot.plot(span, [row, row], color=style.INK, linewidth=1.4, marker="|", markersize=7)
            number += f" [{span[0]:.3f}, {span[1]:.3f}]"
        plot.text(1.02, row, number, transform=plot.get_yaxis_transform(), va="center_baseline", size=style.TEXT)
    for floor, (value, label) in enumerate(reversed(marks)):
        # Labels fly to the right of their lines: each stands above all lines to its right.
        plot.axvline(value, color=style.MEAN, linestyle=style.DASHED, linewidth=1)
        pole = {"arrowstyle": "-", "color": style.MEAN, "linestyle": style.DASHED, "relpos": (0, 1), "patchA": None}
        plot.annotate(
            f" {label}",
            (value, 1),
            (0, 72 * style.LINE * floor + 2),
            xycoords=plot.get_xaxis_transform(),
            textcoords="offset points",
            size=style.TEXT,
            color=style.MEAN,
            va="bottom",
            arrowprops={**pole, "shrinkA": 0, "shrinkB": 0},
            parse_math=False,
        )
    plot.axvline(0, color="0.6", linewidth=0.8)
    plot.spines["left"].set_visible(False)
    plot.locator_params(axis="x", nbins=7)
    plot.set_yticks(range(len(names)), names, parse_math=False)
    plot.tick_params(axis="y", length=0)
    plot.set_xlabel(axis)
    return figure


def draw_per_video(
    rows: Mapping[str, Sequence[float] | FloatArray], models: Sequence[str], title: str = "", axis: str = "Spearman rho"
) -> Figure:
    """One row per video and one dot per model, best mean on top; a dashed line at each model's mean.

    A row holds one number per model, in the order of `models`; NaN has no dot, a row of them says n/a.
    """
    table = np.array([*rows.values()], dtype=np.float64)
    known = np.ma.masked_invalid(table)
    order = np.argsort(-known.mean(axis=1).filled(-np.inf), kind="stable")
    means = known.mean(axis=0).filled(np.nan)
    table = table[order]

    figure = style.sheet(title, style.LINE * len(rows) + 0.9)
    plot = style.dress(figure.add_subplot(), "x")
    plot.set_ylim(len(rows) - 0.4, -0.6)
    plot.set_xlim(_limits(table.ravel()))
    plot.axvline(0, color="0.6", linewidth=0.8)
    for row, values in enumerate(table):
        if len(some := values[np.isfinite(values)]):
            plot.plot([some.min(), some.max()], [row, row], color=style.FAINT, linewidth=1.5, zorder=1)
        else:
            plot.text(0.01, row, "n/a", transform=plot.get_yaxis_transform(), va="center_baseline", size=style.TEXT)
    handles, labels = [], []
    for index, (name, (colour, marker)) in enumerate(style.look(models).items()):
        plot.plot(table[:, index], np.arange(len(rows)), marker, color=colour, markersize=5.5, mew=0, alpha=0.9)
        plot.axvline(means[index], color=colour, linestyle=style.DASHED, linewidth=1, zorder=0)
        handles.append(Line2D([], [], color=colour, marker=marker, linestyle="none"))
        labels.append(f"{name}   mean {means[index]:.3f}" if np.isfinite(means[index]) else f"{name}   n/a")
    names = list(rows)
    plot.set_yticks(range(len(rows)), [style.shorten(names[index], _NAME_WIDTH) for index in order], parse_math=False)
    plot.tick_params(axis="y", length=0)
    plot.tick_params(axis="x", labeltop=len(rows) > 30)  # a second scale for what is taller than a screen
    plot.set_xlabel(axis)
    style.key(figure, handles, labels)
    return figure


def draw_scatter(
    scores: Mapping[str, FloatArray], importance: FloatArray, spearman: Mapping[str, float], title: str
) -> Figure:
    """One panel per model: predicted importance (N,) against the annotators' mean (N,), over all frames of all videos.

    Scores that are NaN are left out; `spearman` is rho of the two by model, NaN if it is not defined.
    """
    columns = min(len(scores), 3)
    rows = -(-len(scores) // columns)
    side = style.WIDTH / max(columns, 2)
    figure = style.sheet(title, rows * (side + 0.2), columns * side)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(scores) :]:
        axis.remove()
    for index, (axis, (name, (colour, _))) in enumerate(zip(axes, style.look(scores).items(), strict=False)):
        defined = np.isfinite(scores[name]) & np.isfinite(importance)
        x, y = scores[name][defined], importance[defined]
        if len(x) > _MOST_POINTS:
            fade = LinearSegmentedColormap.from_list("fade", ["#f4f4f4", colour])
            axis.hexbin(x, y, gridsize=32, bins="log", mincnt=1, cmap=fade, linewidths=0)
        else:
            axis.scatter(x, y, s=14, color=colour, alpha=0.5, linewidths=0)
        style.dress(axis).set_xlabel("predicted importance")
        axis.set_ylabel("" if index % columns else "annotators' mean")
        text = f"{style.wrap(name, side - 0.9)}\nSpearman {style.two_digits(spearman[name])}"
        axis.set_title(text, loc="left", size=style.TEXT, color=style.INK, parse_math=False)
    return figure


def _limits(values: Sequence[float] | FloatArray, margin: float = 0.05) -> tuple[float, float]:
    """Limits around all finite values, with a margin on both sides as a share of their range."""
    some = np.asarray(values, dtype=np.float64)
    some = some[np.isfinite(some)]
    low, high = (float(some.min()), float(some.max())) if len(some) else (0.0, 1.0)
    room = margin * (high - low) or 0.05 * abs(low) or 0.5
    return low - room, high + room


_PLOT_HEIGHT = 5.2  # inches, axis labels included
_LARGEST = 0.28  # inches, radius of the largest mark


def draw_tradeoff(
    latency: Numbers, accuracy: Numbers, intervals: Intervals, sizes: Numbers, title: str, axis: str = "Spearman rho"
) -> Figure:
    """Accuracy against latency; the area of a mark is proportional to the number of parameters.

    All by model: milliseconds per video, > 0; accuracy; lower and upper end of its interval, without which there is no
    error bar; million parameters. A model without a finite latency or accuracy is left out and named in the caption.
    """
    numbers = {name: (latency[name], accuracy.get(name, np.nan)) for name in latency}
    drawn = [name for name, both in numbers.items() if np.isfinite(both).all() and both[0] > 0]
    missing = [name for name in latency if name not in drawn]
    caption = "area of a mark: parameters" + (f"; without latency or accuracy: {', '.join(missing)}" if missing else "")
    figure = style.sheet(title, _PLOT_HEIGHT, caption="" if drawn else caption)
    plot = style.dress(figure.add_subplot(), "both")
    plot.set(xlabel="milliseconds per video", ylabel=axis)
    if not drawn:
        return figure
    x, y = np.array([latency[name] for name in drawn]), np.array([accuracy[name] for name in drawn])
    spans = np.array([intervals.get(name, (np.nan, np.nan)) for name in drawn])
    spans = np.where(np.isfinite(spans).all(1, keepdims=True), spans, y[:, None])
    area = np.array([sizes.get(name, np.nan) for name in drawn])
    known = np.where(area > 0, area, 0.0)
    radii = np.maximum(_LARGEST * np.sqrt(known / (known.max() or 1.0)), 0.05)  # of unknown size: a dot
    plot.set_ylim(_limits([*spans.ravel(), *y], 0.15))
    if x.max() <= 10 * x.min():
        plot.set_xlim(_limits(x, 0.08))
    else:
        plot.set_xscale("log")
        low, high = np.exp(_limits(np.log(x), 0.08))
        plot.set_xlim(low, high)
        plot.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 2000 * low else (1,)))
        plot.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        plot.xaxis.set_minor_formatter(NullFormatter())

    handles, labels = [], []
    looks = style.look(latency)
    for name, across, up, span, radius, size in zip(drawn, x, y, spans, radii, area, strict=True):
        colour, marker = looks[name]
        plot.plot([across, across], span, "_-", color=colour, linewidth=1.4, markersize=8 if np.ptp(span) else 0)
        plot.plot(across, up, marker, color=colour, markersize=144 * radius, alpha=0.75, mew=0)
        handles.append(Line2D([], [], color=colour, marker=marker, linestyle="none"))
        labels.append(f"{name}   {size:.3g} M" if np.isfinite(size) else name)
    style.key(figure, handles, labels, style.wrap(caption, style.WIDTH - 0.2))
    return figure


_AXIS_HEIGHT = 4.2  # inches
_GAP = 1.15  # inches between two axes, at least
_MOST_LABELS = 12  # of the values on an axis
_COLOURS = LinearSegmentedColormap.from_list("value", ["#d9e3ec", "#56b4e9", "#004488"])
_NO_VALUE = "#d1495b"


def draw_parallel(settings: Sequence[Mapping[str, str]], values: Sequence[float], title: str, axis: str) -> Figure:
    """One line per run through its parameters to its value; colour is the value too, the best run is a bold line.

    The different values of a parameter are evenly spaced, numbers by their size and words by their first appearance.
    Lines through one value are spread a little, better ones up. Larger values are better; a run with NaN is a dashed
    line that ends before the last axis.
    """
    names = list(dict.fromkeys(name for run in settings for name in run))
    worth = np.asarray(values, dtype=np.float64)
    known = np.isfinite(worth)
    scales = [_scale([run.get(name, "") for run in settings], worth) for name in names]
    low, high = _limits(worth, 0.04)
    shown = [tick for tick in MaxNLocator(6).tick_values(low, high) if low <= tick <= high and known.any()]
    marks = {f"{tick:.6g}": (tick - low) / (high - low) for tick in shown}
    heights = np.array([*(places for places, _ in scales), (worth - low) / (high - low)])

    caption = f"{len(worth)} run{'s' if len(worth) > 1 else ''}, the best in bold"
    caption += "" if known.all() else f"; dashed: {int((~known).sum())} without a value"
    width = max(style.WIDTH, _GAP * (len(names) + 1.3))
    gap = width / (len(names) + 1.3)  # inches
    heads = [style.wrap(name, gap - 0.15) for name in [*names, axis]]
    height = _AXIS_HEIGHT + style.LINE * (1 + max(text.count("\n") for text in heads))
    figure = style.sheet(title, height, width, caption)
    plot = figure.add_subplot()
    plot.set_axis_off()
    plot.set(xlim=(-0.65, len(names) + 0.65), ylim=(-0.02, 1.02))
    colours = Normalize(low, high)
    order = np.argsort(np.where(known, worth, -np.inf), kind="stable")  # the best lie on top
    for run in order:
        colour = _COLOURS(colours(worth[run])) if known[run] else _NO_VALUE
        bold = known[run] and run == order[-1]
        line = _smooth(heights[:, run] if known[run] else heights[:-1, run])
        dash = {"linewidths": 3.0 if bold else 1.3, "linestyles": ["solid" if known[run] else style.DASHED]}
        plot.add_collection(LineCollection([line], colors=[colour], zorder=2, **dash), autolim=False)
    strip = (len(names), len(names) + 0.1, 0, 1)
    plot.imshow(np.linspace(0, 1, 64)[:, None], _COLOURS, origin="lower", extent=strip, aspect="auto", zorder=3)
    for place, (head, ticks) in enumerate(zip(heads, [*(ticks for _, ticks in scales), marks], strict=True)):
        plot.plot([place, place], [0, 1], color=style.INK, linewidth=1, zorder=4)
        plot.text(place, 1.03, head, size=style.TEXT, color=style.INK, ha="center", va="bottom", parse_math=False)
        last = place == len(names)
        for label, tick in ticks.items():
            left = place + 0.1 * last
            plot.plot([left, left + 0.05], [tick, tick], color=style.INK, linewidth=1, zorder=4)
            text = style.shorten(label, (0.55 if last else 1) * gap - 0.2)
            box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1.0}
            font = {"size": style.TEXT, "color": style.INK, "parse_math": False}
            plot.text(left + 0.08, tick, text, font, va="center", bbox=box, zorder=5)
    return figure


def _scale(texts: Sequence[str], worth: Float64Array) -> tuple[Float64Array, dict[str, float]]:
    """Heights of a parameter's values from 0 (bottom) to 1, one per run, and of those that are labelled."""
    words = list(dict.fromkeys(texts))
    with suppress(ValueError):  # not all are numbers
        words.sort(key=float)
    levels = (np.arange(len(words)) + 0.5) / len(words)
    # Runs at one place move apart, better ones up, by less than half the way to the next place.
    band = min(0.05, 0.3 / len(words))
    heights = levels[[words.index(text) for text in texts]]
    for level in levels:
        (runs,) = np.nonzero(heights == level)
        runs = runs[np.argsort(np.where(np.isfinite(worth[runs]), worth[runs], -np.inf), kind="stable")]
        heights[runs] += np.linspace(-band, band, len(runs)) if len(runs) > 1 else 0.0
    shown = range(0, len(words), -(-len(words) // _MOST_LABELS))
    return heights, {words[place] or "(not set)": float(levels[place]) for place in shown}


def _smooth(heights: Float64Array) -> Float64Array:
    """Points of a line that crosses every axis horizontally, so that it can be followed through a crowd."""
    steps = np.linspace(0, 1, 24)
    ease = steps * steps * (3 - 2 * steps)
    parts = [a + (b - a) * ease for a, b in pairwise(heights)] or [heights]
    across = np.concatenate([steps[: len(part)] + place for place, part in enumerate(parts)])
    return np.stack([across, np.concatenate(parts)], axis=1)
