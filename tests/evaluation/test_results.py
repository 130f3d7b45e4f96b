import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import kendalltau, rankdata, spearmanr

from keyframe.evaluation.results import (
    METRICS,
    ModelResult,
    compare_pairs,
    measure,
    model_result,
    overall_metrics,
    pair_metrics,
)
from keyframe.types import Labels
from tests.evaluation.example import eval_video_of, labels_of


def annotated(seed, name="clip", frames=600, annotators=5):
    scores = np.random.default_rng(seed).integers(0, 5, (annotators, frames // 15)) / 4
    return eval_video_of(labels_of(np.repeat(scores, 15, axis=1)), name)


VIDEOS = {name: annotated(seed, name) for seed, name in enumerate("abcd")}


def scores(seed):
    rng = np.random.default_rng(seed)
    return {name: rng.random(40) for name in VIDEOS}


# One video


def agreement(scores, labels):
    return SimpleNamespace(**measure(scores, eval_video_of(labels)))


def scored(seed=0, frames=1000, annotators=6):
    """Scores with ties, and labels that change at every frame, so that a pick beside the right one is seen."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 40, -(-frames // 15)) / 40, labels_of(rng.integers(0, 5, (annotators, frames)) / 4)


def test_it_is_the_mean_of_scipys_correlations_with_each_annotator():
    for frames in (300, 991, 1000, 1005):
        track, labels = scored(frames=frames)
        result = agreement(track, labels)
        at_picks = [one[::15] for one in labels.annotators]
        assert result.annotator_kendall == pytest.approx(
            np.mean([kendalltau(track, one).statistic for one in at_picks])
        )
        rhos = [spearmanr(track, one).statistic for one in at_picks]
        assert result.annotator_spearman == pytest.approx(np.mean(rhos))
        assert (result.annotators, result.undefined_annotators) == (6, 0)


def test_against_the_mean_is_another_number():
    track, labels = scored()
    result = agreement(track, labels)
    mean = labels.annotators.mean(0)[::15]
    assert result.kendall == pytest.approx(kendalltau(track, mean).statistic)
    assert result.spearman == pytest.approx(spearmanr(track, mean).statistic)
    perfect = agreement(mean, labels)
    assert perfect.kendall == pytest.approx(1) and perfect.spearman == pytest.approx(1)
    assert perfect.precision_at_15 == pytest.approx(1) and perfect.mse == pytest.approx(0, abs=1e-12)
    assert perfect.annotator_kendall < 0.7 and perfect.f1_user_mean <= perfect.f1_user_max <= 1


def test_only_the_order_of_scores_counts():
    track, labels = scored()
    before = agreement(track, labels)
    for change in (lambda x: 3 * x - 7, np.exp, lambda x: x**3, lambda x: -1 / (x + 0.5)):
        after = agreement(change(track), labels)
        for name in ("annotator_kendall", "annotator_spearman", "kendall", "spearman", "precision_at_15"):
            assert getattr(after, name) == pytest.approx(getattr(before, name))


def test_the_order_of_annotators_and_frames_between_picks_do_not_count():
    track, labels = scored()
    before = vars(agreement(track, labels))
    shuffled = labels_of(labels.annotators[[3, 1, 5, 0, 2, 4]])
    assert vars(agreement(track, shuffled)) == pytest.approx(before, nan_ok=True)
    other = labels.annotators.copy()
    other[:, np.arange(other.shape[1]) % 15 != 0] = 0.5
    after = vars(agreement(track, labels_of(other)))
    for name in ("annotator_kendall", "annotator_spearman", "kendall", "spearman", "mse"):
        assert after[name] == pytest.approx(before[name])


def test_constant_annotators_are_counted():
    track, labels = scored(annotators=5)
    annotators = labels.annotators.copy()
    annotators[1] = 0.25
    annotators[3, ::15] = 0.75  # constant at the picks only
    result = agreement(track, labels_of(annotators))
    assert (result.annotators, result.undefined_annotators) == (5, 2)
    kept = agreement(track, labels_of(annotators[[0, 2, 4]]))
    assert result.annotator_kendall == pytest.approx(kept.annotator_kendall)
    assert result.annotator_spearman == pytest.approx(kept.annotator_spearman)


def test_constant_scores_have_no_correlation():
    track, labels = scored()
    result = agreement(np.full_like(track, 0.5), labels)
    assert (result.annotators, result.undefined_annotators) == (6, 6)
    for value in (result.annotator_kendall, result.annotator_spearman, result.kendall, result.spearman):
        assert math.isnan(value)


def test_without_annotators_the_files_own_track_is_the_mean():
    track, labels = scored()
    alone = Labels(importance=labels.importance, annotators=np.empty((0, len(labels)), dtype=np.float32))
    result = agreement(track, alone)
    assert math.isnan(result.annotator_kendall) and (result.annotators, result.undefined_annotators) == (0, 0)
    assert result.kendall == pytest.approx(agreement(track, labels).kendall)


def test_a_finite_score_per_pick_is_needed():
    for wrong in (np.zeros(66), np.zeros(1000), np.zeros((1, 67)), np.full(67, np.nan)):
        with pytest.raises(ValueError, match=r"needs \(67,\) finite scores"):
            agreement(wrong, scored()[1])


# Models


def test_folds_are_joined_each_video_once():
    every = scores(0)
    folds = [{"a": every["a"], "c": every["c"]}, {"b": every["b"], "d": every["d"]}]
    joined, whole = model_result("model", folds, VIDEOS), model_result("model", [every], VIDEOS)
    assert "kendall_over_runs" not in joined.metrics and [run["videos"] for run in joined.by_run] == [2, 2]
    assert joined.rows == whole.rows and joined.runs == dict.fromkeys("abcd", 1)
    assert joined.metrics["videos"] == 4


def test_seeds_are_averaged_number_by_number():
    runs = [scores(seed) for seed in range(3)]
    joined = model_result("model", runs, VIDEOS)
    for name, video in VIDEOS.items():
        expected = np.mean([spearmanr(run[name], video.importance).statistic for run in runs])
        assert joined.rows[name]["spearman"] == pytest.approx(expected)
    assert set(joined.runs.values()) == {3}
    means = [np.mean([row["kendall"] for row in model_result("one", [run], VIDEOS).rows.values()]) for run in runs]
    assert joined.metrics["kendall_over_runs"] == pytest.approx(np.std(means, ddof=1))
    assert "kendall_over_runs" not in model_result("model", runs, VIDEOS, ensemble="mean").metrics


def test_an_ensemble_is_measured_after_joining():
    runs = [scores(seed) for seed in range(3)]
    mean, rank = (model_result("model", runs, VIDEOS, ensemble=ensemble) for ensemble in ("mean", "rank"))
    bent = [runs[0], {name: track**7 for name, track in runs[1].items()}, runs[2]]
    rank_of_bent = model_result("model", bent, VIDEOS, ensemble="rank")
    for name, video in VIDEOS.items():
        tracks = np.stack([run[name] for run in runs])
        assert mean.rows[name]["spearman"] == pytest.approx(spearmanr(tracks.mean(0), video.importance).statistic)
        assert mean.rows[name]["mse"] == pytest.approx(np.mean((tracks.mean(0) - video.importance) ** 2))
        ranks = np.mean([rankdata(track) for track in tracks], axis=0)
        assert rank.rows[name]["spearman"] == pytest.approx(spearmanr(ranks, video.importance).statistic)
        assert math.isnan(rank.rows[name]["mse"]) and math.isnan(rank.rows[name]["mae"])
        # the scale of a member does not count
        assert rank_of_bent.rows[name] == pytest.approx(rank.rows[name], nan_ok=True)


def test_means_over_videos_leave_out_what_is_not_defined_and_count_it():
    rows = [measure(track, VIDEOS[name]) for name, track in scores(0).items()]
    rows.append(measure(np.full(40, 0.5), VIDEOS["a"]))
    result = overall_metrics(rows)
    assert (result["videos"], result["undefined"], result["undefined_annotators"]) == (5, 1, 5)
    assert result["spearman"] == pytest.approx(np.mean([row["spearman"] for row in rows[:4]]))
    assert result["spearman_videos"] == 4 and result["mse_videos"] == 5
    assert result["spearman_lo"] < result["spearman"] < result["spearman_hi"]
    one = overall_metrics(rows[:1])
    for name in METRICS:
        assert math.isnan(one[f"{name}_lo"]) and math.isnan(one[f"{name}_std"]) and not math.isnan(one[name])


# Pairs


def model(name, values):
    rows = {f"video{place}": dict.fromkeys(METRICS, value) for place, value in enumerate(values)}
    return ModelResult(name, rows, {}, dict.fromkeys(rows, 1), [])


def test_every_pair_once_and_in_order():
    pairs = compare_pairs([model("a", [0.1, 0.2]), model("b", [0.3, 0.3]), model("c", [0.2, 0.2])])
    assert [(pair.first, pair.second) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [pair.differences["spearman"].value for pair in pairs] == pytest.approx([0.15, 0.05, -0.1])
    flat = pair_metrics(compare_pairs([model("a", [0.1]), model("b", [0.9])]))
    assert flat["difference/b-a/spearman"] == pytest.approx(0.8) and math.isnan(flat["difference/b-a/spearman_p"])


def test_a_video_without_a_number_of_one_model_is_left_out():
    [pair] = compare_pairs([model("a", [0.1, math.nan, 0.3]), model("b", [0.2, 0.5, 0.4])])
    assert pair.differences["mse"].videos == 2 and pair.differences["mse"].value == pytest.approx(0.1)
