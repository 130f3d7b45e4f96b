"""Pictures of importance along a video."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import rankdata

from keyframe.evaluation.metrics import spearman
from keyframe.types import FloatArray


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
    figure = Figure(figsize=(9, 0.5 + 2.2 * len(predictions)), layout="constrained")
    axes = figure.subplots(len(predictions), 1, squeeze=False)[:, 0]
    for axis, one in zip(axes, predictions, strict=True):
        if len(one.annotators) > 1:
            ranks = np.stack([_share(scores) for scores in one.annotators])
            low, high = np.percentile(ranks, [25, 75], axis=0)
            axis.fill_between(one.seconds, low, high, step="mid", color="0.88", label="middle half of annotators")
        axis.step(one.seconds, _share(one.importance), where="mid", color="0.35", label="annotators' mean")
        axis.plot(one.seconds, _share(one.scores), color="#d1495b", linewidth=1.8, label="model")
        rho = spearman(one.scores, one.importance)
        axis.set_title(f"{one.video}   Spearman {rho:.2f}", loc="left", fontsize=10)
        axis.set_ylabel("importance (rank)")
        axis.set_ylim(-0.03, 1.03)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0)
    axes[-1].set_xlabel("seconds")
    axes[0].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, fontsize=8)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def _share(values: FloatArray) -> FloatArray:
    """Ranks as a share of the video, 0 to 1."""
    return (rankdata(values) - 0.5) / len(values)
