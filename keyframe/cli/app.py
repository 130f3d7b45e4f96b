"""Values of the configuration that are checked before anything is built or written.

What went wrong, as one sentence for a user.

What all commands have in common: Hydra around a task, and errors as one sentence.
"""

import difflib
import logging
import math
import os
import pkgutil
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, InstantiationException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from keyframe.cli.arguments import Status, is_first_process, is_over, objective_of, overrides_of, write_status
from keyframe.cli.sweep import refresh
from keyframe.cli.terminal import listen
from keyframe.config import conf_dir
from keyframe.system import lock_folder
from keyframe.types import KeyframeError


@dataclass(frozen=True)
class Number:
    """Which numbers a key takes: whole or any, from `lowest` on; `above` leaves `lowest` itself out."""

    lowest: float
    whole: bool = True
    above: bool = False
    optional: bool = False

    def takes(self, value: Any) -> bool:
        """Whether the key takes this value."""
        if value is None:
            return self.optional
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        return math.isfinite(value) and (value > self.lowest if self.above else value >= self.lowest)

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        limit = f"above {self.lowest:g}" if self.above else f"from {self.lowest:g} on"
        return f"{kind} {limit}{', or null' if self.optional else ''}"


# Keys whose owner is not ours, or finds out late; the others check themselves.
NUMBERS = {
    "seed": Number(0),
    "data.size": Number(1),
    "data.batch_size": Number(1),
    "data.folds": Number(2),
    "data.fold": Number(0),
    "data.val_fraction": Number(0, whole=False, above=True),
    "data.workers": Number(0),
    "cache.max_gb": Number(0, whole=False, above=True),
    "cache.views": Number(1),
    "optimizer.lr": Number(0, whole=False, above=True),
    "optimizer.weight_decay": Number(0, whole=False),
    "trainer.max_epochs": Number(1),
    "trainer.accumulate_grad_batches": Number(1),
    "trainer.gradient_clip_val": Number(0, whole=False, optional=True),
    "pictures": Number(0),
    "speed.videos": Number(1),
    "speed.repeats": Number(1),
    "memory.videos": Number(1),
    "rate": Number(0, whole=False, above=True),
    "quality": Number(1),
    "workers": Number(1, optional=True),
    "threads": Number(1, optional=True),
    "repeats": Number(1),
    "check.videos": Number(1),
    "calibration.videos": Number(1),
}


def check_values(config: DictConfig) -> None:
    """Check that every mandatory key is set and that numbers are numbers in their range.

    Raises:
        KeyframeError: naming the first key that is not.
    """
    for key in _missing(OmegaConf.to_container(config)):
        raise KeyframeError(f"{key} is not set: add {key}=... to the command.")
    for key, number in NUMBERS.items():
        value = OmegaConf.select(config, key, default="absent")
        parts = value if OmegaConf.is_list(value) else [value]
        if value != "absent" and not all(number.takes(part) for part in parts):
            raise KeyframeError(f"{key}={value} must be {number}.")


def _missing(values: Any, key: str = "") -> Iterator[str]:
    """The keys that hold `???`; interpolations are left as they are, so each is named where a user sets it."""
    if isinstance(values, dict):
        for name, value in values.items():
            yield from _missing(value, f"{key}.{name}" if key else str(name))
    elif values == "???":
        yield key


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


log = logging.getLogger(__name__)


def command(name: str, task: str) -> None:
    """Run a task as the Hydra app `keyframe-<name>`, configured by `conf/<name>.yaml`.

    The task, `module:function`, is imported once the configuration is composed. What a user can mend ends in one
    sentence on stderr and exit status 1. In a sweep the job's failure is written into its directory and the sweep goes
    on; a sweeper gets each job's `val/spearman`.
    """
    full_error = os.environ.get("HYDRA_FULL_ERROR", "0")

    def guarded(config: DictConfig) -> float | None:
        settings = HydraConfig.get()
        directory = Path(settings.runtime.output_dir)
        sweep = settings.mode == RunMode.MULTIRUN
        status = partial(Status, overrides=overrides_of(settings))
        try:
            if sweep and is_over(directory, settings):
                print(f"Job {settings.job.num} is done already")  # into no log: its directory stays as it is
                return objective_of(directory)
            # a run's own is claimed before anything is written; a job may outlive the process that has begun the sweep
            lock = lock_folder(directory) if sweep and is_first_process() else nullcontext()
        except KeyframeError as error:
            log.error("Job %s was not run: %s", settings.job.num, error)
            return None
        with lock:
            os.environ["HYDRA_FULL_ERROR"] = full_error
            write_status(directory, status("running"))
            try:
                check_values(config)
                pkgutil.resolve_name(task)(config)
            except (KeyboardInterrupt, SystemExit):  # Lightning turns Ctrl-C into the latter
                write_status(directory, status("interrupted"))
                if sweep:
                    refresh(Path(settings.sweep.dir))
                print(f"keyframe-{name}: interrupted; what was done is in {directory}", file=sys.stderr)
                sys.exit(130)
            except Exception as error:
                sentence = sentence_of(error)
                write_status(directory, status("failed", sentence or f"{type(error).__name__}: {error}"))
                if sweep:
                    log.error("Job %s failed: %s", settings.job.num, sentence or error, exc_info=sentence is None)
                    return None
                if sentence is None or full_error == "1":
                    raise
                fail(name, sentence)
            finally:
                if sweep:  # what the sweeper raises is ours to tell again
                    os.environ["HYDRA_FULL_ERROR"] = "1"
            write_status(directory, status("completed"))
        return objective_of(directory)

    guarded.__module__ = task.partition(":")[0]  # Hydra names the job after it
    # Hydra copies its store of built-in configs, which it only reads, for every group that --help lists: a second.
    ConfigStore.__deepcopy__ = lambda store, memo: store  # type: ignore[attr-defined]
    # Asked for full errors, Hydra raises its own instead of printing them over several lines.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    listen()
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(guarded)()
    except KeyboardInterrupt:  # while jobs ran in other processes, or before there was one
        print(f"keyframe-{name}: interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None or full_error == "1":
            raise
        fail(name, sentence)


def fail(name: str, sentence: str) -> NoReturn:
    """End the command `keyframe-<name>` with a sentence on stderr and exit status 1."""
    print(f"keyframe-{name}: {sentence}", file=sys.stderr)
    sys.exit(1)
