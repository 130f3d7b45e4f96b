"""Frames far enough apart in time: the best k of them, exactly."""

import numpy as np

from keyframe.summary.candidates import Positions
from keyframe.types import FloatArray

# Seconds by which frames may be too close: timestamps are rounded.
SLACK = 1e-6


def apart(seconds: FloatArray, others: FloatArray, min_distance: float) -> np.ndarray:
    """Whether times are at least `min_distance` seconds from others, by broadcasting."""
    return np.abs(seconds - others) >= min_distance - SLACK


def best_apart(merits: FloatArray, seconds: FloatArray, k: int, min_distance: float) -> Positions:
    """The k frames with the greatest total merit of which no two are closer than `min_distance`; exact.

    Dynamic programming over time, one row a keyframe (weighted interval scheduling with a cardinality: Kleinberg and
    Tardos, Algorithm Design, 6.1): O(n k) steps, n k / 8 bytes. Merits may be negative; the number comes first. Of
    equal totals the one that needs no later frame is taken.

    Args:
        merits: what each frame is worth, finite, (n,), n >= 1.
        seconds: when each is shown, not decreasing, (n,).
        k: how many, >= 1.
        min_distance: seconds, >= 0.

    Returns:
        Positions, rising: k of them, or as many as fit at most.
    """
    n = len(merits)
    # How many frames are early enough to come before each.
    before = np.minimum(np.searchsorted(seconds, seconds - (min_distance - SLACK), side="right"), np.arange(n))
    # best[i]: the greatest total of a row's number of frames out of the first i.
    best = np.zeros(n + 1)
    rows = []
    for _ in range(min(k, n)):
        totals = np.append(-np.inf, merits + best[before])
        best = np.maximum.accumulate(totals)
        if best[-1] == -np.inf:
            break
        # A frame is of use where it beats all earlier last frames.
        rows.append(np.packbits(totals[1:] > best[:-1]))
    chosen: list[int] = []
    end = n
    for row in reversed(rows):
        last = int(np.flatnonzero(np.unpackbits(row, count=n)[:end])[-1])
        chosen.append(last)
        end = int(before[last])
    return np.array(chosen[::-1], dtype=np.int64)
