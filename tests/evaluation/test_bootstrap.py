import math

import numpy as np
import pytest
from scipy.stats import bootstrap, permutation_test

from keyframe.evaluation.metrics import interval, paired_difference


def normal(count, seed=0, mean=0.0):
    return np.random.default_rng(seed).normal(mean, 1, count)


@pytest.mark.parametrize("count", [2, 10, 50])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_interval_is_scipys(count, level):
    values = normal(count)
    theirs = bootstrap(
        (values,),
        np.mean,
        confidence_level=level,
        n_resamples=10_000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert interval(values, level) == pytest.approx(tuple(theirs), abs=0.04)


@pytest.mark.parametrize(("count", "lowest", "highest"), [(10, 0.87, 0.93), (20, 0.90, 0.95), (50, 0.92, 0.97)])
def test_coverage(count, lowest, highest):
    """The shares that the docstring tells."""
    ends = [interval(normal(count, seed), draws=500, seed=seed) for seed in range(1000)]
    assert lowest < np.mean([lo <= 0 <= hi for lo, hi in ends]) < highest


def test_interval_is_repeatable_and_does_not_depend_on_memory_portions(monkeypatch):
    values = normal(30)
    once = interval(values, seed=3)
    assert interval(values, seed=3) == once
    assert interval(values, seed=4) != once
    monkeypatch.setattr("keyframe.evaluation.metrics._AT_ONCE", 1000)
    assert interval(values, seed=3) == once


def test_interval_moves_and_stretches_with_its_values():
    values = normal(20)
    lo, hi = interval(values)
    assert interval(10 + 3 * values) == pytest.approx((10 + 3 * lo, 10 + 3 * hi))
    assert lo < values.mean() < hi


def test_interval_of_equal_values_is_a_point():
    assert interval([0.3] * 5) == pytest.approx((0.3, 0.3))


@pytest.mark.parametrize("values", [[], [0.5], [0.5, math.nan], [math.nan, math.nan]])
def test_fewer_than_two_videos_have_no_interval(values):
    assert all(math.isnan(end) for end in interval(values))


def test_undefined_values_are_left_out():
    values = normal(12)
    assert interval([*values, math.nan]) == interval(values)


@pytest.mark.parametrize("wrong", [{"level": 0}, {"level": 1}, {"level": 95}, {"draws": 0}])
def test_level_and_draws_are_checked(wrong):
    with pytest.raises(ValueError, match="level must lie in"):
        interval([1, 2, 3], **wrong)


def test_a_table_is_no_series():
    with pytest.raises(ValueError, match="one number a video"):
        interval(np.zeros((2, 2)))


@pytest.mark.parametrize(("count", "shift"), [(5, 1.0), (10, 0.5), (13, 0.0), (40, 0.3)])
def test_p_value_is_that_of_scipys_paired_test(count, shift):
    a, b = normal(count, 1, shift), normal(count, 2)
    theirs = permutation_test(
        (a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=9_999, rng=np.random.default_rng(0),
    )  # fmt: skip
    result = paired_difference(a, b)
    assert result.p_value == pytest.approx(theirs.pvalue, abs=1e-12 if count <= 13 else 0.02)
    assert result.value == pytest.approx(a.mean() - b.mean())
    assert (result.lo, result.hi) == interval(a - b)
    assert result.videos == count


def test_p_value_by_hand():
    # of the 8 sign patterns of 1, 2, 3 only +++ and --- are as far from 0
    assert paired_difference([1, 2, 3], [0, 0, 0]).p_value == 2 / 8
    # 1 - 2 + 3 = 2: all but +-(1 + 2 - 3) = 0 are at least as far
    assert paired_difference([1, -2, 3], [0, 0, 0]).p_value == 6 / 8


def test_equal_models_cannot_be_told_apart():
    result = paired_difference([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
    assert (result.value, result.lo, result.hi, result.p_value) == (0, 0, 0, 1)


def test_who_goes_first_changes_the_sign_only():
    for count in (8, 30):
        a, b = normal(count, 1, 0.4), normal(count, 2)
        one, other = paired_difference(a, b), paired_difference(b, a)
        assert other.value == pytest.approx(-one.value)
        assert other.p_value == pytest.approx(one.p_value)
        assert (other.lo, other.hi) == pytest.approx((-one.hi, -one.lo), abs=0.05)


@pytest.mark.parametrize("count", [6, 30])
def test_equal_models_are_told_apart_in_five_percent_of_trials(count):
    values = [
        paired_difference(normal(count, seed), normal(count, seed + 5000), draws=400).p_value for seed in range(800)
    ]
    assert 0.02 < np.mean(np.array(values) <= 0.05) < 0.08


def test_few_videos_never_give_a_tiny_p_value():
    assert paired_difference([5, 6, 7, 8, 9], [0] * 5).p_value == 2 / 2**5


def test_a_video_that_lacks_a_value_is_left_out_of_both():
    result = paired_difference([1, math.nan, 3, 4], [0, 0, math.nan, 1])
    assert (result.videos, result.value) == (2, 2)


@pytest.mark.parametrize(("a", "value"), [([], math.nan), ([2.0], 2.0)])
def test_fewer_than_two_videos_have_no_p_value(a, value):
    result = paired_difference(a, [0.0] * len(a))
    assert result.value == pytest.approx(value, nan_ok=True)
    assert math.isnan(result.p_value) and math.isnan(result.lo) and math.isnan(result.hi)


def test_different_videos_are_refused():
    with pytest.raises(ValueError, match="the same videos, not 2 and 3"):
        paired_difference([1, 2], [1, 2, 3])
