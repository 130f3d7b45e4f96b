import math

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from keyframe.evaluation.keyshot import f1_user
from keyframe.evaluation.reference import F1_LINES, f1_metrics, reference_f1
from keyframe.evaluation.results import METRICS, measure, over_videos, study
from keyframe.types import Labels
from tests.evaluation.subjects import subject_of


def subject(seed, name="clip", frames=600, people=5):
    annotators = np.random.default_rng(seed).integers(0, 5, (people, frames // 15)) / 4
    annotators = np.repeat(annotators, 15, axis=1).astype(np.float32)
    return subject_of(Labels(annotators.mean(0).astype(np.float32), annotators), name)


SUBJECTS = {name: subject(seed, name) for seed, name in enumerate("abcd")}


def scores(seed):
    rng = np.random.default_rng(seed)
    return {name: rng.random(40) for name in SUBJECTS}


def test_folds_are_joined_each_video_once():
    every = scores(0)
    folds = [{"a": every["a"], "c": every["c"]}, {"b": every["b"], "d": every["d"]}]
    joined, whole = study("model", folds, SUBJECTS), study("model", [every], SUBJECTS)
    assert joined.over_runs() == {} and [run["videos"] for run in joined.by_run] == [2, 2]
    assert joined.rows == whole.rows and joined.runs == dict.fromkeys("abcd", 1)
    assert over_videos(list(joined.rows.values()))["videos"] == 4


def test_seeds_are_averaged_number_by_number():
    runs = [scores(seed) for seed in range(3)]
    joined = study("model", runs, SUBJECTS)
    for video, one in SUBJECTS.items():
        expected = np.mean([spearmanr(run[video], one.importance).statistic for run in runs])
        assert joined.rows[video]["spearman"] == pytest.approx(expected)
    assert set(joined.runs.values()) == {3}
    means = [np.mean([row["kendall"] for row in study("one", [run], SUBJECTS).rows.values()]) for run in runs]
    assert joined.over_runs()["kendall_over_runs"] == pytest.approx(np.std(means, ddof=1))
    assert study("model", runs, SUBJECTS, "mean").over_runs() == {}


def test_an_ensemble_is_measured_after_joining():
    runs = [scores(seed) for seed in range(3)]
    mean, rank = (study("model", runs, SUBJECTS, ensemble) for ensemble in ("mean", "rank"))
    for video, one in SUBJECTS.items():
        tracks = np.stack([run[video] for run in runs])
        assert mean.rows[video]["spearman"] == pytest.approx(spearmanr(tracks.mean(0), one.importance).statistic)
        assert mean.rows[video]["mse"] == pytest.approx(np.mean((tracks.mean(0) - one.importance) ** 2))
        ranks = np.mean([rankdata(track) for track in tracks], axis=0)
        assert rank.rows[video]["spearman"] == pytest.approx(spearmanr(ranks, one.importance).statistic)
        assert math.isnan(rank.rows[video]["mse"]) and math.isnan(rank.rows[video]["mae"])


def test_a_rank_ensemble_does_not_see_the_scale_of_its_members():
    runs = [scores(seed) for seed in range(2)]
    bent = [runs[0], {video: track**7 for video, track in runs[1].items()}]
    for video, row in study("model", bent, SUBJECTS, "rank").rows.items():
        assert row == pytest.approx(study("model", runs, SUBJECTS, "rank").rows[video], nan_ok=True)


def test_an_unknown_ensemble():
    with pytest.raises(ValueError, match="mean or rank"):
        study("model", [scores(0)], SUBJECTS, "median")


def test_a_perfect_prediction():
    one = SUBJECTS["a"]
    row = measure(one.importance, one)
    assert row["spearman"] == row["kendall"] == row["precision_at_15"] == pytest.approx(1)
    assert row["mse"] == row["mae"] == 0
    assert 0 < row["annotator_spearman"] < 1
    assert row["f1_user_mean"] <= row["f1_user_max"] <= 1


def test_means_over_videos_leave_out_what_is_not_defined_and_count_it():
    rows = [measure(track, SUBJECTS[video]) for video, track in scores(0).items()]
    rows.append(measure(np.full(40, 0.5), SUBJECTS["a"]))
    result = over_videos(rows)
    assert (result["videos"], result["undefined"], result["undefined_annotators"]) == (5, 1, 5)
    assert result["spearman"] == pytest.approx(np.mean([row["spearman"] for row in rows[:4]]))
    assert result["spearman_videos"] == 4 and result["mse_videos"] == 5
    assert result["spearman_lo"] < result["spearman"] < result["spearman_hi"]


def test_one_video_has_no_interval_and_no_spread():
    result = over_videos([measure(scores(0)["a"], SUBJECTS["a"])])
    for name in METRICS:
        assert math.isnan(result[f"{name}_lo"]) and math.isnan(result[f"{name}_std"]) and not math.isnan(result[name])


def test_f1_of_people_is_that_of_all_pairs():
    one = SUBJECTS["a"]
    lines = reference_f1(one, np.random.default_rng(0))
    pairs = [f1_user(one.users[i], one.users[[j]])[0] for i in range(5) for j in range(5) if i != j]
    assert lines["one_annotator"][0] == pytest.approx(np.mean(pairs))
    assert lines["ceiling"][0] == pytest.approx(measure(one.importance, one)["f1_user_mean"])
    assert lines["training_free"][1] == pytest.approx(measure(one.training_free, one)["f1_user_max"])
    assert lines["random"][0] < lines["ceiling"][0]


def test_f1_lines_without_users_are_not_defined():
    one = SUBJECTS["a"]
    alone = subject_of(Labels(np.linspace(0, 1, 600, dtype=np.float32), np.empty((0, 600), np.float32)))
    lines = reference_f1(alone, np.random.default_rng(0))
    assert set(lines) == set(F1_LINES) and all(math.isnan(value) for pair in lines.values() for value in pair)
    metrics = f1_metrics([lines, reference_f1(one, np.random.default_rng(0))])
    assert not math.isnan(metrics["reference/random/f1_user_mean"])
    assert math.isnan(metrics["reference/random/f1_user_mean_lo"])
