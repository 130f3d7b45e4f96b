"""Bad input ends in one sentence on stderr that names the file or key and what to do, and exit status 1."""

import copy
import json
import os
import pickle
import shutil
from datetime import datetime
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from keyframe.cli import main
from keyframe.cli.main import OutputGuard
from keyframe.config import conf_dir
from keyframe.data.labels import write_tsv
from keyframe.system import lock_folder
from tests.commands import BACKBONE, TINY, in_process
from tests.data.labelled import FRAMES, write_labelled

OWN = ("data=labelled", "data.size=32", "sampling.frames=12", "trainer=cpu", "logger=csv", "backbone.pretrained=false")
SMALL = (*OWN, *BACKBONE)
TRAIN = (*SMALL, "trainer.max_epochs=2", "finetune.switch_epoch=1", "data.folds=3", "data.val_fraction=0.25")
TRAIN += ("callbacks.curves=null",)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write_labelled(tmp_path_factory.mktemp("good") / "data")


@pytest.fixture
def data(good, tmp_path):
    """A copy of a good data set, to be spoilt."""
    return shutil.copytree(good, tmp_path / "data")


@pytest.fixture(scope="module")
def trained(command, good, tmp_path_factory):
    """A run directory with real checkpoints."""
    run = tmp_path_factory.mktemp("runs") / "run"
    command(*TRAIN, f"data.root={good}", "trainer.max_epochs=1", f"hydra.run.dir={run}").good()
    return run


@pytest.fixture
def train(tmp_path, monkeypatch):
    """What keyframe-train says of its arguments, in this process."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: in_process("train", *arguments, run_dir=tmp_path / "in_process")


def refused(done, *words):
    sentence = done if isinstance(done, str) else done.sentence()
    missing = [str(word) for word in words if str(word) not in sentence]
    assert not missing, f"{missing} not in: {sentence}"


# Configuration: what is added to a good command, and what the sentence must name.
VALUES = {
    "misspelled key": (["optmizer.lr=3"], ["optmizer", "did you mean optimizer"]),
    "misspelled group": (["los=mse"], ["no key los", "did you mean loss"]),
    "misspelled option": (["loss=sperman"], ["loss=sperman", "mse, pairwise, pairwise_kl, spearman, weighted"]),
    "unknown experiment": (["experiment=nothing"], ["experiment=nothing", "demo"]),
    "no value": (["loss"], ["loss cannot be read", "key=value"]),
    "unknown backbone": (["backbone=resnet5000"], ["backbone.name=resnet5000", "near it: resnet50"]),
    "backbone without a name": (["backbone=timm"], ["backbone.name is not set: add backbone.name=..."]),
    "backbone cut at nothing": (["backbone.prefix=[conv9]"], ["backbone.prefix", "conv9"]),
    "an own class that is not there": (
        ["head._target_=mylib.heads.Head"],
        ["head._target_ cannot be imported", "mylib.heads.Head", "PYTHONPATH"],
    ),
    "weights that are not there": (["backbone.weights=/no/file"], ["backbone.weights=/no/file", "not a file"]),
    "norm": (["finetune.norm=melted"], ["finetune.norm=melted", "frozen, train, sync"]),
    "T of 0": (["sampling.frames=0"], ["sampling.frames", "whole number from 1"]),
    "T of half": (["sampling.frames=0.5"], ["sampling.frames", "whole number from 1"]),
    "T larger than the video": (["sampling.frames=60"], [".mp4 has 40 frames", "sampling.frames=60", "sampling=fps"]),
    "fold": (["data.fold=9"], ["data.fold=9", "0 to 4"]),
    "folds": (["data.folds=100"], ["data.folds=100", "the number of videos, 6"]),
    "validation share": (["data.val_fraction=2"], ["data.val_fraction=2", "between 0 and 1"]),
    "split file": (["data.splits=nothing.json"], ["nothing.json", "split file"]),
    "batch size 0": (["data.batch_size=0"], ["data.batch_size=0", "from 1 on"]),
    "picture size": (["data.size=[32,0]"], ["data.size=0", "from 1 to 8192"]),
    "workers": (["data.workers=-1"], ["data.workers=-1", "from 0 on"]),
    "learning rate is text": (["optimizer.lr=abc"], ["optimizer.lr=abc", "a number above 0"]),
    "learning rate below 0": (["optimizer.lr=-1"], ["optimizer.lr=-1", "a number above 0"]),
    "switch epoch": (["finetune.switch_epoch=-1"], ["finetune.switch_epoch=-1", "null"]),
    "no epochs": (["trainer.max_epochs=0"], ["trainer.max_epochs=0", "from 1 on"]),
    "seed": (["seed=abc"], ["seed=abc", "whole number"]),
    "precision": (["trainer.precision=nonsense"], ["trainer", "nonsense", "bf16-mixed"]),
    "norms over ranks on CPUs": (
        ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "finetune.norm=sync"],
        ["finetune.norm=sync", "frozen or train"],
    ),
    "temperature": (["loss=spearman", "loss.temperature=-1"], ["loss.temperature must be above 0, not -1"]),
    "attention heads": (["head.heads=7"], ["head.heads=7 must divide", "256"]),
    "jitter": (["augmentation=clip", "augmentation.jitter=2"], ["augmentation.jitter must lie in [0, 0.5]"]),
    "reader threads": (["reader.threads=-1"], ["reader.threads must be 0"]),
    "cache": (["cache.dtype=float8"], ["cache.dtype must be float32 or float16"]),
    "cache size": (["cache.max_gb=0"], ["cache.max_gb=0 must be a number above 0"]),
    "cached views": (["cache.views=0"], ["cache.views=0 must be a whole number from 1 on"]),
    "no such class": (["optimizer._target_=torch.optim.Adamm"], ["optimizer._target_", "torch.optim.Adamm"]),
    "checkpoint that is not there": (["ckpt_path=nowhere.ckpt"], ["ckpt_path=nowhere.ckpt", "no checkpoint"]),
    "nothing to resume": (["ckpt_path=last"], ["ckpt_path=last", "no checkpoint"]),
}


@pytest.mark.parametrize(("arguments", "words"), VALUES.values(), ids=VALUES)
def test_configuration(train, good, arguments, words):
    small = OWN if arguments[0].startswith("backbone") else SMALL
    refused(train(*small, f"data.root={good}", *arguments), *words)


def test_a_command_ends_with_the_sentence_alone(command):
    refused(command("optmizer.lr=3"), "there is no key optmizer", "did you mean optimizer?")
    refused(command(), "data.root is not set: add data.root=... to the command.")


def test_data_root_for_the_demo_cannot_be_written(train, tmp_path):
    (tmp_path / "file").touch()
    refused(train(*TINY, f"data.root={tmp_path / 'file'}"), "data.root", tmp_path / "file", "another directory")


def test_full_errors_on_request(command):
    done = command("optmizer.lr=3", HYDRA_FULL_ERROR="1")
    assert done.status == 1
    assert "Traceback" in done.err


# Data: what is done to a good directory, and what the sentence must name beside it.
def remove_all(root):
    shutil.rmtree(root)


def remove_videos(root):
    shutil.rmtree(root / "videos")


def remove_labels(root):
    (root / "labels.tsv").unlink()


def remove_a_video(root):
    (root / "videos" / "clip3.mp4").unlink()


def add_a_video(root):
    shutil.copy(root / "videos" / "clip3.mp4", root / "videos" / "extra.mp4")


def text_as_video(root):
    (root / "videos" / "clip3.mp4").write_text("This is no video at all.\n" * 40)


def truncated_video(root):
    path = root / "videos" / "clip3.mp4"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty_video(root):
    (root / "videos" / "clip3.mp4").write_bytes(b"")


def labels_of(length):
    def relabel(root):
        names = sorted(path.stem for path in (root / "videos").iterdir())
        write_tsv(root / "labels.tsv", {name: np.full((2, length), 3) for name in names})

    return relabel


def labels_out_of_scale(root):
    lines = (root / "labels.tsv").read_text().splitlines()
    lines[4] = lines[4][:-1] + "9"
    (root / "labels.tsv").write_text("\n".join(lines))


def labels_without_tabs(root):
    (root / "labels.tsv").write_text("clip0,1,2,3\n")


def two_label_files(root):
    shutil.copy(root / "labels.tsv", root / "more.tsv")


def official_file_without_annotations(root):
    with h5py.File(root / "ydata-tvsum50.mat", "w") as file:
        file["something"] = [1]


DATA = {
    "no data directory": (remove_all, ["there is no directory", "data.root"]),
    "no videos": (remove_videos, ["there is no video", "data.root"]),
    "no labels": (remove_labels, ["there is no label file", "data.labels"]),
    "a label for a missing video": (remove_a_video, ["labels without a video (clip3)", "data.allow_missing=true"]),
    "a video without a label": (add_a_video, ["videos without labels (extra)", "data.allow_missing=true"]),
    "text named .mp4": (text_as_video, ["clip3.mp4", "not a video", "leave it out"]),
    "truncated mp4": (truncated_video, ["clip3.mp4", "cut short", "again"]),
    "zero-byte file": (empty_video, ["clip3.mp4", "0 bytes", "again"]),
    "labels 5 % too long": (labels_of(FRAMES + 2), [".mp4 has 40 frames", "labels 42", "1 %"]),
    "labels out of scale": (labels_out_of_scale, ["labels.tsv, line 5", "score 9", "[1, 5]"]),
    "labels without tabs": (labels_without_tabs, ["labels.tsv, line 1", "3 columns"]),
    "two label files": (two_label_files, ["labels.tsv", "more.tsv", "data.labels"]),
    "another .mat": (official_file_without_annotations, ["ydata-tvsum50.mat", "tvsum50"]),
}


@pytest.mark.parametrize(("spoil", "words"), DATA.values(), ids=DATA)
def test_data(train, data, spoil, words):
    spoil(data)
    refused(train(*SMALL, f"data.root={data}", "data.strict=true"), *words)


def test_corrupt_videos_are_skipped_counted_and_listed(command, data, tmp_path):
    (data / "videos" / "clip1.mp4").write_text("no video\n" * 50)
    (data / "videos" / "clip4.mp4").write_bytes(b"")
    run = tmp_path / "run"
    done = command(*TRAIN, f"data.root={data}", f"hydra.run.dir={run}").good()
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["data/videos_skipped"] == 2
    assert sum(metrics[f"data/videos_{split}"] for split in ("train", "val", "test")) == 4
    assert "2 videos were left out" in done.out
    for name in ("clip1", "clip4"):
        assert f"{name}.mp4 is " in done.out.split("2 videos were left out")[1]


def test_a_split_of_nothing_but_corrupt_videos_is_refused(train, data):
    for path in (data / "videos").iterdir():
        path.write_bytes(b"")
    refused(train(*SMALL, f"data.root={data}"), "train split", "0 bytes")


# Checkpoints
def of_another_architecture(path, run):
    return ["head.layers=3"], run / "checkpoints" / "last.ckpt"


def corrupted(path, run):
    content = bytearray((run / "checkpoints" / "last.ckpt").read_bytes())
    path.write_bytes(content[: len(content) // 2])
    return [], path


def text(path, run):
    path.write_text("weights")
    return [], path


def without_state(path, run):
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save({"state_dict": content["state_dict"]}, path)
    return [], path


def without_weights(path, run):
    torch.save({"state_dict": {"weight": "heavy"}}, path)
    return [], path


def with_another(*keys, value):
    """The part of a checkpoint's training state at these keys is another value."""

    def make(path, run):
        content = part = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        for key in keys[:-1]:
            part = part[key if key != "first" else min(part)]
        part[keys[-1]] = value
        torch.save(content, path)
        return [], path

    return make


CHECKPOINTS = {
    "an epoch of text": (with_another("epoch", value="x"), ["not the state of a training run"]),
    "loops": (with_another("loops", "fit_loop", value=3), ["cannot be resumed from (AttributeError", "is damaged"]),
    "optimizer": (
        with_another("optimizer_states", 0, "state", "first", "exp_avg", value=[]),
        ["cannot be resumed from (", "is damaged"],
    ),
    "another architecture": (of_another_architecture, ["head.layers=1, now 3", "a new run without ckpt_path"]),
    "corrupted": (corrupted, ["damaged", "another one"]),
    "text": (text, ["not a checkpoint"]),
    "weights only": (without_state, ["not the state of a training run", "keyframe-train"]),
    "no weights": (without_weights, ["no model weights", "keyframe"]),
}


@pytest.mark.parametrize(("make", "words"), CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_checkpoint(train, good, trained, tmp_path, make, words):
    arguments, path = make(tmp_path / "some.ckpt", trained)
    refused(train(*TRAIN, f"data.root={good}", *arguments, f"ckpt_path={path}"), path, *words)


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["archive", "legacy", "pickle"])
def test_code_in_a_checkpoint_does_not_run(train, good, tmp_path, form):
    path, mark = tmp_path / "evil.ckpt", tmp_path / "executed"
    content = {"state_dict": {}, "epoch": Payload(mark)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "archive")
    refused(
        train(*TRAIN, f"data.root={good}", f"ckpt_path={path}"),
        path,
        "could run code" if form == "archive" else "not a checkpoint",
    )
    assert not mark.exists()
    # the payload is a live one
    if form == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert mark.exists()


def test_every_command_hands_trust_to_what_loads_the_run(command, good, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    content["hyper_parameters"]["model"]["head"]["_target_"] = "mylib.heads.Head"
    path, video = tmp_path / "shared.ckpt", good / "videos" / "clip0.mp4"
    torch.save(content, path)
    extract = ("extract", video, f"run={path}", "device=cpu")
    for name, *arguments in (
        *(
            extract,
            ("evaluate", f"run={path}"),
            ("compare", f"runs=[{path},{path}]"),
            ("export", f"run={path}", "format=torchscript"),
        ),
        *(("features", video, f"run={path}", "out=a.h5"), ("train", *TRAIN, "experiment=distill", f"teacher={path}")),
    ):
        data = (f"data.root={good}",) if name in ("evaluate", "compare", "export", "train") else ()
        trusted = in_process(name, *arguments, *data, "trust=[mylib]", run_dir=tmp_path / name)
        refused(trusted, path, "importing it fails", "No module named 'mylib'", "PYTHONPATH")
    refused(command(*extract[1:], program="keyframe-extract"), path, "asks for mylib.heads.Head", "trust=[mylib]")
    refused(in_process(*extract, "trust=[my lib]", run_dir=tmp_path / "typo"), "trust=['my lib']", "trust=[PACKAGE]")


# Output directories
def test_output_below_a_file(command, good, tmp_path):
    (tmp_path / "file").touch()
    done = command(*SMALL, f"data.root={good}", f"hydra.run.dir={tmp_path / 'file' / 'run'}")
    refused(done, "hydra.run.dir", tmp_path / "file" / "run", "choose another directory")


def test_sweep_below_a_file(command, good, tmp_path):
    (tmp_path / "file").touch()
    done = command("-m", *SMALL, f"data.root={good}", "seed=1,2", f"hydra.sweep.dir={tmp_path / 'file' / 'sweep'}")
    refused(done, "hydra.sweep.dir", tmp_path / "file" / "sweep", "choose another directory")


def test_a_run_directory_in_use_is_refused_before_anything_is_written(command, good, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    again = [*SMALL, f"data.root={good}", "ckpt_path=auto", f"hydra.run.dir={run}"]
    with lock_folder(run):
        refused(command(*again), run, f"in use by process {os.getpid()} on", "choose another hydra.run.dir")
        assert [path.name for path in run.iterdir()] == [".lock"]
    # a further rank takes part in the run of the first, which has the directory
    with lock_folder(run):
        assert "in use" not in command(*again, "data.fold=7", LOCAL_RANK="1").err


def test_a_sweep_directory_and_its_jobs_in_use_are_refused(command, good, tmp_path):
    sweep = tmp_path / "sweep"
    (sweep / "0").mkdir(parents=True)
    start = ["-m", *SMALL, f"data.root={good}", "data.fold=7,8", f"hydra.sweep.dir={sweep}"]
    with lock_folder(sweep):
        refused(command(*start), sweep, f"in use by process {os.getpid()} on", "choose another hydra.sweep.dir")
        assert not list(sweep.glob("*.yaml"))
    with lock_folder(sweep / "0"):  # by a job that has outlived the command that began the sweep
        done = command(*start)
    assert f"Job 0 was not run: {sweep / '0'} is in use" in done.out
    assert json.loads((sweep / "1" / "status.json").read_text())["state"] == "failed"  # there is no fold 8


def test_a_run_that_still_works_is_not_offered_to_be_resumed(command, good, tmp_path):
    (tmp_path / "config.yaml").touch()
    with lock_folder(tmp_path):
        refused(command(*SMALL, f"data.root={good}", f"hydra.run.dir={tmp_path}"), "in use by process")
    refused(command(*SMALL, f"data.root={good}", f"hydra.run.dir={tmp_path}"), "holds a run already")


def test_two_runs_that_start_within_a_second_have_two_directories(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(main, "_locks", [])
    for program in ("train", "extract"):
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = compose(program, return_hydra_config=True)
        first = Path(config.hydra.run.dir)
        starts = [copy.deepcopy(config) for _ in range(3)]
        for start in starts:
            OutputGuard().on_run_start(start)
        assert [Path(start.hydra.run.dir).name for start in starts] == [
            first.name,
            f"{first.name}-2",
            f"{first.name}-3",
        ]
        assert all((tmp_path / start.hydra.run.dir).is_dir() for start in starts)


def test_a_sweep_whose_directory_is_taken_within_the_second_gets_another(command, good, tmp_path):
    place = tmp_path / f"{datetime.now():%Y}"  # a year in place of a second
    place.mkdir()
    own = tmp_path / "conf" / "experiment" / "yearly.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(f"# @package _global_\nhydra:\n  sweep:\n    dir: {tmp_path}/${{now:%Y}}\n")
    start = [f"--config-dir={own.parents[1]}", "-m", "experiment=yearly", *SMALL, f"data.root={good}", "data.fold=7,8"]
    done = command(*start)
    assert f"keyframe-train sweep.resume={place}-2" in done.out
    assert {path.parent.name for path in tmp_path.glob("*-2/*/status.json")} == {"0", "1"}
    assert not list(place.iterdir())


def test_a_directory_where_a_run_has_failed_at_once_can_be_used_again(command, data, tmp_path):
    labels = (data / "labels.tsv").read_bytes()
    labels_of(FRAMES + 2)(data)
    again = [*TRAIN, f"data.root={data}", f"hydra.run.dir={tmp_path / 'run'}"]
    refused(command(*again), "has 40 frames")
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"
    (data / "labels.tsv").write_bytes(labels)
    command(*again).good()


def test_bad_data_leaves_no_run_with_a_tracker(command, tmp_path):
    run = tmp_path / "run"
    arguments = [
        *BACKBONE,
        "backbone.pretrained=false",
        "logger=all",
        f"data.root={tmp_path / 'nowhere'}",
        f"hydra.run.dir={run}",
    ]
    refused(command(*arguments, HOME=str(tmp_path / "home")), tmp_path / "nowhere", "data.root")
    assert {path.name for path in tmp_path.iterdir()} <= {"run", "home"}
    left = {path.relative_to(run).parts[0] for path in run.rglob("*") if path.is_file()}
    assert left == {".hydra", ".lock", "config.yaml", "status.json", "train.log", "wandb_id.txt"}
