"""keyframe-compare: models with their accuracy, pairs and costs."""

import csv
import json

import pytest
import timm
from omegaconf import OmegaConf

from keyframe.cli import compare as compare_file
from keyframe.evaluation.results import METRICS
from keyframe.runs import load_run
from tests.commands import in_process

pytestmark = pytest.mark.full

QUICK = ("speed.videos=[1,2]", "speed.repeats=1", "pictures=1")
FAST = (*QUICK, "memory.videos=[]")


@pytest.fixture(scope="module")
def compared(command, runs, tmp_path_factory):
    """Two seeds of one model against another model, and an ensemble of all."""
    out = tmp_path_factory.mktemp("compared") / "out"
    entries = f"runs=[{runs / 'resnet'},[{runs / 'folds' / '0'},{runs / 'seed1'}]]"
    arguments = (entries, "ensemble=mean", *FAST, "logger=all", f"hydra.run.dir={out}")
    return command(*arguments, program="keyframe-compare").good(), out


def metrics_of(run):
    return json.loads((run / "metrics.json").read_text())


def test_accuracy_size_speed_and_memory_of_each_model(compared):
    metrics = metrics_of(compared[1])
    for name in ("test_resnet", "test_efficientnet", "mean of all"):
        for metric in METRICS:
            assert metrics[f"{name}/test/{metric}_lo"] <= metrics[f"{name}/test/{metric}_hi"]
    assert "test_efficientnet/test/spearman_over_runs" in metrics
    for name in ("test_resnet", "test_efficientnet"):
        backbone = timm.create_model(name, num_classes=0)
        assert metrics[f"{name}/params_backbone"] == sum(parameter.numel() for parameter in backbone.parameters())
        assert metrics[f"{name}/weights_mb"] == pytest.approx(4e-6 * metrics[f"{name}/params_total"], rel=0.02)
        assert metrics[f"{name}/seconds_1"] > 0 and metrics[f"{name}/seconds_2"] > 0


def test_peak_memory_is_measured_with_the_weights(runs):
    """In a process of its own, into which the run is loaded."""
    asked = {"speed": {"videos": [1], "repeats": 1}, "memory": {"videos": [1]}, "trust": None}
    costs = compare_file._costs({"one": load_run(runs / "resnet")}, OmegaConf.create(asked))["one"]
    assert costs["peak_mb_1"] >= costs["weights_mb"] > 0


def test_pairs_are_differences_of_the_same_videos(compared):
    metrics = metrics_of(compared[1])
    key = "difference/test_efficientnet-test_resnet/spearman"
    difference = metrics["test_efficientnet/test/spearman"] - metrics["test_resnet/test/spearman"]
    assert metrics[key] == pytest.approx(difference, abs=1e-9)
    assert metrics[f"{key}_lo"] <= metrics[key] <= metrics[f"{key}_hi"] and 0 < metrics[f"{key}_p"] <= 1
    with (compared[1] / "per_video.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9 and {row["model"] for row in rows} == {"test_resnet", "test_efficientnet", "mean of all"}


def test_the_report_says_it_in_words(compared):
    done, run = compared
    text = " ".join((run / "report.txt").read_text().split())
    # three videos cannot tell two models apart: the least p-value of three signs is .25
    assert "These videos show no difference between test_resnet and test_efficientnet" in text
    assert "test_efficientnet: 2 runs, 2 per video" in text
    figures = {path.name for path in (run / "figures").iterdir()}
    assert figures >= {"accuracy.png", "scatter.png", "videos.png", "tradeoff.png", "video-00.png"}
    assert (run / "report.html").read_text().count("data:image/png") == len(figures)
    assert "Peak memory" in done.out and str(run / "report.html") in done.out


def test_trackers_get_numbers_and_figures(compared):
    out = compared[1]
    assert list(out.glob("wandb/offline-run-*/*.wandb")) and list(out.glob("tensorboard/events*"))
    images = {path.name.split("_")[0] for path in out.glob("wandb/offline-run-*/files/media/images/*.png")}
    assert images >= {"accuracy", "video-00", "tradeoff"}
    assert "test_resnet/test/spearman" in (out / "csv" / "metrics.csv").read_text()


def test_chosen_videos_and_names_and_the_claims_of_the_reference_design(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(compare_file, "REFERENCE_DESIGN", ("test_resnet", "test_efficientnet"))
    with (runs / "seed1" / "per_video.csv").open() as file:
        video = next(csv.DictReader(file))["video"]
    pair = f"runs=[{runs / 'seed1'},{runs / 'resnet'}]"
    assert in_process("compare", pair, *FAST, f"videos=[{video}]", "names=[first,second]", run_dir=tmp_path) == ""
    assert f"Importance along {video}" in (tmp_path / "report.html").read_text()
    metrics = metrics_of(tmp_path)
    assert "second/test/spearman" in metrics
    change = metrics["first/params_total"] / metrics["second/params_total"] - 1
    (row,) = [line for line in (tmp_path / "report.md").read_text().splitlines() if "parameters in all" in line]
    assert "-70%" in row and f"{change:+.0%}" in row


def test_models_that_cannot_be_compared(runs, tmp_path):
    pair = f"runs=[{runs / 'seed1'},{runs / 'folds' / '0'}]"
    for arguments, words in (
        ([], ["runs is not set"]),
        (["runs=[]", "scores=[a.json,b.json]"], ["runs=[] names nothing"]),
        ([pair, "videos=[nobody]"], ["videos=nobody is none of the 3 compared videos"]),
        ([pair, "names=[one]"], ["names="]),
        ([f"runs=[{runs / 'seed1'}]"], ["needs two"]),
        ([f"runs=[{runs / 'folds' / '0'},{runs / 'folds' / '1'}]"], ["different test videos", "data.fold"]),
        ([f"runs=[[{runs / 'seed1'},{runs / 'resnet'}],{runs / 'seed1'}]"], ["runs of different models"]),
        ([f"runs=[{runs / 'seed1'},{tmp_path / 'gone'}]"], ["there is no checkpoint"]),
    ):
        sentence = in_process("compare", *arguments, run_dir=tmp_path)
        assert all(word in sentence for word in words), sentence
