"""Command-line arguments made ready for Hydra, and what is wrong with them as one sentence."""

import difflib
import os
import re
import sys
from collections.abc import Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, NoReturn

from hydra import compose
from hydra.conf import HydraConf
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import CompactHydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException
from yaml.error import MarkedYAMLError

from keyframe.config import as_list, option_exists, own_config_dirs
from keyframe.files import flat, one_line
from keyframe.system import fault_of, pip_install
from keyframe.trust import Trust
from keyframe.types import KeyframeError, check_number

# Keys whose value is a path or a rectangle: quoted, because spaces, commas and '=' in it break Hydra's grammar.
_PATHS = (
    *("data.splits", "ckpt_path", "backbone.weights", "cache.dir"),
    *("labels", "run", "teacher", "output", "out", "pca", "hydra.run.dir", "hydra.sweep.dir", "sweep.resume"),
    *("write_scores", "region"),
)
# Keys whose value is a path or a list of paths.
_LISTS = ("input", "runs", "scores", "splits", "data.root", "data.path", "data.labels")
_ONE = ("hydra.sweep.dir", "sweep.resume")  # one directory also in a sweep
# Hydra's options that take the next argument as their value.
_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd")
_OPTIONS = (*_WITH_VALUE, "--info", "-i", "--experimental-rerun")  # those that may stand before a "="
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
# Keys that decide how much memory a command needs.
_MEMORY = ("data.batch_size", "sampling.frames", "data.size", "calibration.videos", "workers")
_ABSENT = object()  # no value of a key
# Options that Hydra has with the extra `sweep` only.
_PLUGINS = {"hydra/launcher": ("joblib", "submitit_local", "submitit_slurm"), "hydra/sweeper": ("optuna",)}


def check_values(config: DictConfig) -> None:
    """Check that every mandatory key is set, and the ranges of keys that no class of ours takes."""
    values = OmegaConf.to_container(config)  # interpolations stay, so each `???` is named where a user sets it
    for key, value in flat(values):
        if value == "???":
            raise KeyframeError(f"{key} is not set: add {key}=... to the command.")
    for key, allowed in _RANGES.items():
        value = OmegaConf.select(config, key, default="absent")
        if value != "absent":
            check_number(key, value, **allowed)
    Trust.of(config.trust)


def check_additions(config: DictConfig, command: str, overrides: Sequence[str]) -> None:
    """Refuse a key that `+key=value` or `++key=value` adds and that nothing reads: a typo would be swallowed.

    A key is read if the configuration has it anyway (`++`), if something that `_target_` builds takes it, or if an
    interpolation names it. The option of a group (`+group=option`) is Hydra's to check.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    if not any(one.is_add() or one.is_force_add() for one in parsed):
        return
    groups = [one for one in parsed if _chooses_option(one, config)]
    texts = [value for _, value in flat(OmegaConf.to_container(config)) if isinstance(value, str)]
    referenced = [found.lstrip(".") for text in texts for found in re.findall(r"\$\{([\w.]+)\}", text)]
    own = compose(command, [str(one.input_line) for one in groups])
    for one in parsed:
        if one in groups or not (one.is_add() or one.is_force_add()):
            continue
        key = one.key_or_group
        parts = [OmegaConf.select(config, part) for part in accumulate(key.split("."), "{}.{}".format)]
        built = any(OmegaConf.is_dict(part) and "_target_" in part for part in parts)
        named = any(f"{key}.".startswith(f"{other}.") or key.endswith(f".{other}") for other in referenced)
        if not (built or named or OmegaConf.select(own, key, default=_ABSENT) is not _ABSENT):
            raise KeyframeError(_unknown_key(key, own))


def _chooses_option(override: Override, config: DictConfig) -> bool:
    """Whether an override is `group=option`: what is there is not the value, but what the option holds, if anything."""
    found = OmegaConf.select(config, override.key_or_group, default=_ABSENT)
    holds = OmegaConf.is_dict(found) and not isinstance(override.value(), dict)
    return not override.is_delete() and (override.package is not None or holds or found is _ABSENT)


def fail(name: str, sentence: str) -> NoReturn:
    """End the command `keyframe-<name>` with a sentence on stderr and exit status 1."""
    sys.exit(one_line(f"keyframe-{name}: {sentence}"))


def sentence_of(error: BaseException, config: DictConfig | None = None, directory: Path | None = None) -> str | None:
    """Describe an error in one sentence; None if a user cannot mend it.

    The config serves to name keys; `directory` is what the command writes.
    """
    match error:
        case KeyframeError():
            return _message(error)
        case InstantiationException():
            return _not_built(error, config)
        case MissingConfigException() if error.missing_cfg_file and error.options:
            return _no_option(error.missing_cfg_file, error.options)
        case OverrideParseException():
            reason = "".join(str(error).splitlines()[1:2])
            return (
                f"{error.override} cannot be read ({reason}): write key=value, "
                "and a value with special characters in two kinds of quotes, \"key='value'\"."
            )
        case MissingMandatoryValue():
            key = getattr(error, "full_key", None) or getattr(error, "key", None)
            return f"{key} is not set: add {key}=... to the command."
        case ConfigKeyError() | ConfigAttributeError():
            return _no_key(error)
        case CompactHydraException() if isinstance(error.__cause__, ConfigKeyError | ConfigAttributeError):
            return _no_key(error.__cause__)
        case ValueError() if str(error) == "No trials are completed yet.":  # Optuna's, at the end of a search
            return "no job of the search has completed: the lines above and sweep.csv in its directory show why."
        case ValueError() if str(error).startswith("Config group override"):  # Hydra's, of loss=3 say
            return f"{str(error).rstrip('.')}: a group takes the name of an option, see --help."
        case MarkedYAMLError() if error.problem_mark is not None:
            mark = error.problem_mark
            return f"{mark.name} is no YAML file: {error.problem} in line {mark.line + 1}, column {mark.column + 1}."
        case Exception() if _is_misconfiguration(error):
            return one_line(str(error))
        case CompactHydraException() | OmegaConfBaseException():
            lines = [str(error), str(error.__cause__ or "")]
            return " ".join(text.splitlines()[0].strip() for text in lines if text.strip())
    lower = [key for key in _MEMORY if config is not None and OmegaConf.select(config, key) is not None]
    return fault_of(error, directory, ", ".join(lower))


def _message(error: KeyframeError) -> str:
    """The message of an error without the traceback that a DataLoader puts before it if a worker has raised it."""
    text = str(error)
    if text.startswith("Caught ") and "DataLoader worker" in text:
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return one_line(text)


def _is_misconfiguration(error: BaseException | None) -> bool:
    """Whether Lightning refuses its options; its class is too heavy to import here."""
    return type(error).__name__ == "MisconfigurationException"


def _no_key(error: OmegaConfBaseException) -> str:
    root = error.parent_node._get_root() if error.parent_node is not None else None
    return _unknown_key(str(error.full_key or error.key), root if isinstance(root, DictConfig) else OmegaConf.create())


def _unknown_key(key: str, config: DictConfig) -> str:
    """That the configuration has no such key, and the one that may be meant: beside it, or of that name elsewhere."""
    parent, _, name = key.rpartition(".")
    beside = OmegaConf.select(config, parent) if parent else config
    close = difflib.get_close_matches(name, [str(one) for one in beside] if OmegaConf.is_dict(beside) else [], n=1)
    known = (one for one, _ in flat(OmegaConf.to_container(config)) if not one.startswith("hydra."))
    meant = [f"{parent}.{one}".strip(".") for one in close] or [one for one in known if one.endswith(f".{name}")]
    return f"there is no key {key}: {f'did you mean {meant[0]}?' if meant else 'see the keys with --help.'}"


def _no_option(name: str, options: Sequence[str]) -> str:
    group, _, option = name.rpartition("/")
    if option in _PLUGINS.get(group, ()):
        return f"{group}={option} is a plugin that is not installed: {pip_install('sweep')}."
    known = ", ".join(option for option in options if not option.startswith("base"))
    more = " (any other timm model: backbone=timm backbone.name=NAME)" if group == "backbone" else ""
    return f"{group}={option} is not there: choose one of {known}{more}."


def _not_built(error: InstantiationException, config: DictConfig | None) -> str | None:
    cause = error.__cause__
    if cause is not None and (sentence := sentence_of(cause)):
        return sentence
    lines = str(error).splitlines()
    key = next((line.partition(":")[2].strip() for line in lines if line.startswith("full_key:")), "")
    if isinstance(cause, ValueError | TypeError) or _is_misconfiguration(cause):
        message = one_line(str(cause))
        argument = re.match(r"\w+(?= must )", message)  # our own messages begin with the argument's name
        if key and argument:
            return f"{_set_key(config, f'{key}.{argument[0]}')}{message[argument.end() :]}"
        if isinstance(cause, TypeError) and "missing" in message:
            message += ": set it, or add _partial_: true if keyframe is to give it."
        return f"{_set_key(config, key) or 'the configuration'}: {message}"
    if lines[0].startswith("Error locating target"):
        return f"{_set_key(config, key)}._target_ cannot be imported: {_no_target(lines[0], cause)}."
    return None


def _no_target(line: str, cause: BaseException | None) -> str:
    """Why there is no class of the name that a line of Hydra's quotes, and what to do."""
    name = line.partition("'")[2].partition("'")[0]
    while cause is not None and cause.__cause__ is not None:
        cause = cause.__cause__
    package, _, rest = name.partition(".")
    if isinstance(cause, ModuleNotFoundError) and cause.name == package:
        return (
            f"{name} is in no package that is installed, lies here or lies around the YAML files: set PYTHONPATH "
            f"to the folder that holds {package}"
        )
    missing = isinstance(cause, AttributeError) or getattr(cause, "name", None) == name
    if missing or not rest:
        return f"{name} is not in {name.rpartition('.')[0] or 'any module'}"
    return f"importing {name} fails ({type(cause).__name__}: {one_line(str(cause))})"


def _set_key(config: DictConfig | None, key: str) -> str:
    """The key that a user sets: `data.size` for `datamodule.size`, whose value is `${data.size}`."""
    values = {} if config is None else dict(flat(OmegaConf.to_container(config)))
    for part in accumulate(key.split("."), lambda parent, name: f"{parent}.{name}"):
        if source := re.fullmatch(r"\$\{([\w.]+)\}", str(values.get(part))):
            return _set_key(config, source[1] + key[len(part) :])
    return key
