"""`keyframe-train` from end to end on small generated videos: what it writes, and what its options change."""

import csv
import hashlib
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import yaml

from keyframe.evaluation.metrics import VIDEO_METRICS
from tests.commands import TINY, cold, environment, script

pytestmark = pytest.mark.full

EPOCHS, SWITCH = 6, 3


@pytest.fixture(scope="module")
def tiny(tiny_demo):
    """Arguments of a run of two epochs, one in each stage."""
    return (*TINY, f"data.root={tiny_demo}", "trainer.max_epochs=2", "finetune.switch_epoch=1")


def other(tiny, backbone):
    """These arguments with another backbone, random and whole."""
    kept = [argument for argument in tiny if not argument.startswith("backbone")]
    return [*kept, f"backbone={backbone}", "backbone.pretrained=false", "callbacks.curves=null"]


@pytest.fixture(scope="module")
def trained(tiny_demo, tmp_path_factory):
    """A run of six epochs in a fresh interpreter, with a relative data root and the run directory left to itself."""
    place = tmp_path_factory.mktemp("elsewhere")
    (place / "sets").symlink_to(tiny_demo)
    arguments = ["data.root=sets", f"trainer.max_epochs={EPOCHS}", f"finetune.switch_epoch={SWITCH}", "scheduler=none"]
    done = cold([*script("train"), *TINY, *arguments], place).good()
    (run,) = (place / "outputs" / "train").iterdir()
    return done, run


def metrics_of(run):
    return json.loads((run / "metrics.json").read_text())


def column(run, name, folder="csv"):
    """Epoch -> value of one column of the CSV logger's file."""
    with (run / folder / "metrics.csv").open() as file:
        return {int(row["epoch"]): float(row[name]) for row in csv.DictReader(file) if row["epoch"] and row.get(name)}


def test_everything_lies_in_the_run_directory(trained, tmp_path):
    _, run = trained
    assert {path.name for path in run.iterdir()} == {
        ".hydra",
        ".lock",
        "checkpoints",
        "config.yaml",
        "csv",
        "curves",
        "metrics.json",
        "per_video.csv",
        "split.json",
        "status.json",
        "train.log",
    }
    assert {path.name for path in run.parents[2].iterdir()} == {"sets", "outputs"}
    status = json.loads((run / "status.json").read_text())
    assert status["state"] == "completed" and status["error"] == "" and "experiment=demo" in status["overrides"]


def test_the_configuration_is_written_resolved(trained):
    _, run = trained
    text = (run / "config.yaml").read_text()
    assert "${" not in text and "???" not in text
    config = yaml.safe_load(text)
    assert config["callbacks"]["two_stage"]["switch_epoch"] == config["finetune"]["switch_epoch"] == SWITCH
    assert config["model"]["backbone"]["name"] == "test_efficientnet"
    assert config["datamodule"]["source"]["videos"] == 15
    assert config["optimizer"]["lr"] == 1e-3  # of experiment=demo


def test_checkpoints_are_the_best_the_last_and_every_fifth(trained):
    _, run = trained
    checkpoints = {path.name: path for path in (run / "checkpoints").iterdir()}
    assert set(checkpoints) == {"best.ckpt", "last.ckpt", "epoch004.ckpt"}
    scores = column(run, "val/spearman")
    epochs = {name: torch.load(path, weights_only=True)["epoch"] for name, path in checkpoints.items()}
    assert epochs == {"best.ckpt": max(scores, key=scores.__getitem__), "last.ckpt": EPOCHS - 1, "epoch004.ckpt": 4}


def test_metrics_are_flat_numbers_under_the_agreed_names(trained):
    _, run = trained
    metrics = metrics_of(run)
    assert all(isinstance(value, int | float) and math.isfinite(value) for value in metrics.values())
    of_videos = {f"{split}/{name}{end}" for split in ("val", "test") for name in VIDEO_METRICS for end in ("", "_std")}
    assert of_videos | {"val/loss", "test/loss", "val/undefined", "test/undefined"} == {
        name for name in metrics if name.startswith(("val/", "test/"))
    }
    # 15 videos in 5 folds, a fifth of the other 12 for validation
    assert [metrics[f"data/videos_{part}"] for part in ("train", "val", "test", "skipped")] == [10, 2, 3, 0]
    backbone = timm.create_model("test_efficientnet", num_classes=0)
    counts = {name: one.numel() for name, one in backbone.named_parameters()}
    assert metrics["model/params_backbone"] == sum(counts.values())
    # of the tail its norm layers do not train
    tail = [name for name in counts if name.startswith(("blocks.4", "conv_head")) and ".bn" not in name]
    trained = metrics["model/params_trainable_stage2"] - metrics["model/params_trainable_stage1"]
    assert trained == sum(counts[name] for name in tail)
    assert metrics["model/params_total"] > metrics["model/params_trainable_stage2"]


def test_test_metrics_are_means_of_the_rows_a_video(trained):
    _, run = trained
    with (run / "per_video.csv").open() as file:
        rows = list(csv.DictReader(file))
    metrics = metrics_of(run)
    assert list(rows[0]) == ["video", *VIDEO_METRICS]
    assert len({row["video"] for row in rows}) == len(rows) == metrics["data/videos_test"]
    for name in VIDEO_METRICS:
        mean = sum(float(row[name]) for row in rows) / len(rows)
        assert metrics[f"test/{name}"] == pytest.approx(mean, abs=1e-6)


def test_validation_metrics_are_those_of_the_best_checkpoint(trained):
    _, run = trained
    assert metrics_of(run)["val/spearman"] == pytest.approx(max(column(run, "val/spearman").values()), abs=1e-6)


def test_curves_are_pictures(trained):
    _, run = trained
    # every fifth epoch, and the last one
    assert {path.name for path in (run / "curves").iterdir()} == {
        "val-epoch004.png",
        "val-epoch005.png",
        "test.png",
    }
    assert all(path.read_bytes().startswith(b"\x89PNG\r\n") for path in (run / "curves").iterdir())


def test_the_switch_is_seen(trained):
    done, run = trained
    assert done.out.count(f"Stage 2 from epoch {SWITCH} (finetune.switch_epoch={SWITCH})") == 1
    assert f"epoch {SWITCH - 1}/{EPOCHS - 1}, stage 1" in done.out
    assert f"epoch {SWITCH}/{EPOCHS - 1}, stage 2" in done.out
    assert "Stage 2 from epoch" in (run / "train.log").read_text()
    stages = column(run, "train/stage")
    assert list(stages.values()) == [1] * SWITCH + [2] * (EPOCHS - SWITCH)
    for name in ("train/loss", "train/grad_norm"):
        assert all(math.isfinite(value) for value in column(run, name).values())
        assert len(column(run, name)) == EPOCHS


def test_the_end_says_what_came_out_and_where_it_lies(trained):
    done, run = trained
    metrics = metrics_of(run)
    assert f"{metrics['test/spearman']:.3f} +- {metrics['test/spearman_std']:.3f}" in done.out
    for name in ("checkpoints/best.ckpt", "metrics.json", "per_video.csv", "curves"):
        assert any(
            line.endswith(f"{run.name}/{name}") or f"{run.name}/{name}," in line for line in done.out.splitlines()
        )
    assert "trainable, stage 2" in done.out


def contents(folder):
    """Hashes of all files but the lock, which names the process that holds it."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_second_run_into_the_same_directory_is_refused_without_harm(command, trained, tiny):
    _, run = trained
    before = contents(run)
    sentence = command(*tiny, f"hydra.run.dir={run}").sentence()
    assert str(run) in sentence and "another hydra.run.dir" in sentence and "ckpt_path=auto" in sentence
    assert contents(run) == before


def test_the_last_checkpoint_goes_on_after_the_switch(command, trained, tiny_demo, tmp_path):
    _, run = trained
    again = tmp_path / "run"
    (again / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "status.json", "csv", "checkpoints/last.ckpt"):
        (shutil.copytree if (run / name).is_dir() else shutil.copy)(run / name, again / name)
    settings = [f"trainer.max_epochs={EPOCHS + 2}", f"finetune.switch_epoch={SWITCH}"]
    done = command(*TINY, f"data.root={tiny_demo}", *settings, "ckpt_path=last", f"hydra.run.dir={again}").good()
    assert "Resuming from" in done.out
    assert f"epoch {EPOCHS}/{EPOCHS + 1}, stage 2" in done.out and f"epoch {EPOCHS - 1}/" not in done.out
    assert "Stage 2 from epoch" not in done.out  # the switch is behind it
    (new,) = {path.name for path in again.glob("csv*")} - {"csv"}
    assert list(column(again, "train/loss", new)) == [EPOCHS, EPOCHS + 1]
    assert list(column(again, "train/loss")) == list(range(EPOCHS))
    assert torch.load(again / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == EPOCHS + 1


def test_the_cache_is_filled_once(trained):
    """That it changes no number: tests/training/test_prefix_cache.py."""
    done, run = trained
    assert "Cache: 0 of 15 videos found, 15 decoded and encoded in" in done.out
    assert "MB of 20 GB in outputs/cache" in done.out
    assert len(list((run.parents[1] / "cache").rglob("*.safetensors"))) == 2 * 12 + 3


def test_a_mobilenetv4_is_trained_evaluated_and_used(command, tiny, tiny_demo, tmp_path):
    run, found = tmp_path / "run", tmp_path / "found"
    chosen = other(tiny, "mobilenetv4_conv_small")
    assert "Cache off (cache=off)" in command(*chosen, "cache=off", f"hydra.run.dir={run}").good().out
    # 3,774,024 parameters of the published model (Qin et al., MobileNetV4, 2024: 3.8 M) without its classifier
    assert metrics_of(run)["model/params_backbone"] == 3_774_024 - 1_281_000
    place = ("pictures=0", f"hydra.run.dir={tmp_path / 'evaluated'}")
    evaluated = command(f"run={run}", *place, program="keyframe-evaluate").good()
    assert "mobilenetv4_conv_small" in evaluated.out
    video = min(tiny_demo.rglob("*.mp4"))
    command(video, f"run={run}", f"output={found}", program="keyframe-extract").good()
    assert "a trained model, mobilenetv4_conv_small" in (found / video.stem / "index.html").read_text()


def test_a_backbone_by_its_name_alone_frames_by_rate_and_a_weighted_loss(command, tiny, tmp_path):
    arguments = [argument for argument in other(tiny, "resnet18") if not argument.startswith("sampling")]
    rate = ["sampling=fps", "sampling.rate=1", "loss=weighted", "loss.weights.spearman=0", "loss.weights.mse=3"]
    done = command(*arguments, *rate, "cache=memory", f"hydra.run.dir={tmp_path}").good()
    assert "MB in memory" in done.out and "stage 2" in done.out
    metrics = metrics_of(tmp_path)
    # torchvision's ResNet18 (11,689,512 parameters) without its classifier
    assert metrics["model/params_backbone"] == 11_689_512 - 513_000
    assert all(math.isfinite(value) for value in column(tmp_path, "train/loss").values())
    assert metrics["test/loss"] == pytest.approx(3 * metrics["test/mse"], rel=1e-4)
    with (tmp_path / "per_video.csv").open() as file:
        shares = [float(row["precision_at_15"]) * 4 for row in csv.DictReader(file)]
    # 24 to 28 frames a video, of which the top round(.15 T) = 4 count (12 frames: the top 2)
    assert len(shares) == 3 and all(share == pytest.approx(round(share)) for share in shares)


def test_augmentation_and_early_stopping(command, trained, tiny_demo, tmp_path):
    _, plain = trained
    settings = [
        "augmentation=clip",
        "cache.views=2",
        "callbacks=early_stopping",
        "callbacks.early_stopping.patience=1",
        "+callbacks.early_stopping.min_delta=10",  # no epoch is ever better by so much
        "finetune.switch_epoch=2",
        "trainer.max_epochs=9",
    ]
    done = command(*TINY, f"data.root={tiny_demo}", *settings, f"hydra.run.dir={tmp_path}").good()
    # ten videos in two views, and as they are for the mean and deviation of features; five for validation and test
    assert "Cache: 0 of 35 views of videos found, 35 decoded and encoded in" in done.out
    losses = column(tmp_path, "train/loss")
    # idle in stage 1; the first epoch of stage 2 starts the clock, the next one stops
    assert list(losses) == [0, 1, 2, 3]
    assert losses[0] != pytest.approx(column(plain, "train/loss")[0], rel=1e-3)


def test_all_trackers_without_a_key_or_a_question(command, tiny, tmp_path):
    run = tmp_path / "run"
    done = command(
        *tiny,
        "logger=all",
        "finetune.switch_epoch=null",
        "head=framewise",
        "reader=pyav",
        "group=together",
        f"hydra.run.dir={run}",
        HOME=str(tmp_path / "home"),
    ).good()
    assert done.out.count("W&B: no key found") == 1
    assert "choice" not in done.out + done.err
    (offline,) = (run / "wandb").glob("offline-run-*")
    (record,) = offline.glob("*.wandb")
    content = record.read_bytes()
    assert b"together" in content and b"test/spearman" in content
    assert list((run / "tensorboard").glob("events.out.tfevents.*"))
    assert column(run, "val/spearman")
    assert metrics_of(run)["model/params_trainable_stage2"] == 0
    assert "Stage 2" not in done.out
    assert not (tmp_path / "home").exists() or not list((tmp_path / "home").rglob("*netrc"))


def test_debug_fast_is_one_batch_of_each_stage_without_trackers(command, tiny, tmp_path):
    arguments = [argument for argument in tiny if not argument.startswith(("trainer", "logger", "finetune"))]
    done = command(*arguments, "debug=fast", f"hydra.run.dir={tmp_path}").good()
    assert "on cpu" in done.out and "epoch 1/1, stage 2" in done.out
    assert not list(tmp_path.glob("csv*")) and metrics_of(tmp_path)["data/videos_train"] == 10
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 2


def test_the_console_script(tmp_path):
    script = shutil.which("keyframe-train", path=str(Path(sys.executable).parent))
    assert script is not None
    done = subprocess.run([script, "--help"], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("keyframe-train: ")
