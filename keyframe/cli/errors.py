"""What went wrong, as one sentence for a user; and values that are checked before anything is built or written."""

import difflib
import re
import sys
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NoReturn

from hydra.errors import CompactHydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from keyframe.files import flat
from keyframe.types import KeyframeError, check_number

# Ranges of keys that torch and Lightning take, which would report them late or not at all: see `check_number`.
_RANGES: dict[str, dict[str, Any]] = {
    "seed": {"lowest": 0},
    "optimizer.lr": {"lowest": 0, "whole": False, "above": True},
    "optimizer.weight_decay": {"lowest": 0, "whole": False},
    "trainer.max_epochs": {"lowest": 1},
    "trainer.accumulate_grad_batches": {"lowest": 1},
    "trainer.gradient_clip_val": {"lowest": 0, "whole": False, "optional": True},
}
# Options that Hydra has with the extra `sweep` only.
_PLUGINS = {"hydra/launcher": ("joblib", "submitit_local", "submitit_slurm"), "hydra/sweeper": ("optuna",)}


def check_values(config: DictConfig) -> None:
    """Check that every mandatory key is set, and the ranges of keys that no class of ours takes.

    Raises:
        KeyframeError: naming the first key that is not.
    """
    values = OmegaConf.to_container(config)  # interpolations stay, so each `???` is named where a user sets it
    for key, value in flat(values):
        if value == "???":
            raise KeyframeError(f"{key} is not set: add {key}=... to the command.")
    for key, allowed in _RANGES.items():
        value = OmegaConf.select(config, key, default="absent")
        if value != "absent":
            check_number(key, value, **allowed)


def fail(name: str, sentence: str) -> NoReturn:
    """End the command `keyframe-<name>` with a sentence on stderr and exit status 1."""
    sys.exit(f"keyframe-{name}: {sentence}")


def sentence_of(error: BaseException, config: DictConfig | None = None) -> str | None:
    """Describe an error in one sentence; None if a user cannot mend it.

    Args:
        error: what a command has raised.
        config: what was being built, to name the key that a user sets.
    """
    match error:
        case KeyframeError():
            return str(error)
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
        case RuntimeError() if _lost_a_process(error):
            return (
                "another process of this training has ended; its message, if it left one, shows why: "
                "go on with ckpt_path=last."
            )
        case Exception() if _is_misconfiguration(error):
            return " ".join(str(error).split())
        case CompactHydraException() | OmegaConfBaseException():
            lines = [str(error), str(error.__cause__ or "")]
            return " ".join(text.splitlines()[0].strip() for text in lines if text.strip())
    return None


def _is_misconfiguration(error: BaseException | None) -> bool:
    """Whether Lightning refuses its options; its class is too heavy to import here."""
    return type(error).__name__ == "MisconfigurationException"


def _lost_a_process(error: RuntimeError) -> bool:
    """Whether gloo or NCCL reports that a rank does not answer; their classes are too heavy to import here."""
    text = str(error)
    return type(error).__name__ in ("DistBackendError", "DistNetworkError") or (
        "gloo" in text and any(words in text for words in ("onnection closed", "onnection reset", "imed out"))
    )


def _no_key(error: OmegaConfBaseException) -> str:
    """A key that the configuration does not have, and the one that may be meant."""
    key = str(error.full_key or error.key)
    siblings = list(error.parent_node) if isinstance(error.parent_node, DictConfig) else []
    close = difflib.get_close_matches(str(error.key), [str(name) for name in siblings], n=1)
    meant = ".".join([*key.split(".")[:-1], *close])
    remedy = f"did you mean {meant}?" if close else "see the keys with --help."
    return f"there is no key {key}: {remedy}"


def _no_option(name: str, options: Sequence[str]) -> str:
    """An option that a configuration group does not have."""
    group, _, option = name.rpartition("/")
    if option in _PLUGINS.get(group, ()):
        return f"{group}={option} is a plugin that is not installed: pip install 'keyframe[sweep]'."
    known = ", ".join(option for option in options if not option.startswith("base"))
    more = " (any other timm model: backbone=timm backbone.name=NAME)" if group == "backbone" else ""
    return f"{group}={option} is not there: choose one of {known}{more}."


def _not_built(error: InstantiationException, config: DictConfig | None) -> str | None:
    """An object that cannot be made from its part of the configuration."""
    cause = error.__cause__
    if cause is not None and (sentence := sentence_of(cause)):
        return sentence
    lines = str(error).splitlines()
    key = next((line.partition(":")[2].strip() for line in lines if line.startswith("full_key:")), "")
    if isinstance(cause, ValueError | TypeError) or _is_misconfiguration(cause):
        message = " ".join(str(cause).split())
        argument = re.match(r"\w+(?= must )", message)  # our own messages begin with the argument's name
        if key and argument:
            return f"{_set_key(config, f'{key}.{argument[0]}')}{message[argument.end() :]}"
        return f"{_set_key(config, key) or 'the configuration'}: {message}"
    if lines[0].startswith("Error locating target"):
        return f"{_set_key(config, key)}._target_ cannot be imported: {lines[0].split(', set env')[0]}."
    return None


def _set_key(config: DictConfig | None, key: str) -> str:
    """The key that a user sets: `data.size` for `datamodule.size`, whose value is `${data.size}`."""
    values = {} if config is None else dict(flat(OmegaConf.to_container(config)))
    for part in accumulate(key.split("."), lambda parent, name: f"{parent}.{name}"):
        if source := re.fullmatch(r"\$\{([\w.]+)\}", str(values.get(part))):
            return _set_key(config, source[1] + key[len(part) :])
    return key
