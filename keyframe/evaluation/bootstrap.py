"""How sure a mean over videos is, and a difference between two models on the same videos."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
