"""What ends a command, in one sentence."""

import difflib
import re
import sys
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from traceback import extract_tb
from typing import NoReturn

from hydra.errors import CompactHydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException
from yaml.error import MarkedYAMLError
from yaml.reader import ReaderError

from keyframe.files import flat, one_line
from keyframe.system import fault_of, pip_install
from keyframe.trust import Trust, own_fault, own_packages
from keyframe.types import KeyframeError

# Keys that decide how much memory a command needs.
_MEMORY = ("data.batch_size", "sampling.frames", "data.size", "calibration.videos", "workers")
# Options that Hydra has with the extra `sweep` only.
_PLUGINS = {"hydra/launcher": ("joblib", "submitit_local", "submitit_slurm"), "hydra/sweeper": ("optuna",)}


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
            lines = [line for line in str(error).splitlines() if not line.startswith(("Error parsing", "See "))]
            reason = "".join(lines[:1])
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
        case ValueError() if str(error).startswith("Invalid defaults list"):
            return f"{error}: write `defaults: [NAME, _self_]`."
        case RecursionError() if any("defaults_list" in place.filename for place in extract_tb(error.__traceback__)):
            return "the `defaults` of a YAML file name the file itself, or each other in a circle: correct them."
        case ValueError() if str(error).startswith("Config group override"):  # Hydra's, of loss=3 say
            return f"{str(error).rstrip('.')}: a group takes the name of an option, see --help."
        case MarkedYAMLError() if error.problem_mark is not None:
            mark = error.problem_mark
            return f"{mark.name} is not a YAML file: {error.problem} in line {mark.line + 1}, column {mark.column + 1}."
        case ReaderError():
            return f"{error.name} is not a YAML file: {error.reason}, at character {error.position}."
        case Exception() if _is_misconfiguration(error):
            return one_line(str(error))
        case OmegaConfBaseException():
            key = error.full_key or (_unresolved(config) if config is not None else None)
            return f"{f'{key}: ' if key else ''}{str(error).splitlines()[0].strip()}."
        case CompactHydraException():
            said = re.split(r"\n+(?:Config search path|Available options|\s*full_key):", str(error))[0]
            because = str(error.__cause__ or "").partition("\n")[0].strip()
            key = re.search(r"full_key: (\S+)", f"{error} {error.__cause__}")
            return one_line(f"{f'{key[1]}: ' if key else ''}{said if because in said else f'{said} {because}'}")
        case TypeError() if "\nfull_key: " in str(error):  # Hydra's, of its own flags
            return _not_built(error, config)
    lower = [key for key in _MEMORY if config is not None and OmegaConf.select(config, key) is not None]
    return fault_of(error, directory, ", ".join(lower)) or own_fault(error, _own_packages(config))


def _own_packages(config: DictConfig | None) -> set[str]:
    """The packages of a user's own that a configuration names."""
    if config is None:
        return set()
    targets = [value for key, value in flat(OmegaConf.to_container(config)) if key.endswith("_target_")]
    return own_packages([*targets, *Trust.of(config.get("trust")).packages])


def _unresolved(config: DictConfig) -> str | None:
    """The first key whose value refers to what is not there."""
    for key, value in flat(OmegaConf.to_container(config)):
        try:
            if isinstance(value, str) and "${" in value:
                OmegaConf.select(config, key)
        except OmegaConfBaseException:
            return key
    return None


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
    values = OmegaConf.to_container(root) if isinstance(root, DictConfig) else {}
    return unknown_key(str(error.full_key or error.key), [key for key, _ in flat(values)])


def unknown_key(key: str, known: Sequence[str]) -> str:
    """That there is no such key, and which of the known ones may be meant: beside it, or of that name elsewhere."""
    parent, _, name = key.rpartition(".")
    start = f"{parent}." if parent else ""
    beside = dict.fromkeys(one[len(start) :].partition(".")[0] for one in known if one.startswith(start))
    close = [start + one for one in difflib.get_close_matches(name, beside, n=1)]
    meant = close or [one for one in known if one.endswith(f".{name}") and not one.startswith("hydra.")]
    return f"there is no key {key}: {f'did you mean {meant[0]}?' if meant else 'see the keys with --help.'}"


def _no_option(name: str, options: Sequence[str]) -> str:
    group, _, option = name.rpartition("/")
    if option in _PLUGINS.get(group, ()):
        return f"{group}={option} needs a plugin that is not installed: {pip_install('sweep')}."
    known = ", ".join(option for option in options if not option.startswith("base"))
    more = " (any other timm model: backbone=timm backbone.name=NAME)" if group == "backbone" else ""
    return f"{group}={option} does not exist: choose one of {known}{more}."


def _not_built(error: Exception, config: DictConfig | None) -> str | None:
    cause = error.__cause__
    if cause is not None and (sentence := sentence_of(cause, config)):
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
    if not lines[0].startswith("Error in call to target"):
        said = " ".join(line for line in lines if not line.startswith("full_key:"))
        return f"{_set_key(config, key) or 'a part of the configuration'} cannot be built: {said.rstrip('.')}."
    return None


def _no_target(line: str, cause: BaseException | None) -> str:
    """Why there is no class of the name that a line of Hydra's quotes, and what to do."""
    name = line.partition("'")[2].partition("'")[0]
    while cause is not None and cause.__cause__ is not None:
        cause = cause.__cause__
    package, _, rest = name.partition(".")
    if isinstance(cause, ModuleNotFoundError) and cause.name == package:
        return (
            f"{name} is not in an installed package, the current folder or the folders above the YAML files: set "
            f"PYTHONPATH to the folder that holds {package}"
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
