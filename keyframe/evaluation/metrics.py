"""How well the scores of one video agree with its labels. A number that is not defined is NaN, never 0."""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau, rankdata

from keyframe.types import FloatArray

# The share of a video that a summary may take (Song et al., TVSum, 2015).
SUMMARY_SHARE = 0.15

# Multiplications in one of very many matrix products, and its columns. OpenBLAS shares those of more than 2**18 among
# threads that then wait for each other: with two on a busy machine that was seen to take 7 to 20 times as long.
_PRODUCT, _COLUMNS = 2**17, 256

VIDEO_METRICS = (
    "spearman",
    "kendall",
    "annotator_spearman",
    "annotator_kendall",
    "mse",
    "mae",
    "precision_at_15",
)


def video_metrics(scores: FloatArray, importance: FloatArray, annotators: FloatArray) -> dict[str, float]:
    """All metrics of one video, in the order of `VIDEO_METRICS`.

    Args:
        scores: predicted importance of each frame, (T,).
        importance: the annotators' mean (or the label file's own track), (T,).
        annotators: each annotator's scores, (A, T); with A = 0 the annotator metrics are NaN.

    Returns:
        `spearman` and `kendall` against the mean; `annotator_spearman` and `annotator_kendall`, the mean over
        annotators of the correlation with each (Otani et al., Rethinking the evaluation of video summaries, 2019);
        `mse`, `mae`, and `precision_at_15`.
    """
    return {
        "spearman": spearman(scores, importance),
        "kendall": kendall(scores, importance),
        "annotator_spearman": defined_mean([spearman(scores, one) for one in annotators]),
        "annotator_kendall": defined_mean([kendall(scores, one) for one in annotators]),
        "mse": float(np.mean((scores - importance) ** 2)),
        "mae": float(np.mean(np.abs(scores - importance))),
        "precision_at_15": precision_at_top(scores, importance, SUMMARY_SHARE),
    }


def over_videos(table: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Mean over videos by metric name, `<name>_std` the spread over videos, and `undefined`.

    `undefined` counts the videos whose Spearman correlation is not defined (constant scores or labels). A video
    without a value for a metric is left out of that mean; a metric that no video has a value for is left out.
    """
    rows = list(table)
    result = {"undefined": float(sum(np.isnan(row["spearman"]) for row in rows))}
    for name in VIDEO_METRICS:
        values = np.array([row[name] for row in rows])
        values = values[~np.isnan(values)]
        if len(values):
            result[name] = float(values.mean())
        if len(values) > 1:
            result[f"{name}_std"] = float(values.std(ddof=1))
    return result


def spearman(a: FloatArray, b: FloatArray) -> float:
    """Spearman's rho of two series (T,), ties ranked by their average; NaN where either is constant."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def kendall(a: FloatArray, b: FloatArray) -> float:
    """Kendall's tau-b of two series (T,); NaN where either is constant."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(kendalltau(a, b).statistic)


def spearman_matrix(a: FloatArray, b: FloatArray) -> npt.NDArray[np.float64]:
    """Spearman's rho of every row of `a` (m, T) with every row of `b` (n, T), as (m, n); NaN as in `spearman`."""
    with np.errstate(invalid="ignore"):
        return _unit_ranks(a) @ _unit_ranks(b).T


def kendall_matrix(a: FloatArray, b: FloatArray) -> npt.NDArray[np.float64]:
    """Kendall's tau-b of every row of `a` (m, T) with every row of `b` (n, T), as (m, n); NaN as in `kendall`.

    The pairs of frames are counted lag by lag, for all rows at once: time grows with (m + n) T^2, memory with
    (m + n) T.
    """
    # Ranks are halves below 2**23 and a lag counts fewer than 2**24 signs: float32 holds both exactly.
    x, y = (rankdata(rows, axis=1).astype(np.float32) for rows in (a, b))
    agreement = np.zeros((len(x), len(y)))
    untied_x, untied_y = np.zeros(len(x)), np.zeros(len(y))
    for lag in range(1, x.shape[1]):
        signs_x, signs_y = np.sign(x[:, lag:] - x[:, :-lag]), np.sign(y[:, lag:] - y[:, :-lag])
        _add_product(agreement, signs_x, signs_y)
        untied_x += np.count_nonzero(signs_x, axis=1)
        untied_y += np.count_nonzero(signs_y, axis=1)
    with np.errstate(invalid="ignore"):
        return agreement / np.sqrt(np.outer(untied_x, untied_y))


def precision_at_top(scores: FloatArray, importance: FloatArray, share: float) -> float:
    """Overlap of the two top k's over k = max(1, round(share * T)); of equal values the earlier frame goes first."""
    count = max(1, round(share * len(scores)))
    return len(np.intersect1d(_top(scores, count), _top(importance, count))) / count


def _top(values: FloatArray, count: int) -> npt.NDArray[np.int64]:
    return np.argsort(-values, kind="stable")[:count]


def defined_mean(values: npt.ArrayLike) -> float:
    """Mean of the values that are not NaN; NaN where there is none."""
    numbers = np.asarray(values, dtype=np.float64)
    defined = numbers[~np.isnan(numbers)]
    return float(defined.mean()) if defined.size else float("nan")


def _add_product(total: npt.NDArray[np.float64], a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> None:
    """Add a @ b.T to the total (m, n), in products so small that BLAS makes each with one thread."""
    for first in range(0, a.shape[1], _COLUMNS):
        columns = slice(first, first + _COLUMNS)
        part = b[:, columns].T
        step = max(1, _PRODUCT // max(1, part.size))
        for row in range(0, len(a), step):
            total[row : row + step] += a[row : row + step, columns] @ part


def _unit_ranks(rows: FloatArray) -> npt.NDArray[np.float64]:
    """Average ranks of each row, centred and of length 1; NaN where the row is constant."""
    ranks: npt.NDArray[np.float64] = rankdata(rows, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    length: npt.NDArray[np.float64] = np.linalg.norm(ranks, axis=1, keepdims=True)
    return ranks / length
