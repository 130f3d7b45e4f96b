"""Command-line arguments made ready for Hydra: quoting, inputs, and the processes of one training."""

import os
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from hydra.conf import HydraConf
from omegaconf import DictConfig, OmegaConf

from keyframe.cli.terminal import fail
from keyframe.config import conf_dir

# Keys whose value is a path: quoted, because spaces, parentheses and '=' in a file name break Hydra's grammar.
_PATHS = (
    *("data.root", "data.path", "data.labels", "data.splits", "ckpt_path", "backbone.weights", "cache.dir"),
    *("labels", "run", "teacher", "output", "out", "hydra.run.dir", "hydra.sweep.dir", "sweep.resume"),
)
_LISTS = ("input", "runs")  # keys whose value is a path or a list of paths
_ONE = ("hydra.sweep.dir", "sweep.resume")  # one directory also in a sweep
# Hydra's options that take the next argument as their value.
_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd")
_PRINTING = ("--help", "-h", "--hydra-help", "--info", "--cfg", "-c")  # these write nothing
_RUNS = Path("outputs/train")  # where hydra.run.dir puts runs by default
# Text that Hydra reads as it stands; anything else may be a number or grammar.
_PLAIN = re.compile(r"[A-Za-z_/.][\w./\-]*", re.ASCII)
_WORDS = ("true", "false", "nan", "inf")
RANKS_IN_SWEEP = (
    "a sweep (-m) with several processes per job would start the whole sweep again in every process: sweep with "
    "trainer=auto, start each job by itself, or let SLURM start the processes (hydra/launcher=submitit_slurm "
    "hydra.launcher.tasks_per_node=DEVICES)."
)


def prepare(arguments: Sequence[str]) -> list[str]:
    """Quote paths, let `backbone=` take any timm name, and let `ckpt_path=last` find its run directory."""
    sweep = any(argument in ("-m", "--multirun") for argument in arguments)
    prepared: list[str] = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        # In a sweep a comma parts values, unless it is in the name of something that exists.
        if not equals or (sweep and key not in _ONE and not os.path.lexists(value)):
            prepared.append(argument)
        elif key in _PATHS or (key in _LISTS and os.path.lexists(value)):
            prepared.append(f"{key}={quote(value)}")
        elif key in _LISTS:
            prepared.append(f"{key}={_quote_list(value)}")
        elif key == "backbone":
            prepared += _backbone(value)
        else:
            prepared.append(argument)
    if "ckpt_path=last" in arguments and not any(argument.startswith("hydra.run.dir=") for argument in arguments):
        newest = max(_RUNS.glob("*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime, default=None)
        if newest is not None:
            prepared.append(f"hydra.run.dir={quote(str(newest.parents[1]))}")
    return prepared


def split_inputs(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part arguments for Hydra from bare ones, which name inputs, such as those of a shell's `*.mp4`.

    A name with `=` or a leading dash is an input if it exists; after `--` all are.
    """
    others: list[str] = []
    inputs: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            inputs += rest
        elif argument in _WITH_VALUE:
            others += [argument, *islice(rest, 1)]
        elif os.path.lexists(argument) or not ("=" in argument or argument.startswith(("-", "+", "~"))):
            inputs.append(argument)
        else:
            others.append(argument)
    return others, inputs


def add_inputs(config: DictConfig, inputs: Sequence[str]) -> None:
    """Add inputs to `input`, to the letter: `${` in a name is no interpolation."""
    given = [] if config.input is None else config.input if OmegaConf.is_list(config.input) else [config.input]
    config.input = [*given, *(re.sub(r"(\\*)\$\{", r"\1\1\\${", name) for name in inputs)]


def quote(value: str) -> str:
    """A value that Hydra reads as exactly this text; what is quoted, an interpolation or null stays."""
    plain = _PLAIN.fullmatch(value) and not re.fullmatch(r"\.[\d_]+", value) and value.lower() not in _WORDS
    if _is_quoted(value) or plain or value.startswith("${") or value == "null":
        return value
    # Between Hydra's quotes backslashes count only before a quote, or at the end.
    return "'" + re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value) + "'"


def unquoted(value: str) -> str:
    """The text between quotes, or the whole if there are none."""
    return value[1:-1] if _is_quoted(value) else value


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""


def _quote_list(value: str) -> str:
    """A path, or each of `[A,B,[C,D]]`; a list with quotes stays."""
    if not (value.startswith("[") and value.endswith("]")):
        return quote(value)
    if any(mark in value for mark in "'\""):
        return value
    return re.sub(r"[^\[\],]+", lambda item: quote(item[0].strip()), value)


def _backbone(value: str) -> list[str]:
    """`backbone=NAME` if conf/ has it, else timm's model of that name."""
    if (conf_dir() / "backbone" / f"{value}.yaml").is_file() or not re.fullmatch(r"[\w.\-]+", value):
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
