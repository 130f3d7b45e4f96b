"""`keyframe-train data=h5`: the head on a feature file, from end to end."""

import csv
import json
import math

import numpy as np
import pytest
import torch
import yaml

from keyframe.data.datamodule import FeatureDataModule
from keyframe.data.feature_file import read_feature_files
from keyframe.data.labels import write_tsv
from keyframe.evaluation.metrics import VIDEO_METRICS
from keyframe.runs import load_detector
from keyframe.types import KeyframeError
from tests.commands import in_process
from tests.data.feature_files import WIDTH, video, write_features, write_summe, write_tvsum

EPOCHS = 6
QUIET = ("trainer=cpu", "logger=csv", "scheduler=none")


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """A feature file in a folder whose name Hydra cannot read unquoted."""
    return write_tvsum(tmp_path_factory.mktemp("my features (1)") / "a=b.h5", 15)


@pytest.fixture(scope="module")
def trained(command, features, tmp_path_factory):
    """A run with annotators, and with a second stage asked for."""
    place = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    scores = {
        id_: np.stack([np.repeat(1 + 4 * (v.importance > rng.random()), 15)[: v.n_frames] for _ in range(3)])
        for id_, v in read_feature_files(features).items()
    }
    write_tsv(place / "anno.tsv", scores)
    run = place / "run"
    done = command(
        "data=h5",
        f"data.path={features}",
        f"data.width={WIDTH}",
        f"data.labels={place / 'anno.tsv'}",
        *QUIET,
        f"trainer.max_epochs={EPOCHS}",
        "finetune.switch_epoch=2",
        f"hydra.run.dir={run}",
    ).good()
    return done, run


def column(run, name, folder="csv"):
    with (run / folder / "metrics.csv").open() as file:
        return {int(row["epoch"]): float(row[name]) for row in csv.DictReader(file) if row["epoch"] and row.get(name)}


def test_videos_whose_labels_are_all_equal_cannot_tell_the_best_checkpoint(tmp_path):
    groups = {f"video_{n}": {**video(20, n), "gtscore": np.full(20, 0.5)} for n in range(1, 11)}
    data = ("data=h5", f"data.path={write_features(tmp_path / 'f.h5', groups)}", f"data.width={WIDTH}")
    said = in_process("train", *data, *QUIET, "trainer.max_epochs=1", run_dir=tmp_path / "run")
    assert "none of the 2 validation videos has a Spearman correlation" in said
    assert not in_process(
        "train",
        *data,
        *QUIET,
        "trainer.max_epochs=1",
        "callbacks.best.monitor=val/mse",
        "callbacks.best.mode=min",
        run_dir=tmp_path / "by_mse",
    )
    assert (tmp_path / "by_mse" / "checkpoints" / "best.ckpt").is_file()


def test_the_run_directory_is_complete(trained):
    _, run = trained
    names = {".hydra", "checkpoints", "config.yaml", "csv", "curves", "metrics.json", "per_video.csv"}
    names |= {"split.json", "status.json"}
    assert names | {".lock", "split.json", "train.log"} == {path.name for path in run.iterdir()}
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt", "epoch004.ckpt"}
    assert (run / "curves" / "test.png").read_bytes().startswith(b"\x89PNG")
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["backbone"] == {"_target_": "keyframe.models.backbone.NoBackbone", "width": WIDTH}


def test_the_head_learns_what_the_features_show(trained):
    _, run = trained
    metrics = json.loads((run / "metrics.json").read_text())
    assert all(math.isfinite(value) for value in metrics.values())
    # 15 videos in 5 folds, a fifth of the other 12 for validation
    assert [metrics[f"data/videos_{part}"] for part in ("train", "val", "test", "skipped")] == [10, 2, 3, 0]
    assert metrics["test/spearman"] > 0.6
    # every annotator says 1 or 5 by one threshold on the reference score
    assert 0.4 < metrics["test/annotator_spearman"] < metrics["test/spearman"] + 0.1
    with (run / "per_video.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["video", *VIDEO_METRICS] and len(rows) == 3


def test_two_stages_become_one_and_that_is_said_once(trained):
    done, run = trained
    assert done.out.count("One stage:") == 1 and "finetune.switch_epoch=2" in done.out
    assert "Stage 2" not in done.out and "Prefix cache" not in done.out
    assert set(column(run, "train/stage").values()) == {1.0}
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert [(group["name"], group["lr"]) for group in last["optimizer_states"][0]["param_groups"]] == [("head", 1e-3)]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["model/params_backbone"] == metrics["model/params_trainable_stage2"] == 0
    assert metrics["model/params_total"] == metrics["model/params_trainable_stage1"]


def test_the_statistics_are_those_of_the_training_videos(trained, features):
    _, run = trained
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    train = FeatureDataModule(str(features), width=WIDTH).split_videos("train")
    values = np.concatenate([video.features for video in train])
    assert bool(state["detector.standardizer.fitted"])
    np.testing.assert_allclose(state["detector.standardizer.mean"].numpy(), values.mean(0), atol=1e-5)
    np.testing.assert_allclose(state["detector.standardizer.std"].numpy(), values.var(0).mean() ** 0.5, rtol=1e-5)


def test_a_run_goes_on_from_its_last_checkpoint(command, trained, features, tmp_path):
    _, run = trained
    arguments = [f"data.path={features}", f"data.width={WIDTH}", f"trainer.max_epochs={EPOCHS + 1}"]
    resume = [
        "data=h5",
        *arguments,
        *QUIET,
        "optimizer.lr=5e-4",
        f"ckpt_path={run}",
        f"hydra.run.dir={tmp_path / 'run'}",
    ]
    sentence = command(*resume, "loss=spearman").sentence()
    assert "last.ckpt was trained with loss=MSELoss, now SpearmanLoss: a resumed run keeps these" in sentence
    assert not (tmp_path / "run" / "config.yaml").exists()
    done = command(*resume).good()
    assert "Resuming from" in done.out
    assert list(column(tmp_path / "run", "train/loss")) == [EPOCHS]
    # it went on, not anew
    assert column(tmp_path / "run", "train/loss")[EPOCHS] < 0.8 * column(run, "train/loss")[0]
    # with the new rate, which is said, and kept where the run's configuration is
    assert f"optimizer.lr is now 0.0005, was 0.001, from epoch {EPOCHS}\n" in done.out
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["optimizer_states"][0]["param_groups"][0]["lr"] == 5e-4
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    (resumed,) = config["resumed"]
    assert config["optimizer"]["lr"] == 5e-4 and last["hyper_parameters"]["resumed"] == [resumed]
    assert resumed["epoch"] == EPOCHS and resumed["changes"]["optimizer.lr"] == ["0.001", "0.0005"]


def test_a_run_that_was_stopped_before_its_test_has_the_numbers_of_its_training(command, trained, features, tmp_path):
    _, run = trained
    arguments = [f"data.path={features}", f"data.width={WIDTH}", f"trainer.max_epochs={EPOCHS}"]
    command("data=h5", *arguments, *QUIET, f"ckpt_path={run}", f"hydra.run.dir={tmp_path / 'run'}").good()
    theirs, ours = (
        {name: value for name, value in json.loads((place / "metrics.json").read_text()).items() if "train/" in name}
        for place in (run, tmp_path / "run")
    )
    assert {"train/loss", "train/grad_norm", "train/stage"} <= ours.keys()
    assert ours == theirs


def test_the_model_comes_back_and_scores_features_only(trained, features):
    _, run = trained
    detector = load_detector(run)
    with (run / "per_video.csv").open() as file:
        row = next(csv.DictReader(file))
    video = read_feature_files(features)[row["video"]]
    with torch.inference_mode():
        scores = detector.score(torch.from_numpy(video.features)[None])[0].numpy()
    assert np.mean((scores - video.importance) ** 2) == pytest.approx(float(row["mse"]), rel=1e-4)
    with pytest.raises(KeyframeError, match="no backbone"):
        detector(torch.zeros(1, 2, 3, 8, 8))


def test_several_files_and_an_augmented_split(command, tmp_path):
    place = tmp_path / "my sets"
    place.mkdir()
    summe = write_summe(place / "eccv16_dataset_summe_google_pool5.h5", [f"clip {n}" for n in range(6)])
    ovp = place / "eccv16_dataset_ovp_google_pool5.h5"
    bare = dict.fromkeys(("picks", "n_frames", "change_points", "user_summary"))
    write_features(ovp, {f"video_{n}": video(20, n) | bare for n in (1, 29)})
    keys = [f"../datasets/{summe.name}/video_{n}" for n in range(1, 7)]
    fold = {"train_keys": [*keys[:4], f"../datasets/{ovp.name}/video_29"], "test_keys": keys[4:]}
    (tmp_path / "summe_aug.yml").write_text(yaml.safe_dump([fold]))
    run = tmp_path / "run"
    settings = [f"data.width={WIDTH}", f"data.splits={tmp_path / 'summe_aug.yml'}", "trainer.max_epochs=1"]
    done = command("data=h5", f"data.path=[{summe},{ovp}]", *settings, *QUIET, f"hydra.run.dir={run}").good()
    assert "leaves 1 of the data set's videos unused" in done.out
    (split,) = json.loads((run / "split.json").read_text())
    assert "ovp/video_29" in split["train_keys"] + split["val_keys"]
    with (run / "per_video.csv").open() as file:
        rows = {row["video"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"clip 4", "clip 5"}
    # nobody's own scores are known
    assert {rows[name]["annotator_spearman"] for name in rows} <= {"", "nan"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data=h5"], ["data.path is not set"]),
        (["data=h5", "data.pth=a.h5"], ["no key data.pth", "data.path"]),
        (["data=h5", "data.path=gone.h5"], ["no file gone.h5", "data.path"]),
        (["data=h5", "data.path={features}"], ["a=b.h5", f"{WIDTH} wide", f"data.width={WIDTH}"]),
        (["data=h5", "data.path={features}", "data.width=none"], ["data.width=none must be a whole number"]),
        (["data=h5", "data.path={features}", "augmentation=clip"], ["leave augmentation out"]),
        (
            ["data=h5", "data.path={features}", "backbone=resnet18", "backbone.pretrained=false"],
            ["a=b.h5 holds features", "resnet18", "leave backbone=resnet18 out"],
        ),
        (["backbone=none", "data.root=."], ["backbone=none cannot see videos", "data=h5"]),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(features, tmp_path, arguments, words):
    given = [argument.format(features=features) for argument in arguments]
    sentence = in_process("train", *given, *QUIET, run_dir=tmp_path)
    assert "\n" not in sentence and all(word in sentence for word in words), sentence
