"""Parallel coordinates: how the parameters of many runs go with what came of them."""

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
from matplotlib.ticker import LogLocator, MaxNLocator

from keyframe.drawing.style import INK, TEXT, WIDTH, line_height, panel, sheet, shorten, wrap

_UP = 4.2  # inches of an axis
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
    figure = sheet(title, _UP + head + 0.2, _note(known), width)
    plot = panel(figure, 0.0, 0.15, width, _UP)
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
            place, 1 + 0.1 / _UP, text, size=TEXT, color=INK, ha="center", va="bottom", parse_math=False, clip_on=False
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
    colours = Normalize(*_limits(worth[known])) if known.any() else Normalize(0, 1)
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
    low, high = _limits(bend(levels))

    def at(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return np.asarray(0.04 + 0.92 * (bend(values) - low) / (high - low))

    marks: Sequence[float] = levels.tolist()
    if len(levels) > _LEVELS or any(f"{level:.4g}" != f"{level:.12g}" for level in marks):
        locator = LogLocator(subs=(1, 2, 5)) if logarithmic else MaxNLocator(6)
        marks = locator.tick_values(levels[0], levels[-1])
    heights = at(marks)
    shown: dict[str, float] = {}
    for mark, height in zip(marks, heights, strict=True):
        free = all(abs(height - other) > 1.1 * line_height() / _UP for other in shown.values())
        if -1e-9 <= height <= 1 + 1e-9 and free:
            shown[f"{mark:.6g}"] = float(height)
    return _Scale(at(numbers), shown)


def _limits(values: npt.NDArray[np.float64]) -> tuple[float, float]:
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
