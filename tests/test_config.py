"""Every YAML file of conf/ composes, and everything it names can be built."""

import functools

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from keyframe.config import conf_dir, plain

CONF = conf_dir()
# command.yaml is what the others have in common
COMMANDS = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem != "command")
OPTIONS = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.glob("*/*.yaml"))

# What an option needs to be complete on this machine: a value for a mandatory key, a CPU for a GPU.
ALSO = {
    "data/base": ["+data.source=null"],
    "backbone/timm": ["backbone.name=resnet18"],
    "trainer/gpu": ["trainer.accelerator=cpu"],
    "trainer/ddp": ["trainer.accelerator=cpu", "trainer.devices=2"],
}


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


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_builds(option, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    group, name = option.split("/")
    root = [] if (group == "data" and name in ("base", "demo")) or group == "experiment" else ["data.root=videos"]
    config = composed(
        "train", f"{group}={name}", *root, "backbone.pretrained=false", f"run_dir={tmp_path}", *ALSO.get(option, [])
    )
    resolved = plain(config)  # raises at a key that is not set
    assert group in resolved or group == "experiment"
    # an experiment is a diff of the whole; any other option stands for its own part
    keys = [key for key in targets(config) if group == "experiment" or key.split(".")[0] == group]
    for key in keys:
        built = instantiate(OmegaConf.select(config, key), _convert_="all")
        assert built is not None, key
        if isinstance(built, functools.partial) and key == "optimizer":
            assert isinstance(built([torch.nn.Parameter(torch.zeros(1))]), torch.optim.Optimizer)
        elif isinstance(built, functools.partial) and key == "head":
            assert built(features=16)(torch.zeros(1, 3, 16)).shape == (1, 3)
    assert keys or resolved.get(group) is None or group == "finetune" or option == "data/base"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes(command, tmp_path):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(command, return_hydra_config=True)
    assert "outputs/${hydra.job.name}/" in OmegaConf.to_yaml(config.hydra.run)
    assert str(OmegaConf.to_container(config)["run_dir"]) == "${hydra:runtime.output_dir}"
    for callback in config.hydra.callbacks.values():
        instantiate(callback)


def test_options_of_a_group_have_the_same_keys():
    for group in ("backbone", "head", "finetune", "reader"):
        keys = {
            option: set(composed("train", option.replace("/", "="))[group])
            for option in OPTIONS
            if option.startswith(f"{group}/")
        }
        assert len(keys) > 1
        assert len({frozenset(names) for names in keys.values()}) == 1, keys
