"""keyframe-evaluate on trained runs."""

import csv
import json
import math
import re
import shutil

import numpy as np
import pytest
import torch

from keyframe.evaluation.results import METRICS


@pytest.fixture(scope="module")
def evaluate(command):
    return lambda *arguments, **changes: command(*arguments, program="keyframe-evaluate", **changes)


def metrics_of(run):
    return json.loads((run / "metrics.json").read_text())


def rows_of(run):
    with (run / "per_video.csv").open() as file:
        return {row["video"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def evaluated(evaluate, runs, tmp_path_factory):
    run = tmp_path_factory.mktemp("evaluated") / "out"
    return evaluate(f"run={runs / 'folds' / '0'}", "pictures=2", f"hydra.run.dir={run}").good(), run


def test_every_metric_with_its_interval(evaluated):
    metrics = metrics_of(evaluated[1])
    assert metrics["test/videos"] == 3
    for name in METRICS:
        assert metrics[f"test/{name}_lo"] <= metrics[f"test/{name}"] <= metrics[f"test/{name}_hi"]
        assert metrics[f"training_free/{name}"] is not None
    for line in ("one_annotator", "other_annotators", "ceiling", "random", "uniform", "training_free"):
        assert metrics[f"reference/{line}/kendall"] is not None
    assert metrics["reference/ceiling/f1_user_mean"] > metrics["reference/uniform/f1_user_mean"]


def test_a_row_a_video_whose_mean_is_the_number(evaluated, runs):
    rows = rows_of(evaluated[1])
    with (runs / "folds" / "0" / "per_video.csv").open() as file:
        assert set(rows) == {row["video"] for row in csv.DictReader(file)}
    mean = np.mean([float(row["annotator_spearman"]) for row in rows.values()])
    assert mean == pytest.approx(metrics_of(evaluated[1])["test/annotator_spearman"])


def test_reports_and_pictures(evaluated):
    done, run = evaluated
    figures = {path.name for path in (run / "figures").iterdir()}
    assert figures == {"accuracy.png", "scatter.png", "videos.png", "video-00.png", "video-01.png"}
    value = f"{metrics_of(run)['test/annotator_spearman']:.3f}"
    for form in ("html", "md", "txt"):
        assert value in (run / f"report.{form}").read_text()
    assert value in done.out and str(run / "report.html") in done.out
    assert (run / "report.html").read_text().count("data:image/png") == 5
    assert "every 15th frame" in (run / "report.txt").read_text()


def test_the_sampled_protocol_gives_what_training_measured(evaluate, runs, tmp_path):
    evaluate(f"run={runs / 'folds' / '0'}", "protocol=sampled", f"hydra.run.dir={tmp_path / 'out'}").good()
    metrics, trained = metrics_of(tmp_path / "out"), metrics_of(runs / "folds" / "0")
    for name in ("spearman", "kendall", "annotator_spearman", "annotator_kendall", "mse", "precision_at_15"):
        assert metrics[f"test/sampled/{name}"] == pytest.approx(trained[f"test/{name}"], abs=1e-5)
    assert "SAMPLED PROTOCOL" in (tmp_path / "out" / "report.txt").read_text()
    assert not any(re.fullmatch("test/[a-z0-9_]+", name) for name in metrics)


def test_folds_are_joined_and_each_video_is_measured_once(evaluate, evaluated, runs, tmp_path):
    evaluate(f"runs={runs / 'folds'}", f"hydra.run.dir={tmp_path / 'joined'}").good()
    joined, first = rows_of(tmp_path / "joined"), rows_of(evaluated[1])
    assert len(joined) == 6 and metrics_of(tmp_path / "joined")["test/videos"] == 6
    for video, row in first.items():
        assert joined[video] == row


def test_seeds_are_averaged_and_an_ensemble_is_not_the_average(evaluate, evaluated, runs, tmp_path):
    both = f"runs=[{runs / 'folds' / '0'},{runs / 'seed1'}]"
    evaluate(both, f"hydra.run.dir={tmp_path / 'mean'}").good()
    evaluate(f"run={runs / 'seed1'}", f"hydra.run.dir={tmp_path / 'alone'}").good()
    evaluate(both, "ensemble=rank", f"hydra.run.dir={tmp_path / 'rank'}").good()
    first, second = rows_of(evaluated[1]), rows_of(tmp_path / "alone")
    for video, row in rows_of(tmp_path / "mean").items():
        expected = (float(first[video]["kendall"]) + float(second[video]["kendall"])) / 2
        assert float(row["kendall"]) == pytest.approx(expected) and row["runs"] == "2"
    rank = rows_of(tmp_path / "rank")
    assert any(float(rank[v]["kendall"]) != pytest.approx(float(row["kendall"])) for v, row in first.items())
    assert all(math.isnan(float(row["mse"])) for row in rank.values())


def test_the_other_splits(evaluate, runs, tmp_path):
    evaluate(f"run={runs / 'folds' / '0'}", "split=val", f"hydra.run.dir={tmp_path / 'out'}").good()
    assert metrics_of(tmp_path / "out")["val/videos"] == 2
    assert "split=tset is none of train, val, test" in evaluate(f"run={runs / 'seed1'}", "split=tset").sentence()


def test_moved_and_missing_and_broken_videos(evaluate, runs, tiny_demo, tmp_path):
    (folder,) = tiny_demo.glob("demo-*")
    moved = tmp_path / "moved (1)"
    shutil.copytree(folder, moved / folder.name)
    videos = rows_of(runs / "folds" / "0")
    broken = next(path for path in (moved / folder.name).rglob("*.mp4") if path.stem == sorted(videos)[0])
    broken.write_bytes(broken.read_bytes()[:200])
    done = evaluate(f"run={runs / 'folds' / '0'}", f"data.root={moved}", f"hydra.run.dir={tmp_path / 'out'}").good()
    metrics = metrics_of(tmp_path / "out")
    assert (metrics["test/videos"], metrics["data/videos_skipped"]) == (2, 1)
    assert broken.stem in done.out and "1 video" in done.out


def test_a_checkpoint_somewhere_else(evaluate, evaluated, runs, tmp_path):
    shutil.copy(runs / "folds" / "0" / "checkpoints" / "best.ckpt", tmp_path / "mine.ckpt")
    evaluate(f"run={tmp_path / 'mine.ckpt'}", f"hydra.run.dir={tmp_path / 'out'}").good()
    assert metrics_of(tmp_path / "out") == metrics_of(evaluated[1])


def change(runs, tmp_path, edit):
    """A copy of a run whose checkpoint was edited."""
    run = tmp_path / "run"
    shutil.copytree(runs / "folds" / "0", run)
    path = run / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    edit(checkpoint["hyper_parameters"])
    torch.save(checkpoint, path)
    return run


def test_a_run_of_an_older_version(evaluate, runs, tmp_path):
    def older(config):
        config["datamodule"]["shuffle_twice"] = True

    sentence = evaluate(f"run={change(runs, tmp_path, older)}").sentence()
    assert "another version of keyframe" in sentence and "shuffle_twice" in sentence


def test_a_checkpoint_that_asks_for_foreign_code(evaluate, runs, tmp_path):
    def foreign(config):
        config["datamodule"]["source"] = {"_target_": "os.system", "command": "touch pwned"}

    sentence = evaluate(f"run={change(runs, tmp_path, foreign)}").sentence()
    assert "os.system" in sentence and not list(tmp_path.rglob("pwned"))


def test_what_cannot_be_joined(evaluate, runs, tmp_path):
    models = evaluate(f"runs=[{runs / 'seed1'},{runs / 'resnet'}]").sentence()
    assert "runs of different models" in models and "backbone" in models and "keyframe-compare" in models
    (tmp_path / "empty").mkdir()
    assert "there is no checkpoint" in evaluate(f"runs={tmp_path / 'empty'}").sentence()
    assert "there is no checkpoint" in evaluate(f"run={tmp_path / 'nowhere'}").sentence()
    assert "exclude each other" in evaluate(f"run={runs / 'seed1'}", f"runs=[{runs / 'seed1'}]").sentence()
    assert "ensemble=median" in evaluate(f"run={runs / 'seed1'}", "ensemble=median").sentence()
    assert "protocol=every" in evaluate(f"run={runs / 'seed1'}", "protocol=every").sentence()
    assert "device=tpu" in evaluate(f"run={runs / 'seed1'}", "device=tpu").sentence()
