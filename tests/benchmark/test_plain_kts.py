import itertools
import math

import numpy as np
import pytest

from keyframe.benchmark.baselines import plain_kts
from keyframe.summary.shots import kts


def cheapest(features, penalty):
    """The least cost of all cuts, and the first steps of the cut that has it."""
    rows = features / np.linalg.norm(features, axis=1, keepdims=True)
    n = len(rows)

    def cost(starts):
        parts = np.split(rows, starts)
        m = len(starts)
        return sum(((part - part.mean(0)) ** 2).sum() for part in parts) + (
            penalty / 2 * m * (math.log(n / m) + 1) if m else 0
        )

    cuts = [cut for size in range(n) for cut in itertools.combinations(range(1, n), size)]
    return min(cuts, key=cost)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("penalty", [0.02, 0.3, 1.0])
def test_no_other_cut_costs_less(seed, penalty):
    rng = np.random.default_rng(seed)
    features = np.repeat(rng.normal(size=(3, 4)), 3, axis=0) + 0.3 * rng.normal(size=(9, 4))
    starts = cheapest(features, penalty)
    assert plain_kts(features, penalty)[:, 0].tolist() == [0, *starts]


def test_it_does_what_it_is_a_baseline_of():
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(9, 16)), 10, axis=0) + 0.1 * rng.normal(size=(90, 16))
    found = plain_kts(features, 0.5)
    assert found.tolist() == kts(features, penalty=0.5).tolist()
    assert len(found) == 9
