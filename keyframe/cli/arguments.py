"""Command-line arguments made ready for Hydra, and the checks of what it has composed."""

import os
import re
from collections.abc import Sequence, Set
from itertools import islice
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from omegaconf import DictConfig, OmegaConf

from keyframe.cli.errors import fail, unknown_key
from keyframe.config import as_list, conf_dir, is_quoted, known_keys, option_exists, own_config_dirs, quote
from keyframe.files import flat
from keyframe.trust import Trust
from keyframe.types import KeyframeError, check_number

# Keys whose value is text, such as a path: quoted, because spaces, commas and '=' in it break Hydra's grammar.
_PATHS = (
    *("data.splits", "ckpt_path", "backbone.weights", "cache.dir"),
    *("labels", "teacher", "output", "folder", "out", "pca", "hydra.run.dir", "hydra.sweep.dir", "sweep.resume"),
    *("write_scores", "region", "training"),
)
# Keys whose value is a path or a list of paths.
_LISTS = ("input", "run", "runs", "scores", "splits", "data.root", "data.path", "data.labels")
_ONE = ("hydra.sweep.dir", "sweep.resume")  # one directory also in a sweep
# Hydra's options that take the next argument as their value.
_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd")
_OPTIONS = (*_WITH_VALUE, "--info", "-i", "--experimental-rerun")  # those that may stand before a "="
_PRINTING = ("--help", "-h", "--hydra-help", "--info", "--cfg", "-c")  # these write nothing
_RUNS = Path("outputs/train")  # where hydra.run.dir puts runs by default
RANKS_IN_SWEEP = (
    "a sweep (-m) with several processes per job would start the whole sweep again in every process: sweep with "
    "trainer=auto, start each job by itself, or let SLURM start the processes (hydra/launcher=submitit_slurm "
    "hydra.launcher.tasks_per_node=DEVICES)."
)


def without_hyphens(arguments: Sequence[str]) -> list[str]:
    """`--key=value`, as W&B's agents write it, as Hydra's `key=value`; and their None as null."""
    changed = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key not in _OPTIONS:
            if not os.path.lexists(value):
                value = ",".join("null" if one == "None" else one for one in value.split(","))
            argument = f"{key.removeprefix('--')}={value}"
        changed.append(argument)
    return changed


def prepare(arguments: Sequence[str]) -> list[str]:
    """Quote paths, let `backbone=` take any timm name, and let `ckpt_path=last` find its run directory.

    Directories of own YAML files become `hydra.searchpath`, absolute: all processes and the record of a sweep get it.
    """
    arguments, folders = own_config_dirs(arguments)
    sweep = any(argument in ("-m", "--multirun") for argument in arguments)
    prepared: list[str] = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key == "backbone":
            prepared += _backbone(value, folders)
        # In a sweep a comma parts values, unless it is in the name of something that exists.
        elif not equals or (sweep and key not in _ONE and not os.path.lexists(value)):
            prepared.append(argument)
        elif key in _PATHS or (key in _LISTS and os.path.lexists(value)):
            prepared.append(f"{key}={quote(value)}")
        elif key in _LISTS:
            prepared.append(f"{key}={_quote_list(value)}")
        else:
            prepared.append(argument)
    if folders:
        # before another override: Hydra takes overrides only in a row
        at = next((place for place, one in enumerate(prepared) if "=" in one and one[0] != "-"), len(prepared))
        prepared.insert(at, f"hydra.searchpath=[{','.join(quote(str(folder)) for folder in folders)}]")
    if "ckpt_path=last" in arguments and not any(argument.startswith("hydra.run.dir=") for argument in arguments):
        newest = max(_RUNS.glob("*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime, default=None)
        if newest is not None:
            prepared.append(f"hydra.run.dir={quote(str(newest.parents[1]))}")
    return prepared


def split_inputs(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part arguments for Hydra from bare ones, which name inputs, such as those of a shell's `*.mp4`.

    A name with `=` or a leading dash is an input if it exists, an http(s) address always; `-` is standard input; after
    `--` all are inputs.
    """
    others: list[str] = []
    inputs: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            inputs += rest
        elif argument in _WITH_VALUE:
            others += [argument, *islice(rest, 1)]
        elif (
            argument == "-"
            or os.path.lexists(argument)
            or re.match("https?://", argument, re.IGNORECASE)
            or not ("=" in argument or argument.startswith(("-", "+", "~")))
        ):
            inputs.append(argument)
        else:
            others.append(argument)
    return others, inputs


def add_inputs(config: DictConfig, inputs: Sequence[str]) -> None:
    """Add inputs to `input`, to the letter: `${` in a name is no interpolation."""
    given = [] if config.input is None else as_list(config.input)
    config.input = [*given, *(re.sub(r"(\\*)\$\{", r"\1\1\\${", name) for name in inputs)]


def unquoted(value: str) -> str:
    """The text between quotes, or the whole if there are none."""
    return value[1:-1] if is_quoted(value) else value


def _quote_list(value: str) -> str:
    """A path, or each of `[A,B,[C,D]]`; a list with quotes stays."""
    if not (value.startswith("[") and value.endswith("]")):
        return quote(value)
    if any(mark in value for mark in "'\""):
        return value
    return re.sub(r"[^\[\],]+", lambda item: quote(item[0].strip()), value)


def _backbone(value: str, folders: Sequence[Path]) -> list[str]:
    """`backbone=NAME`, or `A,B` in a sweep, if there are YAML files for it, else timm's models of these names."""
    names = value.split(",")
    timm = not any(option_exists("backbone", name, folders) for name in names)
    if not timm or not all(re.fullmatch(r"[\w.\-]+", name) for name in names):
        return [f"backbone={value}"]
    return ["backbone=timm", f"backbone.name={value}"]


def is_first_process() -> bool:
    """Whether this is the process a user started, or rank 0, rather than a further DDP rank."""
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID", "NODE_RANK"))


def with_one_directory(arguments: list[str]) -> list[str]:
    """Arguments of a training, changed for a further rank so that the first alone writes the configuration.

    Run directories are named after the time; ranks that Lightning does not start itself must be given a name.
    """
    if any(argument in _PRINTING for argument in arguments):
        return arguments
    tasks = os.environ.get("SLURM_NTASKS", "1") if "SLURM_PROCID" in os.environ else "1"
    several = "TORCHELASTIC_RUN_ID" in os.environ or int(tasks) > 1 or os.environ.get("NODE_RANK", "0") != "0"
    if several and not any(argument.startswith("hydra.run.dir=") for argument in arguments):
        fail(
            "train",
            "all processes of torchrun or srun must write into one directory: add hydra.run.dir=DIR to the command.",
        )
    return arguments if is_first_process() else [*arguments, "hydra.output_subdir=null"]


def starts_ranks(hydra: HydraConf) -> bool:
    """Whether the launcher starts one process per device, all with the same job, as SLURM does."""
    return str(hydra.launcher["_target_"]).endswith(".SlurmLauncher")


def several_processes(config: DictConfig) -> bool:
    """Whether a configuration asks for several processes, as far as it shows before there is a trainer."""
    trainer = config.get("trainer") or {}
    devices, nodes = trainer.get("devices", 1), trainer.get("num_nodes", 1)
    many = len(devices) > 1 if OmegaConf.is_list(devices) else devices not in (1, "1", "auto")
    return many or nodes not in (1, "1") or (trainer.get("strategy") is not None and devices == "auto")


# Ranges of keys that torch and Lightning take, which would report them late or not at all: see `check_number`.
_RANGES: dict[str, dict[str, Any]] = {
    "seed": {"lowest": 0},
    "optimizer.lr": {"lowest": 0, "whole": False, "above": True},
    "optimizer.weight_decay": {"lowest": 0, "whole": False},
    "trainer.max_epochs": {"lowest": 1},
    "trainer.accumulate_grad_batches": {"lowest": 1},
    "trainer.gradient_clip_val": {"lowest": 0, "whole": False, "optional": True},
}
# Groups whose entries each name a class, or are null.
_OF_CLASSES = ("callbacks", "logger")


def check_values(config: DictConfig, command: str) -> None:
    """Check that every mandatory key is set, that each is read, and the ranges of keys that no class of ours takes."""
    values = OmegaConf.to_container(config)  # interpolations stay, so each `???` is named where a user sets it
    _check_keys(values, known_keys(command))
    for key, value in flat(values):
        if value == "???":
            raise KeyframeError(f"{key} is not set: add {key}=... to the command.")
    for key, allowed in _RANGES.items():
        value = OmegaConf.select(config, key, default="absent")
        if value != "absent":
            check_number(key, value, **allowed)
    Trust.of(config.trust)
    if not OmegaConf.is_interpolation(config, "run_dir"):  # Hydra has made its own directory by now
        raise KeyframeError(f"run_dir={config.run_dir} follows hydra.run.dir (in a sweep hydra.sweep.dir): set that.")


def _check_keys(values: Any, known: Set[str]) -> None:
    """Refuse a key that nothing reads, such as a typo, and a part of the configuration that names no class.

    A key is read if our YAML files have it, if what a `_target_` names takes it, or if an interpolation names it.
    """
    texts = [text for _, text in flat(values) if isinstance(text, str) and "${" in text]
    read = {word.strip(".") for text in texts for word in re.findall(r"[\w.]+", text)}

    def check(key: str, value: Any) -> None:
        entry = key.rpartition(".")[0] in _OF_CLASSES
        of_class = f"{key}._target_" in known or entry
        below = [one for one in known if one.startswith(f"{key}.")]
        named = any(f"{key}.".startswith(f"{one}.") or key.endswith(f".{one}") for one in read)
        if (isinstance(value, dict) and ("_target_" in value or of_class)) or (entry and value is not None):
            target = value.get("_target_", "") if isinstance(value, dict) else ""
            if key in _OF_CLASSES or not re.fullmatch(r"\w+(\.\w+)+", str(target)):
                place = f"{key}.NAME" if key in _OF_CLASSES else key
                raise KeyframeError(f"{key} names no class: its YAML needs {place}._target_, PACKAGE.CLASS.")
        elif isinstance(value, dict) and (below or any(one.startswith(f"{key}.") for one in read)):
            for name, child in value.items():
                check(f"{key}.{name}", child)
        elif isinstance(value, dict) and (conf_dir() / key).is_dir():
            raise KeyframeError(f"the YAML of {key}=... needs `# @package _global_` as its first line.")
        elif below or of_class:
            if key not in known and not (entry and value is None):
                how = f"choose an option, under `defaults` by `override /{key}: NAME`, or "
                how = how if (conf_dir() / key).is_dir() else ""
                raise KeyframeError(f"{key}={value} would drop the keys below {key}: {how}change those keys.")
        elif not (key in known or named):
            present = [one for one, _ in flat(values) if not f"{one}.".startswith(f"{key}.")]
            raise KeyframeError(unknown_key(key, present))

    for name, child in values.items():
        check(str(name), child)
