"""How sure a mean over videos is, and a difference between two models on the same videos.

How well the scores of one video agree with its labels. A number that is not defined is NaN, never 0.

Per-video metrics gathered over batches and ranks, each video counted once.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau, rankdata

from keyframe.types import FloatArray

# Numbers drawn at once: memory stays at some megabytes, however many videos there are.
_AT_ONCE = 2**20


@dataclass(frozen=True)
class Difference:
    """A model's mean minus another's, over the videos that both have a value for.

    Attributes:
        value: the mean difference; NaN without videos.
        lo: the interval's lower end; NaN for fewer than 2 videos.
        hi: its upper end.
        p_value: two-sided, in (0, 1]; NaN for fewer than 2 videos.
        videos: how many videos were compared.
    """

    value: float
    lo: float
    hi: float
    p_value: float
    videos: int


def interval(values: npt.ArrayLike, level: float = 0.95, draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron and Tibshirani, An introduction to the bootstrap, 1993).

    Videos are drawn with replacement, `draws` times; the interval lies between the quantiles of their means. It is
    too short on few videos: an interval of level .95 of normal values was seen to hold the true mean in 94 % of trials
    with 50 videos, 92 % with 20, 90 % with 10 and 84 % with 5.

    Args:
        values: one number a video, (N,). Those that are NaN are left out: the caller counts them.
        level: the share of means that lie inside, in (0, 1).
        draws: how many samples of videos are drawn.
        seed: makes the draws repeatable.

    Returns:
        The lower and the upper end; both NaN for fewer than 2 values.

    Raises:
        ValueError: if `level` or `draws` is out of range, or `values` is no series.
    """
    if not 0 < level < 1 or draws < 1:
        raise ValueError(f"level must lie in (0, 1) and draws be at least 1, not {level} and {draws}")
    series = _series(values)
    series = series[~np.isnan(series)]
    count = len(series)
    if count < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [series[rng.integers(0, count, (size, count))].mean(axis=1) for size in _portions(draws, count)]
    )
    lo, hi = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(lo), float(hi)


def paired_difference(
    a: npt.ArrayLike, b: npt.ArrayLike, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> Difference:
    """Compare two models on the same videos.

    The interval is the percentile bootstrap of the videos' differences. The p-value is that of the paired
    randomization test (Fisher): how often flipping the signs of the differences at random makes their mean as large
    as it is. With few videos the bootstrap is too sure of itself, and this test is not: 5 videos that all favour one
    model give p = 2 / 2**5, whatever the sizes. All 2**N flips are tried where that is no more than `draws`.

    Args:
        a: one number a video, (N,).
        b: the same videos' numbers, in the same order, (N,). A video with a NaN in either is left out.
        level: as in `interval`.
        draws: samples for the interval, and for the p-value of more videos than can be tried exhaustively.
        seed: makes the draws repeatable.

    Raises:
        ValueError: if the series differ in length, or what `interval` raises.
    """
    first, second = _series(a), _series(b)
    if len(first) != len(second):
        raise ValueError(f"a and b must hold the same videos, not {len(first)} and {len(second)}")
    differences = first - second
    differences = differences[~np.isnan(differences)]
    count = len(differences)
    lo, hi = interval(differences, level, draws, seed)
    return Difference(
        value=float(differences.mean()) if count else float("nan"),
        lo=lo,
        hi=hi,
        p_value=_sign_flip(differences, draws, seed) if count > 1 else float("nan"),
        videos=count,
    )


def _sign_flip(differences: npt.NDArray[np.float64], draws: int, seed: int) -> float:
    """The share of sign flips whose sum is at least as far from 0 as the observed one, itself among them."""
    count = len(differences)
    observed = abs(differences.sum()) - 1e-12 * np.abs(differences).sum()  # equal sums differ by rounding
    if 2**count <= draws:
        bits = np.arange(2**count)[:, None] >> np.arange(count) & 1
        return float(np.mean(np.abs((2 * bits - 1) @ differences) >= observed))
    rng = np.random.default_rng(seed)
    extreme = sum(
        np.count_nonzero(np.abs((2 * rng.integers(0, 2, (size, count)) - 1) @ differences) >= observed)
        for size in _portions(draws, count)
    )
    return float((1 + extreme) / (1 + draws))


def _portions(draws: int, count: int) -> Iterator[int]:
    """Sizes that add up to `draws`, each small enough to hold `count` numbers a draw in memory."""
    step = max(1, _AT_ONCE // count)
    for start in range(0, draws, step):
        yield min(step, draws - start)


def _series(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    series = np.asarray(values, dtype=np.float64)
    if series.ndim != 1:
        raise ValueError(f"values must be one number a video, not of shape {series.shape}")
    return series


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
