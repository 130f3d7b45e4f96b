import math
import warnings
from itertools import product

import numpy as np
import pytest
from scipy.stats import bootstrap, kendalltau, permutation_test, spearmanr

from keyframe.evaluation.metrics import (
    VIDEO_METRICS,
    defined_mean,
    epoch_metrics,
    interval,
    kendall,
    kendall_matrix,
    mean_metrics,
    paired_difference,
    precision_at_top,
    spearman,
    spearman_matrix,
    video_metrics,
)
from keyframe.training.module import VideoMetrics

RANK_METRICS = ("spearman", "kendall", "annotator_spearman", "annotator_kendall", "precision_at_15")


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)  # of what an earlier test has left
        yield


def video(seed=0, length=60, annotators_count=20):
    rng = np.random.default_rng(seed)
    annotators = rng.integers(0, 5, (annotators_count, length)) / 4
    importance = annotators.mean(0) if annotators_count else rng.integers(0, 5, length) / 4
    return rng.random(length), importance, annotators


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize("length", [2, 3, 60, 481])
def test_rank_correlations_are_scipys(length, levels):
    rng = np.random.default_rng(length * levels)
    for a_levels in (levels, 10_000):
        a, b = rng.integers(0, a_levels, length) * 1.0, rng.integers(0, levels, length) * 1.0
        a[:2], b[:2] = (0, 1), (1, 0)
        assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
        assert kendall(a, b) == pytest.approx(kendalltau(a, b).statistic, abs=1e-12)


def test_kendall_is_tau_b_by_hand():
    # pairs: 3 agree, 1 disagrees, 1 tied in the first, 1 tied in the second
    a, b = np.array([1, 2, 2, 3]), np.array([1, 3, 2, 2])
    assert kendall(a, b) == pytest.approx((3 - 1) / math.sqrt(5 * 5))


@pytest.mark.parametrize("metric", [spearman, kendall])
def test_constants_and_single_frames_have_no_correlation(metric):
    rising, flat = np.arange(5.0), np.full(5, 0.1 + 0.2)
    for a, b in ((rising, flat), (flat, rising), (flat, flat), (rising[:1], rising[:1]), (rising[:0], rising[:0])):
        assert math.isnan(metric(a, b))


def test_precision_by_hand():
    # 20 frames: the top 15 % are 3. Predicted 2, 5, 7; the people's 5, 7, 11: two of three.
    scores, importance = np.zeros(20), np.zeros(20)
    scores[[2, 5, 7]] = 0.9, 0.8, 0.7
    importance[[5, 7, 11]] = 0.3, 0.2, 0.1
    assert precision_at_top(scores, importance, 0.15) == pytest.approx(2 / 3)
    assert video_metrics(scores, importance, np.zeros((0, 20)))["precision_at_15"] == pytest.approx(2 / 3)


def test_precision_where_scores_tie():
    # of equal values the earlier frame goes first: frames 0, 1, 2 against 1, 2, 3
    importance = np.zeros(20)
    importance[[1, 2, 3]] = 1.0
    assert precision_at_top(np.full(20, 0.5), importance, 0.15) == pytest.approx(2 / 3)
    # and in a long video: frames 0 to 59 against 20 to 79
    importance = np.zeros(400)
    importance[20:200] = 1.0
    assert precision_at_top(np.full(400, 0.5), importance, 0.15) == pytest.approx(40 / 60)


@pytest.mark.parametrize(("length", "count"), [(1, 1), (3, 1), (6, 1), (11, 2), (20, 3), (60, 9), (100, 15)])
def test_precision_takes_15_percent_and_a_frame_at_least(length, count):
    scores = np.arange(length) / length
    importance = np.zeros(length)
    importance[-count:] = 1.0
    assert precision_at_top(scores, importance, 0.15) == 1.0
    if length > 2 * count:
        assert precision_at_top(-scores, importance, 0.15) == 0.0


def test_annotator_metrics_are_means_over_annotators():
    scores, importance, annotators = video(annotators_count=7)
    row = video_metrics(scores, importance, annotators)
    assert tuple(row) == VIDEO_METRICS
    rhos = [spearmanr(scores, one).statistic for one in annotators]
    taus = [kendalltau(scores, one).statistic for one in annotators]
    assert row["annotator_spearman"] == pytest.approx(np.mean(rhos))
    assert row["annotator_kendall"] == pytest.approx(np.mean(taus))
    assert row["spearman"] == pytest.approx(spearmanr(scores, importance).statistic)
    assert row["kendall"] == pytest.approx(kendalltau(scores, importance).statistic)
    assert row["mse"] == pytest.approx(sum((a - b) ** 2 for a, b in zip(scores, importance, strict=True)) / 60)
    assert row["mae"] == pytest.approx(sum(abs(a - b) for a, b in zip(scores, importance, strict=True)) / 60)


def test_an_annotator_who_never_varies_is_left_out():
    scores, importance, annotators = video(annotators_count=3)
    annotators[1] = 0.25
    row = video_metrics(scores, importance, annotators)
    assert row["annotator_spearman"] == pytest.approx(
        (spearmanr(scores, annotators[0]).statistic + spearmanr(scores, annotators[2]).statistic) / 2
    )


def test_without_annotators_their_metrics_are_undefined_and_the_others_are_not():
    row = video_metrics(*video(annotators_count=0))
    undefined = {name for name, value in row.items() if math.isnan(value)}
    assert undefined == {"annotator_spearman", "annotator_kendall"}


@pytest.mark.parametrize("change", [lambda x: 3 * x - 7, np.exp, lambda x: x**3, lambda x: -1 / (x + 0.5)])
def test_rank_metrics_see_nothing_but_the_order(change):
    scores, importance, annotators = video()
    scores = np.round(scores, 2)  # with ties, which the change keeps
    before, after = video_metrics(scores, importance, annotators), video_metrics(change(scores), importance, annotators)
    for name in RANK_METRICS:
        assert after[name] == pytest.approx(before[name], abs=1e-12)
    assert after["mse"] != pytest.approx(before["mse"])


def test_the_order_of_annotators_does_not_matter():
    scores, importance, annotators = video()
    before = video_metrics(scores, importance, annotators)
    assert video_metrics(scores, importance, annotators[::-1]) == pytest.approx(before, abs=1e-12)


def test_the_reverse_order_changes_the_sign():
    scores, importance, annotators = video()
    before, after = video_metrics(scores, importance, annotators), video_metrics(-scores, importance, annotators)
    for name in RANK_METRICS[:4]:
        assert after[name] == pytest.approx(-before[name])


def test_epoch_metrics_leave_undefined_values_out_and_count_them():
    nan = float("nan")
    rows = [
        {**dict.fromkeys(VIDEO_METRICS, 0.2), "annotator_kendall": nan, "kendall": nan},
        {**dict.fromkeys(VIDEO_METRICS, 0.6), "annotator_kendall": nan},
        {**dict.fromkeys(VIDEO_METRICS, 0.4), "annotator_kendall": nan, "spearman": nan},
    ]
    result = epoch_metrics(iter(rows))
    assert result["undefined"] == 1
    assert result["spearman"] == pytest.approx(0.4)
    assert result["spearman_std"] == pytest.approx(math.sqrt(0.08))  # of .2 and .6, one degree of freedom
    assert result["kendall"] == pytest.approx(0.5)
    assert result["mse"] == pytest.approx(0.4)
    assert result["mse_std"] == pytest.approx(0.2)
    assert not [name for name in result if name.startswith("annotator_kendall")]
    row = video_metrics(*video())
    assert epoch_metrics([row]) == {"undefined": 0, **row}
    assert epoch_metrics([]) == {"undefined": 0}


def test_matrices_hold_the_correlations_of_all_pairs():
    for levels, length in product((2, 5, 10_000), (2, 3, 40, 707)):
        rng = np.random.default_rng(levels + length)
        a, b = rng.integers(0, levels, (4, length)) / 4, rng.integers(0, 5, (3, length)) / 4
        b[2] = 0.5
        taus, rhos = kendall_matrix(a, b), spearman_matrix(a, b)
        assert taus.shape == rhos.shape == (4, 3)
        expected = np.array([[[kendall(one, other), spearman(one, other)] for other in b] for one in a])
        np.testing.assert_allclose(taus, expected[:, :, 0], atol=1e-12)
        np.testing.assert_allclose(rhos, expected[:, :, 1], atol=1e-12)
        assert np.isnan(taus[:, 2]).all() and np.isnan(rhos[:, 2]).all()
    one = np.ones((2, 1))
    assert np.isnan(kendall_matrix(one, one)).all() and np.isnan(spearman_matrix(one, one)).all()
    assert kendall_matrix(np.empty((0, 9)), np.ones((2, 9))).shape == (0, 2)


# Means over videos


def normal(count, seed=0, mean=0.0):
    return np.random.default_rng(seed).normal(mean, 1, count)


def test_interval_is_scipys_and_lies_around_the_mean():
    for count in (2, 10, 50):
        values = normal(count)
        theirs = bootstrap(
            (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(0)
        ).confidence_interval
        assert interval(values) == pytest.approx(tuple(theirs))
    lo, hi = interval(values)
    assert interval(10 + 3 * values) == pytest.approx((10 + 3 * lo, 10 + 3 * hi))
    assert lo < values.mean() < hi
    assert interval([0.3] * 5) == pytest.approx((0.3, 0.3))
    assert interval([*values, math.nan]) == (lo, hi)


def test_coverage():
    """The shares in the docstring of `interval`."""
    for count, lowest, highest in ((10, 0.87, 0.93), (20, 0.90, 0.95), (50, 0.91, 0.97)):
        ends = [interval(normal(count, seed), draws=300, seed=seed) for seed in range(500)]
        assert lowest < np.mean([lo <= 0 <= hi for lo, hi in ends]) < highest


def test_interval_is_repeatable_whatever_the_memory(monkeypatch):
    values = normal(30)
    once = interval(values, seed=3)
    assert interval(values, seed=3) == once
    assert interval(values, seed=4) != once
    monkeypatch.setattr("keyframe.evaluation.metrics._AT_ONCE", 1000)
    assert interval(values, seed=3) == once


def test_fewer_than_two_videos_have_no_interval():
    for values in ([], [0.5], [0.5, math.nan], [math.nan, math.nan]):
        assert all(math.isnan(end) for end in interval(values))
    assert mean_metrics("rho", [0.5, math.nan]) == pytest.approx(
        {"rho": 0.5, "rho_std": math.nan, "rho_lo": math.nan, "rho_hi": math.nan}, nan_ok=True
    )
    assert defined_mean([1, math.nan, 3]) == 2 and math.isnan(defined_mean([math.nan])) and math.isnan(defined_mean([]))
    with pytest.raises(ValueError, match="one number per video"):
        interval(np.zeros((2, 2)))


def test_p_value_is_that_of_scipys_paired_test():
    for count, shift in ((5, 1.0), (10, 0.5), (13, 0.0), (40, 0.3)):
        a, b = normal(count, 1, shift), normal(count, 2)
        theirs = permutation_test(
            (a, b),
            lambda x, y, axis: np.mean(x - y, axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=9_999,
            rng=np.random.default_rng(0),
        )
        result = paired_difference(a, b)
        assert result.p_value == pytest.approx(theirs.pvalue, abs=1e-12 if count <= 13 else 0.02)
        assert result.value == pytest.approx(a.mean() - b.mean())
        assert (result.lo, result.hi) == interval(a - b)
        assert result.videos == count
        other = paired_difference(b, a)
        assert (other.value, other.p_value) == pytest.approx((-result.value, result.p_value))
        assert (other.lo, other.hi) == pytest.approx((-result.hi, -result.lo), abs=0.1)


def test_p_value_by_hand():
    # of the 8 sign patterns of 1, 2, 3 only +++ and --- are as far from 0
    assert paired_difference([1, 2, 3], [0, 0, 0]).p_value == 2 / 8
    # 1 - 2 + 3 = 2: all but +-(1 + 2 - 3) = 0 are at least as far
    assert paired_difference([1, -2, 3], [0, 0, 0]).p_value == 6 / 8
    # few videos never give a tiny one
    assert paired_difference([5, 6, 7, 8, 9], [0] * 5).p_value == 2 / 2**5
    equal = paired_difference([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
    assert (equal.value, equal.lo, equal.hi, equal.p_value) == (0, 0, 0, 1)


def test_equal_models_differ_significantly_in_five_percent_of_trials():
    for count in (6, 30):
        trials = [paired_difference(normal(count, n), normal(count, n + 5000), draws=200) for n in range(500)]
        assert 0.02 < np.mean([trial.p_value <= 0.05 for trial in trials]) < 0.08


def test_a_video_without_a_value_is_left_out_of_both():
    result = paired_difference([1, math.nan, 3, 4], [0, 0, math.nan, 1])
    assert (result.videos, result.value) == (2, 2)
    for a, value in (([], math.nan), ([2.0], 2.0)):
        result = paired_difference(a, [0.0] * len(a))
        assert result.value == pytest.approx(value, nan_ok=True)
        assert math.isnan(result.p_value) and math.isnan(result.lo) and math.isnan(result.hi)


# Per-video metrics gathered by training


def test_video_metrics_gathers_a_row_a_video():
    metric = VideoMetrics()
    given = {number: video(seed=number, length=30 + number, annotators_count=number % 3) for number in (4, 0, 2)}
    for number, one in given.items():
        metric.update(number, *one)
    table = metric.compute()
    assert list(table) == [0, 2, 4]
    for number, one in given.items():
        assert table[number] == pytest.approx(video_metrics(*one), nan_ok=True)
    metric.update(4, *video(seed=99))  # a video that two ranks saw counts once
    assert len(metric.compute()) == 3
    metric.reset()
    metric.update(1, *video())
    assert list(metric.compute()) == [1]


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_video_metrics_of_nothing_is_empty():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert VideoMetrics().compute() == {}
