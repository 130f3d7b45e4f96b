"""Twenty simulated people who label every shot 1 to 5, as noisily as those of TVSum."""

import numpy as np
import numpy.typing as npt

ANNOTATORS = 20

# Shares of the labels 1 to 5 in the official TVSum file (ydata-tvsum50.mat), frames of all videos weighted equally.
LABEL_SHARES = (0.46, 0.26, 0.16, 0.08, 0.04)

# Deviation of a person's own view against the true importance of deviation 1. With it the mean pairwise Spearman
# correlation of two annotators is that of the official file, 0.20.
NOISE = 1.75


def label(
    rng: np.random.Generator, importance: npt.NDArray[np.float64], annotators: int = ANNOTATORS
) -> npt.NDArray[np.int64]:
    """Labels 1 to 5, shape (annotators, S), for shots of true importance (S,)."""
    true = (importance - importance.mean()) / (importance.std() + 1e-9)
    views = true + NOISE * rng.standard_normal((annotators, len(importance)))
    ranks = views.argsort(axis=1).argsort(axis=1) / len(importance)
    edges = np.cumsum(LABEL_SHARES)[:-1]
    # people differ in how generous they are
    shift = rng.normal(0.0, 0.05, (annotators, 1))
    labels: npt.NDArray[np.int64] = 1 + np.stack([np.searchsorted(edges, row) for row in ranks + shift])
    return labels
