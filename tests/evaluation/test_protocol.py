import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from keyframe.evaluation.metrics import defined_mean, kendall, kendall_matrix, spearman, spearman_matrix
from keyframe.evaluation.results import measure
from keyframe.evaluation.video import mean_track, picks
from keyframe.types import Labels
from tests.evaluation.subjects import subject_of


def labels_of(annotators):
    annotators = np.asarray(annotators, dtype=np.float32)
    return Labels(importance=annotators.mean(0).astype(np.float32), annotators=annotators)


def agreement(scores, labels):
    return SimpleNamespace(**measure(scores, subject_of(labels)))


def video(seed=0, frames=1000, people=6):
    """Labels that change at every frame, so that a pick beside the right one is seen; and scores with ties."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 40, -(-frames // 15)) / 40, labels_of(rng.integers(0, 5, (people, frames)) / 4)


@pytest.mark.parametrize(("frames", "count"), [(1, 1), (15, 1), (16, 2), (30, 2), (4500, 300), (10597, 707)])
def test_picks_are_every_15th_frame(frames, count):
    assert len(picks(frames)) == count
    assert picks(frames)[-1] == 15 * (count - 1) < frames


@pytest.mark.parametrize("frames", [300, 991, 1000, 1005])
def test_it_is_the_mean_of_scipys_correlations_with_each_annotator(frames):
    scores, labels = video(frames=frames)
    result = agreement(scores, labels)
    at_picks = [one[::15] for one in labels.annotators]
    assert result.annotator_kendall == pytest.approx(np.mean([kendalltau(scores, one).statistic for one in at_picks]))
    assert result.annotator_spearman == pytest.approx(np.mean([spearmanr(scores, one).statistic for one in at_picks]))
    assert (result.annotators, result.undefined_annotators) == (6, 0)


def test_against_the_mean_is_another_number():
    scores, labels = video()
    result = agreement(scores, labels)
    mean = labels.annotators.mean(0)[::15]
    assert result.kendall == pytest.approx(kendalltau(scores, mean).statistic)
    assert result.spearman == pytest.approx(spearmanr(scores, mean).statistic)
    perfect = agreement(mean, labels)
    assert perfect.kendall == pytest.approx(1) and perfect.spearman == pytest.approx(1)
    assert perfect.annotator_kendall < 0.7


@pytest.mark.parametrize("change", [lambda x: 3 * x - 7, np.exp, lambda x: x**3, lambda x: -1 / (x + 0.5)])
def test_only_the_order_of_scores_counts(change):
    scores, labels = video()
    before, after = agreement(scores, labels), agreement(change(scores), labels)
    for name in ("annotator_kendall", "annotator_spearman", "kendall", "spearman", "precision_at_15"):
        assert getattr(after, name) == pytest.approx(getattr(before, name))


def test_the_order_of_annotators_does_not_count():
    scores, labels = video()
    shuffled = labels_of(labels.annotators[[3, 1, 5, 0, 2, 4]])
    assert vars(agreement(scores, shuffled)) == pytest.approx(vars(agreement(scores, labels)), nan_ok=True)


def test_what_lies_between_picks_does_not_count():
    scores, labels = video()
    other = labels.annotators.copy()
    other[:, np.arange(other.shape[1]) % 15 != 0] = 0.5
    before, after = agreement(scores, labels), agreement(scores, labels_of(other))
    for name in ("annotator_kendall", "annotator_spearman", "kendall", "spearman", "mse"):
        assert getattr(after, name) == pytest.approx(getattr(before, name))


def test_constant_annotators_are_counted():
    scores, labels = video(people=5)
    annotators = labels.annotators.copy()
    annotators[1] = 0.25
    annotators[3, ::15] = 0.75  # constant at the picks only
    result = agreement(scores, labels_of(annotators))
    assert (result.annotators, result.undefined_annotators) == (5, 2)
    kept = agreement(scores, labels_of(annotators[[0, 2, 4]]))
    assert result.annotator_kendall == pytest.approx(kept.annotator_kendall)
    assert result.annotator_spearman == pytest.approx(kept.annotator_spearman)


def test_constant_scores_agree_with_nobody():
    scores, labels = video()
    result = agreement(np.full_like(scores, 0.5), labels)
    assert (result.annotators, result.undefined_annotators) == (6, 6)
    for value in (result.annotator_kendall, result.annotator_spearman, result.kendall, result.spearman):
        assert math.isnan(value)


def test_without_annotators_the_files_own_track_is_the_mean():
    scores, labels = video()
    alone = Labels(importance=labels.importance, annotators=np.empty((0, len(labels)), dtype=np.float32))
    result = agreement(scores, alone)
    assert math.isnan(result.annotator_kendall) and (result.annotators, result.undefined_annotators) == (0, 0)
    assert result.kendall == pytest.approx(agreement(scores, labels).kendall)


@pytest.mark.parametrize("scores", [np.zeros(66), np.zeros(1000), np.zeros((1, 67)), np.full(67, np.nan)])
def test_a_finite_score_a_pick_is_needed(scores):
    with pytest.raises(ValueError, match=r"needs \(67,\) finite scores"):
        agreement(scores, video()[1])


def test_sums_of_inexact_scores_tie():
    thirds = np.array([[1 / 3, 0, 0.1], [2 / 3, 1, 0.9]], dtype=np.float32)
    assert len(set(thirds.mean(0, dtype=np.float64))) > 1
    assert len(set(mean_track(thirds))) == 1


# The matrices of keyframe.evaluation.metrics
@pytest.mark.parametrize("levels", [2, 5, 10_000])
@pytest.mark.parametrize("length", [2, 3, 40, 707])
def test_matrices_hold_the_correlations_of_all_pairs(levels, length):
    rng = np.random.default_rng(levels + length)
    a, b = rng.integers(0, levels, (4, length)) / 4, rng.integers(0, 5, (3, length)) / 4
    b[2] = 0.5
    taus, rhos = kendall_matrix(a, b), spearman_matrix(a, b)
    assert taus.shape == rhos.shape == (4, 3)
    expected = np.array([[[kendall(one, other), spearman(one, other)] for other in b] for one in a])
    np.testing.assert_allclose(taus, expected[:, :, 0], atol=1e-12)
    np.testing.assert_allclose(rhos, expected[:, :, 1], atol=1e-12)
    assert np.isnan(taus[:, 2]).all() and np.isnan(rhos[:, 2]).all()


def test_matrices_of_one_frame_or_of_no_rows():
    one = np.ones((2, 1))
    assert np.isnan(kendall_matrix(one, one)).all() and np.isnan(spearman_matrix(one, one)).all()
    assert kendall_matrix(np.empty((0, 9)), np.ones((2, 9))).shape == (0, 2)


def test_defined_mean():
    assert defined_mean([1, float("nan"), 3]) == 2
    assert math.isnan(defined_mean([float("nan")])) and math.isnan(defined_mean([]))
