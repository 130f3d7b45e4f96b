"""What went wrong, as one sentence for a user."""

import difflib
import re
from collections.abc import Sequence

from hydra.errors import CompactHydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from keyframe.errors import KeyframeError

# Options that Hydra has with the extra `sweep` only.
_PLUGINS = {"hydra/launcher": ("joblib", "submitit_local", "submitit_slurm"), "hydra/sweeper": ("optuna",)}


def sentence_of(error: BaseException) -> str | None:
    """The sentence for a user, or None where the error is not theirs to mend."""
    match error:
        case KeyframeError():
            return str(error)
        case InstantiationException():
            return _not_built(error)
        case MissingConfigException() if error.missing_cfg_file and error.options:
            return _no_option(error.missing_cfg_file, error.options)
        case OverrideParseException():
            reason = str(error).splitlines()[1:2]
            return (
                f"{error.override} cannot be read ({''.join(reason)}): write key=value, "
                "and a value with special characters in two sorts of quotes, \"key='value'\"."
            )
        case MissingMandatoryValue():
            key = getattr(error, "full_key", None) or getattr(error, "key", None)
            return f"{key} is not set: add {key}=... to the command."
        case ConfigKeyError() | ConfigAttributeError():
            return _no_key(error)
        case CompactHydraException() if isinstance(error.__cause__, ConfigKeyError | ConfigAttributeError):
            return _no_key(error.__cause__)
        case ValueError() if str(error) == "No trials are completed yet.":  # Optuna's, at the end of a search
            return "no job of the search has completed: the lines above and sweep.csv in its directory tell why."
        case RuntimeError() if _lost_a_process(error):
            return (
                "another process of this training has ended, and its message, where it left one, tells why: "
                "go on with ckpt=last."
            )
        case Exception() if (
            type(error).__name__ == "MisconfigurationException"
        ):  # Lightning's, too heavy to import here
            return " ".join(str(error).split())
        case CompactHydraException() | OmegaConfBaseException():
            lines = [str(error), str(error.__cause__ or "")]
            return " ".join(text.splitlines()[0].strip() for text in lines if text.strip())
    return None


def _lost_a_process(error: RuntimeError) -> bool:
    """Whether gloo or NCCL complains that a rank does not answer; their classes are too heavy to import here."""
    text = str(error)
    return type(error).__name__ in ("DistBackendError", "DistNetworkError") or (
        "gloo" in text and ("onnection closed" in text or "onnection reset" in text or "imed out" in text)
    )


def _no_key(error: OmegaConfBaseException) -> str:
    """A key that the configuration does not have, and the one that may be meant."""
    key = str(error.full_key or error.key)
    siblings = list(error.parent_node) if isinstance(error.parent_node, DictConfig) else []
    close = difflib.get_close_matches(str(error.key), [str(name) for name in siblings], n=1)
    meant = ".".join([*key.split(".")[:-1], *close])
    remedy = f"did you mean {meant}?" if close else "see the keys with --cfg job."
    return f"there is no key {key}: {remedy}"


def _no_option(name: str, options: Sequence[str]) -> str:
    """An option that a configuration group does not have."""
    group, _, option = name.rpartition("/")
    if option in _PLUGINS.get(group, ()):
        return f"{group}={option} is a plugin that is not installed: pip install 'keyframe[sweep]'."
    more = " (any other timm model: backbone=timm backbone.name=NAME)" if group == "backbone" else ""
    return f"{group}={option} is not there: choose one of {', '.join(options)}{more}."


def _not_built(error: InstantiationException) -> str | None:
    """An object that cannot be made from its part of the configuration."""
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    cause = error.__cause__
    if cause is not None and (sentence := sentence_of(cause)):
        return sentence
    lines = str(error).splitlines()
    key = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("full_key:")), "")
    # `model` and `datamodule` refer to the groups that a user sets
    key = key.removeprefix("datamodule.").removeprefix("model.")
    if isinstance(cause, ValueError | TypeError | MisconfigurationException):
        message = " ".join(str(cause).split())
        # our own messages begin with the argument's name
        return (
            f"{key}.{message}"
            if key and re.match(r"\w+ must ", message)
            else f"{key or 'the configuration'}: {message}"
        )
    if lines[0].startswith("Error locating target"):
        return f"{key}._target_ names nothing that can be imported: {lines[0].split(', set env')[0]}."
    return None
