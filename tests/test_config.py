"""Every YAML file of conf/ composes, and everything it names can be built."""

import functools
from collections import defaultdict
from itertools import zip_longest

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from keyframe.config import comments_of, conf_dir, plain
from keyframe.files import flat

CONF = conf_dir()
# command.yaml is what the others have in common
COMMANDS = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem not in ("command", "extraction"))
# neither are bases options
OPTIONS = sorted(
    path.relative_to(CONF).with_suffix("").as_posix()
    for path in CONF.glob("*/*.yaml")
    if not path.stem.startswith("base")
)
# Groups whose options are diffs of the whole.
DIFFS = ("experiment", "hparams_search", "debug")

# What an option needs to be complete on this machine: a value for a mandatory key, a CPU for a GPU.
ALSO = {
    "data/h5": ["data.path=a.h5"],
    "experiment/cross_validation": ["data=demo"],
    "experiment/distill": ["data=demo"],
    "experiment/heads": ["data=demo"],
    "hparams_search/optuna": ["data=demo"],
    "debug/fast": ["data=demo"],
    "backbone/timm": ["backbone.name=resnet18"],
    "selection/times": ["selection.seconds=[1.5]"],
    "trainer/gpu": ["trainer.accelerator=cpu"],
    "trainer/ddp": ["trainer.accelerator=cpu", "trainer.devices=2"],
}

# Groups that training has nothing to do with, which keyframe-extract has.
ELSEWHERE = ("engine", "shots", "selection")

# Options that bring others with them, or need a package, and are not chosen together with those of other groups.
ALONE = [("data/h5", "datamodule/features"), ("logger/mlflow",), *((o,) for o in OPTIONS if o.split("/")[0] in DIFFS)]


def together(groups):
    """One option of each group at once, in as many turns as the largest has options."""
    apart = {option for turn in ALONE for option in turn}
    of_each = ([option for option in OPTIONS if option.startswith(f"{group}/")] for group in groups)
    turns = zip_longest(*([option for option in options if option not in apart] for options in of_each))
    return [tuple(filter(None, turn)) for turn in turns]


GROUPS = dict.fromkeys(option.split("/")[0] for option in OPTIONS)
TURNS = [*together([one for one in GROUPS if one not in (*DIFFS, *ELSEWHERE)]), *together(ELSEWHERE), *ALONE]


def composed(command, *overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(command, list(overrides))


def targets(node, key=""):
    """The keys of all nodes that name a class or function."""
    if OmegaConf.is_dict(node):
        if "_target_" in node:
            yield key
        for name in node:
            yield from targets(node[name], f"{key}.{name}" if key else str(name))


def test_the_options_are_all_there():
    assert "train" in COMMANDS
    assert {"backbone/efficientnet_b0", "backbone/resnet50", "data/tvsum", "experiment/demo"} <= set(OPTIONS)


@functools.cache
def chosen(options):
    """The configuration of a command with these options, and what they need."""
    command = "extract" if options[0].split("/")[0] in ELSEWHERE else "train"
    more = ["run_dir=run", *(option.replace("/", "=") for option in options)]
    if command == "train":
        diff = options[0].split("/")[0] in DIFFS
        more += [] if diff or "data/h5" in options else ["data.root=videos"]
        more += [] if {"backbone/none", "data/h5"} & set(options) else ["backbone.pretrained=false"]
    return composed(command, *more, *(one for option in options for one in ALSO.get(option, ())))


@pytest.mark.parametrize("options", TURNS, ids=" ".join)
def test_every_option_composes_and_builds(options, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    if "logger/mlflow" in options:
        pytest.importorskip("mlflow", reason="MLflow is not installed")
    config = chosen(options)
    resolved = plain(config)  # raises at a key that is not set
    groups = {option.split("/")[0] for option in options}
    # a diff is of the whole; any other option stands for its own part, and for what it brings with it
    parts = groups | ({"backbone"} if "data/h5" in options else set())
    keys = [key for key in targets(config) if groups <= {*DIFFS} or key.split(".")[0] in parts]
    for key in keys:
        built = instantiate(OmegaConf.select(config, key), _convert_="all")
        assert built is not None, key
        if isinstance(built, functools.partial) and key == "optimizer":
            assert isinstance(built([torch.nn.Parameter(torch.zeros(1))]), torch.optim.Optimizer)
        elif isinstance(built, functools.partial) and key == "head":
            assert built(features=16)(torch.zeros(1, 3, 16)).shape == (1, 3)
    for group in groups.difference(DIFFS):
        builds = any(key.split(".")[0] == group for key in keys)
        assert builds or resolved[group] is None or group == "finetune" or f"{group}/h5" in options, group


def test_all_checkpoints_may_be_kept():
    """Lightning refuses callbacks of one class that it cannot tell apart."""
    callbacks = composed("train", "experiment=demo", "run_dir=run", "callbacks.regular.every_n_epochs=1").callbacks
    assert len({instantiate(callbacks[name]).state_key for name in ("best", "last", "regular")}) == 3


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes(command, tmp_path):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(command, return_hydra_config=True)
    # extract's results have a place of their own, that a second start finds again; its logs lie apart
    place = f"outputs/logs/{command}/" if command in ("extract", "app") else "outputs/${hydra.job.name}/"
    assert place in OmegaConf.to_yaml(config.hydra.run)
    assert str(OmegaConf.to_container(config)["run_dir"]) == "${hydra:runtime.output_dir}"
    for callback in config.hydra.callbacks.values():
        instantiate(callback)


def test_every_key_has_a_comment():
    """On its line, above it, or on the part that holds it. Classes, references and diffs of the whole need none."""
    bare = []
    for file in CONF.rglob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        if "@package _global_" in text:
            continue
        comments = comments_of(text)
        content = yaml.safe_load(text) or {}
        for key, value in flat({name: part for name, part in content.items() if name not in ("defaults", "hydra")}):
            parts = [".".join(key.split(".")[:count]) for count in range(1, key.count(".") + 2)]
            internal = "_target_" in f"{key} {value}" or "_partial_" in key or str(value).startswith("${")
            if not internal and not any(comments[part] for part in parts):
                bare.append(f"{file.relative_to(CONF)}: {key}")
    assert not bare


def test_options_of_a_group_that_build_one_class_have_the_same_keys():
    keys = {group: defaultdict(set) for group in ("backbone", "head", "finetune", "reader")}
    for options in TURNS:
        for group, classes in keys.items():
            if any(option.startswith(f"{group}/") for option in options):
                part = chosen(options)[group]
                classes[part.get("_target_")].add(frozenset(part))
    for group, classes in keys.items():
        assert all(len(names) == 1 for names in classes.values()), (group, classes)


def test_a_feature_file_brings_its_own_datamodule_and_no_backbone():
    config = composed("train", "data=h5", "data.path=a.h5", "data.width=7")
    assert config.datamodule["_target_"] == "keyframe.data.datamodule.FeatureDataModule"
    assert dict(config.model.backbone) == {"_target_": "keyframe.models.backbone.NoBackbone", "width": 7}
    # what is asked for stands
    assert composed("train", "data=h5", "data.path=a.h5", "backbone=resnet50").backbone.name == "resnet50"
    # and other data sets keep theirs
    videos = composed("train", "data=tvsum", "data.root=videos")
    assert videos.datamodule["_target_"] == "keyframe.data.datamodule.VideoDataModule"
    assert videos.model.backbone.name == "efficientnet_b0"


def test_tvsum_is_read_by_decord_and_other_videos_by_pyav():
    cases = {("data=tvsum",): "Decord", ("data=tvsum", "reader=pyav"): "PyAV", ("data=summe",): "PyAV"}
    for chosen, name in (cases | {("data=labelled",): "PyAV", ("experiment=demo",): "PyAV"}).items():
        config = composed("train", *chosen, "data.root=videos")
        assert config.datamodule.reader["_target_"].endswith(f".{name}Reader")
