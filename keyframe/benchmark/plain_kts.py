"""KTS as its paper states it: the baseline that `keyframe.summary.segment.kts` is timed against."""

import numpy as np
import numpy.typing as npt

from keyframe.types import FloatArray

Floats = npt.NDArray[np.float64]


def plain_kts(features: FloatArray, penalty: float) -> npt.NDArray[np.int64]:
    """Cut a sequence by the textbook's dynamic programme over the number of change points, O(m n^2), m = n - 1.

    Potapov et al., Category-specific video summarization, ECCV 2014, algorithm 1, without a bound on the change
    points, as public scripts call it. A number of change points is one pass of numpy over all segments, four times as
    fast as a pass for each of their ends; the scatters are computed once.

    Args:
        features: one row a step, none of them zeros, (n, d), n at least 2; scaled to length 1 first.
        penalty: as for `keyframe.summary.segment.kts`.

    Returns:
        First and last step of each segment, both inclusive, (m + 1, 2).
    """
    n = len(features)
    scatters = np.ascontiguousarray(_scatters(features.astype(np.float64)).T)  # [end, start]
    best = scatters[:, 0]  # of the first t steps, in one segment
    totals = [best[n]]
    last = np.zeros((n, n + 1), dtype=np.int64)
    for changes in range(1, n):
        sums = scatters[changes + 1 :, changes:] + best[changes:]
        last[changes, changes + 1 :] = changes + sums.argmin(axis=1)
        best = np.append(np.full(changes + 1, np.inf), sums.min(axis=1))
        totals.append(best[n] + penalty / 2 * changes * (np.log(n / changes) + 1))
    starts = [n]
    for changes in range(int(np.argmin(totals)), 0, -1):
        starts.append(int(last[changes, starts[-1]]))
    first = np.array([0, *starts[:0:-1]])
    return np.stack([first, np.append(first[1:], n) - 1], axis=1)


def _scatters(rows: Floats) -> Floats:
    """The scatter of every segment [s, t), (n + 1, n + 1), from sums over the kernel matrix; infinite for t <= s."""
    n = len(rows)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    kernel = rows @ rows.T
    diagonal = np.append(0.0, np.cumsum(np.diag(kernel)))
    sums = np.zeros((n + 1, n + 1))
    sums[1:, 1:] = kernel.cumsum(axis=0).cumsum(axis=1)
    corners = np.diag(sums)
    inside = corners[None, :] + corners[:, None] - sums - sums.T
    lengths = np.arange(n + 1)[None, :] - np.arange(n + 1)[:, None]
    scatter = diagonal[None, :] - diagonal[:, None] - inside / np.where(lengths > 0, lengths, 1)
    return np.where(lengths > 0, scatter, np.inf)
