"""The parts of an evaluation, and baselines that do the same as what is measured against them."""

import itertools
import math

import numpy as np
import pytest

from keyframe.benchmark.evaluate import EVALUATION_PARTS, EvaluateSuite, kendall_calls, kts_calls, plain_kts
from keyframe.benchmark.footage import synthetic_video
from keyframe.summary.shots import KtsShots


def test_each_part_is_timed():
    suite = EvaluateSuite(KtsShots(), videos=3, frames=300, annotators=3)
    steps = list(suite.evaluation())
    seconds, peak = steps[-1]
    assert len(steps) == 3 + 1
    assert seconds.keys() == EVALUATION_PARTS.keys()
    assert all(value > 0 for value in seconds.values())
    assert peak > 50


def test_both_sides_of_a_ratio_do_the_same():
    for calls in (kendall_calls, kts_calls):
        ours, theirs = (call() for call in calls(synthetic_video(0, 3000, 5, seed=0)).values())
        assert ours.shape == theirs.shape
        assert ours == pytest.approx(theirs)


def cheapest(features, penalty):
    """The first steps of the cut that costs least of all."""
    rows = features / np.linalg.norm(features, axis=1, keepdims=True)
    n = len(rows)

    def cost(starts):
        m = len(starts)
        scatter = sum(((part - part.mean(0)) ** 2).sum() for part in np.split(rows, starts))
        return scatter + (penalty / 2 * m * (math.log(n / m) + 1) if m else 0)

    return min((cut for size in range(n) for cut in itertools.combinations(range(1, n), size)), key=cost)


def test_no_other_cut_costs_less_than_plain_kts():
    for seed, penalty in itertools.product(range(4), (0.02, 0.3, 1.0)):
        rng = np.random.default_rng(seed)
        features = np.repeat(rng.normal(size=(3, 4)), 3, axis=0) + 0.3 * rng.normal(size=(9, 4))
        assert plain_kts(features, penalty)[:, 0].tolist() == [0, *cheapest(features, penalty)]
