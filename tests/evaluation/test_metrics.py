import math
import warnings

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from keyframe.evaluation.metrics import VIDEO_METRICS, kendall, over_videos, precision_at_top, spearman, video_metrics
from keyframe.training.module import VideoMetrics

RANK_METRICS = ("spearman", "kendall", "annotator_spearman", "annotator_kendall", "precision_at_15")


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def video(seed=0, length=60, people=20):
    rng = np.random.default_rng(seed)
    annotators = rng.integers(0, 5, (people, length)) / 4
    importance = annotators.mean(0) if people else rng.integers(0, 5, length) / 4
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
    scores, importance, annotators = video(people=7)
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
    scores, importance, annotators = video(people=3)
    annotators[1] = 0.25
    row = video_metrics(scores, importance, annotators)
    assert row["annotator_spearman"] == pytest.approx(
        (spearmanr(scores, annotators[0]).statistic + spearmanr(scores, annotators[2]).statistic) / 2
    )


def test_without_annotators_their_metrics_are_undefined_and_the_others_are_not():
    row = video_metrics(*video(people=0))
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


def test_over_videos_leaves_undefined_values_out_and_counts_them():
    nan = float("nan")
    rows = [
        {**dict.fromkeys(VIDEO_METRICS, 0.2), "annotator_kendall": nan, "kendall": nan},
        {**dict.fromkeys(VIDEO_METRICS, 0.6), "annotator_kendall": nan},
        {**dict.fromkeys(VIDEO_METRICS, 0.4), "annotator_kendall": nan, "spearman": nan},
    ]
    result = over_videos(iter(rows))
    assert result["undefined"] == 1
    assert result["spearman"] == pytest.approx(0.4)
    assert result["spearman_std"] == pytest.approx(math.sqrt(0.08))  # of .2 and .6, one degree of freedom
    assert result["kendall"] == pytest.approx(0.5)
    assert result["mse"] == pytest.approx(0.4)
    assert result["mse_std"] == pytest.approx(0.2)
    assert not [name for name in result if name.startswith("annotator_kendall")]


def test_over_one_video_and_over_none():
    row = video_metrics(*video())
    assert over_videos([row]) == {"undefined": 0, **row}
    assert over_videos([]) == {"undefined": 0}


def test_video_metrics_gathers_a_row_a_video():
    metric = VideoMetrics()
    given = {number: video(seed=number, length=30 + number, people=number % 3) for number in (4, 0, 2)}
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
