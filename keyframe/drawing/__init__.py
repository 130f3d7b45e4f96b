"""The look that all figures share: colours, type, a white sheet with a heading and a key."""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from math import ceil, isfinite
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.legend import Legend
from matplotlib.ticker import FixedLocator, FuncFormatter

from keyframe.files import atomic_file, format_clock

# Any two differ by 26 or more in CIELAB, to normal sight and without red, green or blue cones (simulated after
# Machado et al., A physiologically-based model for simulation of color vision deficiency, 2009, severity 1).
PALETTE = ("#d1495b", "#004488", "#e69f00", "#56b4e9", "#8338ec", "#882255")
MARKERS = ("o", "s", "^", "D", "v", "P")
MEAN = "0.35"  # the annotators' mean
BAND = "0.88"  # the middle half of the annotators
FAINT = "0.8"  # grid, shot boundaries
INK = "0.15"
DASHED = (0, (4, 2))
WIDTH = 9.0  # inches of a sheet
TEXT = 9.5  # points
HEADING = 12.0
LINE = 1.35 * TEXT / 72  # inches from one line of text to the next
_PER_INCH, _HEADING_PER_INCH = 12.5, 10.0  # characters of text and of a heading
# Seconds between labels of a time axis.
_STEPS = np.array([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400])


def look(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each name, by its place in the order; no two of the first 36 pairs are the same."""
    count = len(PALETTE)
    return {name: (PALETTE[i % count], MARKERS[(i + i // count) % count]) for i, name in enumerate(names)}


def two_digits(value: float) -> str:
    """A correlation for a title or a key; n/a if it is not defined."""
    return f"{value:.2f}" if isfinite(value) else "n/a"


def drawable(text: str) -> str:
    """The text with a box for each character that the font lacks; matplotlib would warn of it, or fail."""
    return "".join(letter if ord(letter) in _letters() else "\u25a1" for letter in text)


@cache
def _letters() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties())).get_charmap()) | {ord("\n")}


def wrap(text: str, inches: float, per_inch: float = _PER_INCH) -> str:
    """Break a text into lines of about `inches`: after a space or one of `_-./`, within a word only if it must."""
    most = max(1, int(inches * per_inch))
    lines = [""]
    for word in re.findall(r"[^ _\-./]*[ _\-./]?", drawable(text)):
        if lines[-1] and len(lines[-1]) + len(word.rstrip()) > most:
            lines.append("")
        lines[-1] += word
        while len(lines[-1].rstrip()) > most:
            lines[-1:] = [lines[-1][:most], lines[-1][most:]]
    return "\n".join(line.strip() for line in lines)


def shorten(text: str, inches: float) -> str:
    """Replace the middle of a text of more than about `inches` by an ellipsis: both ends tell names apart."""
    most, text = max(3, int(inches * _PER_INCH)), drawable(text)
    return text if len(text) <= most else f"{text[: most // 2]}…{text[len(text) - (most - 1) // 2 :]}"


def sheet(title: str, height: float, width: float = WIDTH, caption: str = "") -> Figure:
    """A white figure of `width` inches with `height` inches between a title and a caption."""
    title = wrap(title, width - 0.2, _HEADING_PER_INCH)
    caption = wrap(caption, width - 0.2)
    height += 1.35 * HEADING / 72 * (title.count("\n") + 1) + LINE * (caption.count("\n") + 1)
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    if title:
        figure.suptitle(title, x=0.1 / width, ha="left", size=HEADING, color=INK, parse_math=False)
    if caption:
        figure.supxlabel(caption, x=0.1 / width, ha="left", size=TEXT, color=INK, parse_math=False)
    return figure


def dress(axis: Axes, grid: str = "") -> Axes:
    """No box, quiet ticks, type large enough for a phone, and a faint grid along `x`, `y` or `both`."""
    axis.set_facecolor("white")
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("0.6")
    axis.tick_params(labelsize=TEXT, color="0.6", labelcolor=INK)
    for label in (axis.xaxis.label, axis.yaxis.label):
        label.set_fontsize(TEXT)
        label.set_parse_math(False)
    if grid:
        axis.grid(axis=grid, color=FAINT, linewidth=0.5)  # type: ignore[arg-type]
        axis.set_axisbelow(True)
    return axis


def size_of(axis: Axes) -> tuple[float, float]:
    """Lay out an axes' sheet, and return the width and height of the axes in inches."""
    figure = axis.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    box = axis.get_window_extent()
    return box.width / figure.dpi, box.height / figure.dpi


def key(figure: Figure, handles: Sequence[Artist], labels: Sequence[str], title: str = "") -> Legend:
    """A key below the axes, in as many columns as fit; the sheet grows by its height."""
    width, height = figure.get_size_inches()
    widest = max(map(len, labels)) / _PER_INCH + 0.5
    columns = max(1, min(len(labels), int((width - 0.2) / widest)))
    figure.set_size_inches(width, height + LINE * (ceil(len(labels) / columns) + len(title.splitlines())) + 0.1)
    legend = figure.legend(
        handles,
        list(map(drawable, labels)),
        title=title,
        loc="outside lower left",
        ncols=columns,
        fontsize=TEXT,
        title_fontsize=TEXT,
        alignment="left",
        frameon=False,
        handlelength=1.6,
        columnspacing=1.0,
        labelspacing=0.25,
        borderpad=0.0,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return legend


def shot_opacity(count: int) -> float:
    """The opacity of `count` lines at shot starts: many of them must not cover a curve."""
    return min(1.0, 60 / max(count, 1))


def time_axis(axis: Axes) -> None:
    """Label the horizontal axis with seconds below two minutes, else with hours, minutes and seconds."""
    begin, end = axis.get_xlim()
    step = float(_STEPS[np.searchsorted(_STEPS, (end - begin) / 9).clip(max=len(_STEPS) - 1)])
    axis.xaxis.set_major_locator(FixedLocator((np.arange(np.ceil(begin / step), end / step + 1e-9) * step).tolist()))
    short = end - begin < 120
    axis.set_xlabel("seconds" if short else "time")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if short else format_clock(value)))


def save_figure(figure: Figure, path: Path, dpi: int = 110) -> None:
    """Write a figure as a PNG file, which appears whole or not at all, and the folder that it goes into."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as draft:
        figure.savefig(draft, dpi=dpi, format="png")
