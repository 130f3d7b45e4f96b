import math
from dataclasses import astuple

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from keyframe.data.labels import read_labels
from keyframe.evaluation.metrics import f1_user
from keyframe.evaluation.reference import (
    LINES,
    POOLED_DRAWS,
    RANDOM_DRAWS,
    RIDGE_PENALTIES,
    f1_metrics,
    fit_ridge,
    reference_f1,
    reference_lines,
    reference_metrics,
    reference_table,
)
from keyframe.evaluation.report import reference_notes
from keyframe.evaluation.results import BASELINES, measure
from keyframe.evaluation.video import RIDGE, TRAINING_FREE, annotators_at_picks
from keyframe.types import Labels
from tests.evaluation.example import eval_video_of


def labels_of(picks, category=""):
    """Labels from 1 to 5 at the picks, each held for 15 frames."""
    annotators = np.repeat((np.asarray(picks, dtype=np.float64) - 1) / 4, 15, axis=1)
    return Labels(annotators.mean(0).astype(np.float32), annotators.astype(np.float32), category)


def annotations(seed=0, count=6, length=40):
    return np.random.default_rng(seed).integers(1, 6, (count, length))


def lines_of(labels, seed=0):
    return reference_lines(annotators_at_picks(labels), np.random.default_rng(seed))


@pytest.fixture(scope="module")
def official(official_labels):
    labels = read_labels(official_labels)
    return labels, dict(reference_table(labels))


@pytest.mark.full
def test_the_official_file_gives_the_published_lines(official):
    metrics = reference_metrics(official[1])
    published = {"one_annotator": (0.177, 0.204), "other_annotators": (0.314, 0.396), "ceiling": (0.378, 0.473)}
    for line, (tau, rho) in published.items():
        assert round(metrics[f"reference/{line}/kendall"], 3) == tau
        assert round(metrics[f"reference/{line}/spearman"], 3) == rho
        assert metrics[f"reference/{line}/videos"] == 50
        assert metrics[f"reference/{line}/undefined"] == 0
        assert metrics[f"reference/{line}/kendall_lo"] < tau < metrics[f"reference/{line}/kendall_hi"]


@pytest.mark.full
def test_the_other_lines_of_the_official_file(official):
    metrics = reference_metrics(official[1])
    assert metrics["reference/pooled/kendall"] == pytest.approx(0.52, abs=0.01)
    assert metrics["reference/pooled/spearman"] == pytest.approx(0.67, abs=0.01)
    assert metrics["reference/random/kendall"] == pytest.approx(0, abs=0.003)
    assert metrics["reference/uniform/kendall"] == pytest.approx(0, abs=0.01)
    # nothing but where a frame stands is worth this much
    assert metrics["reference/position/kendall"] == pytest.approx(0.0995, abs=1e-3)
    assert metrics["reference/one_annotator/comparisons"] == 50 * 190
    assert metrics["reference/ceiling/comparisons"] == metrics["reference/other_annotators/comparisons"] == 50 * 20


@pytest.mark.full
def test_the_ceiling_is_what_the_protocol_gives_the_annotators_mean(official):
    labels, table = official
    for video in list(labels)[:3]:
        result = measure(labels[video].annotators.mean(0, dtype=np.float64)[::15], eval_video_of(labels[video]))
        assert table[video]["ceiling"].kendall == pytest.approx(result["annotator_kendall"])
        assert table[video]["ceiling"].spearman == pytest.approx(result["annotator_spearman"])
        assert result["kendall"] == pytest.approx(1)


def test_by_hand():
    lines = lines_of(labels_of([[1, 2, 3, 4], [1, 2, 4, 3], [1, 1, 2, 2]]))
    # pairs: 5 of 6 agree and 1 not; twice 4 agree, and 2 are tied in one of the two
    assert lines["one_annotator"].kendall == pytest.approx((4 / 6 + 2 * 4 / math.sqrt(6 * 4)) / 3)
    assert lines["one_annotator"].spearman == pytest.approx((0.8 + 2 * 4 / math.sqrt(5 * 4)) / 3)
    # the others' means: 1 1.5 3 2.5 for the first, 1 1.5 2.5 3 for the second, 1 2 3.5 3.5 for the third
    assert lines["other_annotators"].kendall == pytest.approx((4 / 6 + 4 / 6 + 4 / math.sqrt(4 * 5)) / 3)
    assert lines["other_annotators"].spearman == pytest.approx((0.8 + 0.8 + 4 / math.sqrt(4 * 4.5)) / 3)
    # the mean of all: 3 5 9 9 thirds
    assert lines["ceiling"].kendall == pytest.approx((2 * 5 / math.sqrt(5 * 6) + 4 / math.sqrt(5 * 4)) / 3)
    assert lines["ceiling"].spearman == pytest.approx((2 * 4.5 / math.sqrt(4.5 * 5) + 4 / math.sqrt(4.5 * 4)) / 3)
    # 0 0 1 0, and 1 2 2 1
    uniform = [kendalltau([0, 0, 1, 0], one).statistic for one in ([1, 2, 3, 4], [1, 2, 4, 3], [1, 1, 2, 2])]
    assert lines["uniform"].kendall == pytest.approx(np.mean(uniform))
    # 0 1 1 0: as often with the first and the third as against them
    assert lines["position"].kendall == pytest.approx(2 / math.sqrt(4 * 6) / 3)
    assert [line.comparisons for line in lines.values()] == [3, 3, 3, 3 * RANDOM_DRAWS, 3, 3, POOLED_DRAWS]
    assert list(lines) == [name for name in LINES if name not in BASELINES]


def test_halves_of_two_annotators_are_the_two():
    lines = lines_of(labels_of(annotations(count=2)))
    assert lines["pooled"].kendall == pytest.approx(lines["one_annotator"].kendall)
    assert lines["pooled"].kendall == pytest.approx(lines["other_annotators"].kendall)


def test_the_order_of_annotators_changes_nothing():
    scores = annotations()
    before, after = lines_of(labels_of(scores)), lines_of(labels_of(scores[[4, 2, 0, 5, 1, 3]]))
    for name, line in before.items():
        assert astuple(after[name]) == pytest.approx(astuple(line), abs=1e-9), name


def test_a_monotone_change_of_one_annotators_scale_changes_no_pair():
    scores = annotations()
    changed = np.where(scores == 5, 5, (scores + 1) // 2 + 1)  # 2, 2, 3, 3, 5: ties are kept by both
    once, twice = lines_of(labels_of(changed)), lines_of(labels_of(np.where(changed == 5, 4, changed)))
    assert astuple(once["one_annotator"]) == pytest.approx(astuple(twice["one_annotator"]))


def test_a_video_does_not_depend_on_the_others_and_the_seed_counts():
    labels = {name: labels_of(annotations(seed)) for seed, name in enumerate("abc")}
    table = dict(reference_table(labels))
    assert dict(reference_table({"b": labels["b"]}))["b"] == table["b"]
    other = dict(reference_table(labels, seed=1))
    assert other["b"]["ceiling"] == table["b"]["ceiling"]
    assert other["b"]["random"] != table["b"]["random"]
    assert other["b"]["pooled"] != table["b"]["pooled"]


def test_constant_annotators_are_counted_and_named():
    scores = annotations(count=4)
    scores[2] = 3
    table = dict(
        reference_table({"a": labels_of(scores), "b": labels_of(annotations(count=4)), "c": labels_of(scores * 0 + 2)})
    )
    undefined = {name: line.undefined for name, line in table["a"].items()}
    assert undefined == {
        "one_annotator": 3,
        "other_annotators": 1,
        "ceiling": 1,
        "random": RANDOM_DRAWS,
        "uniform": 1,
        "position": 1,
        "pooled": 0,
    }
    assert all(math.isnan(line.kendall) and line.undefined == line.comparisons for line in table["c"].values())
    metrics = reference_metrics(table)
    assert metrics["reference/videos"] == 3
    assert metrics["reference/ceiling/videos"] == 2
    assert metrics["reference/ceiling/undefined"] == 5
    mean = (table["a"]["ceiling"].kendall + table["b"]["ceiling"].kendall) / 2
    assert metrics["reference/ceiling/kendall"] == pytest.approx(mean)
    notes = reference_notes(metrics)
    assert any(note.startswith("ceiling: 5 of 12 correlations are not defined") for note in notes)
    assert any(note.startswith("ceiling: 1 of 3 videos have no value") for note in notes)


def test_a_single_annotator_has_no_pairs():
    lines = lines_of(labels_of(annotations(count=1)))
    for name in ("one_annotator", "other_annotators", "pooled"):
        assert lines[name].comparisons == 0 and math.isnan(lines[name].kendall)
    assert lines["ceiling"].kendall == pytest.approx(1)


def test_one_pick_has_no_correlation():
    lines = lines_of(labels_of(annotations(length=1)))
    assert all(math.isnan(line.spearman) and line.undefined == line.comparisons for line in lines.values())


def test_a_baseline_is_a_line_if_it_is_given():
    scores = annotations()
    track = np.linspace(0, 1, 40)
    line = reference_lines(scores / 5, np.random.default_rng(0), {RIDGE: track})[RIDGE]
    assert line.kendall == pytest.approx(np.mean([kendalltau(track, one).statistic for one in scores]))
    assert line.comparisons == 6


# Ridge regression


def linear_videos(count, rng, noise):
    """Features (n, 8) of several scales, and importance that is linear in them up to noise."""
    videos = []
    for length in range(20, 20 + count):
        features = (rng.standard_normal((length, 8)) * 10.0 ** np.arange(-3, 1, 0.5) + 3).astype(np.float32)
        videos.append((features, features @ np.linspace(1, 2, 8) / 20 + noise * rng.standard_normal(length)))
    return videos


def test_ridge_regression_is_the_least_squares_solution_at_the_penalty_that_ranks_validation_videos_best():
    rng = np.random.default_rng(0)
    train, val = linear_videos(3, rng, 0.5), linear_videos(2, rng, 0.1)
    ridge = fit_ridge(train, val)
    x, y = (np.concatenate(part).astype(np.float64) for part in zip(*train, strict=True))
    unit = np.linalg.eigvalsh(np.cov(x.T, bias=True)).mean()

    def rows_of(penalty):
        # the penalty as further rows of an ordinary problem, and a column of ones for the bias
        extra = np.sqrt(penalty * unit * len(x)) * np.eye(8)
        design = np.block([[x, np.ones((len(x), 1))], [extra, np.zeros((8, 1))]])
        return np.linalg.lstsq(design, np.append(y, np.zeros(8)))[0]

    rho = {
        penalty: np.mean([spearmanr(features @ rows_of(penalty)[:8], truth).statistic for features, truth in val])
        for penalty in RIDGE_PENALTIES
    }
    assert ridge.penalty == max(rho, key=rho.get) and len(set(rho.values())) > 1
    expected = rows_of(ridge.penalty)
    np.testing.assert_allclose([*ridge.weights, ridge.bias], expected, rtol=1e-5)
    np.testing.assert_allclose(ridge.scores(val[0][0]), val[0][0] @ expected[:8] + expected[8], rtol=1e-5)
    # features of another scale, and an offset of them, change no score
    other = fit_ridge([(5 * one - 2, truth) for one, truth in train], [(5 * one - 2, truth) for one, truth in val])
    np.testing.assert_allclose(other.scores(5 * val[0][0] - 2), ridge.scores(val[0][0]), rtol=1e-4)


def test_ridge_regression_of_what_has_nothing_to_learn_from_is_constant():
    flat = [(np.ones((4, 3), np.float32), np.linspace(0, 1, 4))]
    ridge = fit_ridge(flat, [(np.ones((4, 3), np.float32), np.zeros(4))])
    assert ridge.penalty == RIDGE_PENALTIES[0]
    np.testing.assert_allclose(ridge.scores(np.ones((2, 3))), 0.5)


# Keyshot F1


def annotated(seed):
    return eval_video_of(labels_of(annotations(seed, count=5)))


def test_f1_of_annotators_is_that_of_all_pairs():
    video = annotated(0)
    lines = reference_f1(video, np.random.default_rng(0))
    pairs = [f1_user(video.users[i], video.users[[j]])[0] for i in range(5) for j in range(5) if i != j]
    assert lines["one_annotator"][0] == pytest.approx(np.mean(pairs))
    assert lines["ceiling"][0] == pytest.approx(measure(video.importance, video)["f1_user_mean"])
    assert lines[TRAINING_FREE][1] == pytest.approx(measure(video.baselines[TRAINING_FREE], video)["f1_user_max"])
    assert lines["random"][0] < lines["ceiling"][0]


def test_f1_lines_without_users_are_not_defined():
    alone = eval_video_of(Labels(np.linspace(0, 1, 600, dtype=np.float32), np.empty((0, 600), np.float32)))
    lines = reference_f1(alone, np.random.default_rng(0))
    assert set(lines) == set(LINES) - {"pooled", RIDGE} and all(
        math.isnan(value) for pair in lines.values() for value in pair
    )
    metrics = f1_metrics([lines, reference_f1(annotated(0), np.random.default_rng(0))])
    assert not math.isnan(metrics["reference/random/f1_user_mean"])
    assert math.isnan(metrics["reference/random/f1_user_mean_lo"])
