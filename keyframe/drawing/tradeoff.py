"""What accuracy costs: a disc a model at its latency, as large as its parameters."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from keyframe.drawing.placing import place_labels
from keyframe.drawing.style import FAINT, INK, MEAN, TEXT, WIDTH, line_height, look, panel, sheet, text_width, wrap
from keyframe.types import FloatArray

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
