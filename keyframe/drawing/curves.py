"""Pictures of importance along a video."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import rankdata

from keyframe.drawing.style import BAND, MEAN, PALETTE, TEXT, dress, two_digits
from keyframe.evaluation.metrics import spearman
from keyframe.types import FloatArray

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
    """

    video: str
    seconds: FloatArray
    scores: FloatArray
    importance: FloatArray
    annotators: FloatArray


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
        rho = two_digits(spearman(one.scores, one.importance))
        axis.set_title(f"{one.video}   Spearman {rho}", loc="left", fontsize=10, parse_math=False)
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
