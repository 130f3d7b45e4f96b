"""The look that all pictures share: colours, type, a white sheet with a heading and a key.

Sheets are laid out in inches, so that what was measured to fit does fit, whatever the resolution it is saved at.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import isfinite

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.textpath import text_to_path

# Any two differ by 26 or more in CIELAB, to normal sight and without red, green or blue cones (simulated after
# Machado et al., A physiologically-based model for simulation of color vision deficiency, 2009, severity 1).
PALETTE = ("#d1495b", "#004488", "#e69f00", "#56b4e9", "#8338ec", "#882255")
MARKERS = ("o", "s", "^", "D", "v", "P")
MEAN = "0.35"  # the annotators' mean
BAND = "0.88"  # the middle half of the annotators
FAINT = "0.8"  # grid, shot boundaries
INK = "0.15"

WIDTH = 9.0  # inches of a sheet
TEXT = 9.5  # points
HEADING = 12.0

# Text rasterised with hinting was seen up to 5 % wider than its outline.
_HINTING = 1.07
_LINE = 1.35  # height of a line of text in font sizes


def look(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each name, by its place in the order; from the seventh on the pairs are other ones."""
    count = len(PALETTE)
    return {name: (PALETTE[i % count], MARKERS[(i + i // count) % count]) for i, name in enumerate(names)}


def tint(colour: str) -> tuple[float, float, float]:
    """A paler colour, for areas that something dark is drawn on."""
    red, green, blue = (1 - 0.65 * (1 - part) for part in to_rgb(colour))
    return red, green, blue


def two_digits(value: float) -> str:
    """A correlation for a title or a key; n/a where it is not defined."""
    return f"{value:.2f}" if isfinite(value) else "n/a"


@lru_cache(4096)  # labels come again in every picture of a batch
def text_width(text: str, size: float = TEXT) -> float:
    """Inches that the longest line of a text takes."""
    font = FontProperties(size=size)
    lines = text.split("\n")
    return _HINTING * max(text_to_path.get_text_width_height_descent(line, font, False)[0] for line in lines) / 72


def line_height(size: float = TEXT) -> float:
    """Inches from one line of text to the next."""
    return _LINE * size / 72


def wrap(text: str, width: float, size: float = TEXT) -> str:
    """Breaks a text into lines of at most `width` inches: behind a space or one of `_-./`, inside a word if it must."""
    lines = [""]
    for word in re.findall(r"[^ _\-./]*[ _\-./]?", text):
        if lines[-1] and text_width(lines[-1] + word.rstrip(), size) > width:
            lines.append("")
        fits = lines[-1] or text_width(word.rstrip(), size) <= width
        # Measuring is slow, so letter by letter only where it must be.
        for part in [word] if fits else word:
            if not fits and lines[-1] and text_width(lines[-1] + part, size) > width:
                lines.append("")
            lines[-1] += part
    return "\n".join(line.strip() for line in lines)


def shorten(text: str, width: float, size: float = TEXT) -> str:
    """Replaces the middle of a text that is wider than `width` inches by an ellipsis: both ends tell names apart."""
    short, kept = text, len(text)
    while text_width(short, size) > width and kept > 2:
        kept -= 1
        short = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return short


def sheet(title: str, height: float, note: str = "", width: float = WIDTH) -> Figure:
    """A white figure of `width` inches whose lowest `height` inches are free, below a title and a note."""
    lines = [(text, size, wrap(text, width - 0.2, size)) for text, size in ((title, HEADING), (note, TEXT)) if text]
    total = height + sum(line_height(size) * (text.count("\n") + 1) for _, size, text in lines) + 0.08
    figure = Figure(figsize=(width, total), facecolor="white")
    top = total - 0.06
    for _, size, text in lines:
        figure.text(0.1 / width, top / total, text, size=size, color=INK, va="top", parse_math=False)
        top -= line_height(size) * (text.count("\n") + 1)
    return figure


def panel(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches from the lower left corner."""
    across, up = figure.get_size_inches()
    return dress(figure.add_axes((left / across, bottom / up, width / across, height / up)))


def dress(axis: Axes) -> Axes:
    """No box, quiet ticks, type large enough for a phone."""
    axis.set_facecolor("white")
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("0.6")
    axis.tick_params(labelsize=TEXT, color="0.6", labelcolor=INK)
    axis.xaxis.label.set_fontsize(TEXT)
    axis.yaxis.label.set_fontsize(TEXT)
    return axis


def key_columns(labels: Sequence[str], width: float = WIDTH) -> tuple[int, float]:
    """Columns that a key with these labels has on a sheet, and its height in inches."""
    widest = max(text_width(label) for label in labels) + 0.5
    columns = max(1, min(len(labels), int((width - 0.2) / widest)))
    return columns, -(-len(labels) // columns) * line_height() + 0.05


def key(figure: Figure, handles: Sequence[Artist], labels: Sequence[str], top: float) -> Legend:
    """A key in as many columns as fit side by side, its upper edge `top` inches from the bottom."""
    across, up = figure.get_size_inches()
    legend = figure.legend(
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=(0.02 / across, top / up),
        ncols=key_columns(labels, across)[0],
        fontsize=TEXT,
        frameon=False,
        handlelength=1.6,
        handletextpad=0.5,
        columnspacing=1.0,
        labelspacing=0.25,
        borderpad=0.0,
        borderaxespad=0.3,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return legend
