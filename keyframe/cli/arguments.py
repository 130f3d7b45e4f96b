"""Text as Hydra's grammar quotes it.

How a job ended, in a file of its run directory; and which process may write there.

A sweep that goes on where it was stopped: its record, and what its directory says of each job.

A sweep writes `sweep.yaml` before its first job: the overrides it was started with, and its search space. Started again
with `sweep.resume=DIR` it numbers its jobs as before, so each meets its own directory: a finished job is left as it is,
an interrupted one trains on from its last checkpoint, the others start.

Command-line arguments made ready for Hydra's grammar.
"""

import json
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from omegaconf import DictConfig, OmegaConf

from keyframe.config import conf_dir
from keyframe.files import flat, write_text
from keyframe.types import KeyframeError

# Text that Hydra reads as it stands; what begins otherwise may be a number to it.
_PLAIN = re.compile(r"[A-Za-z_/.][\w./\-]*", re.ASCII)
_WORDS = ("true", "false", "nan", "inf")


def quote(value: str) -> str:
    """A value that Hydra reads as exactly this text; what is quoted or an interpolation already stays, and null."""
    plain = _PLAIN.fullmatch(value) and not re.fullmatch(r"\.[\d_]+", value) and value.lower() not in _WORDS
    if _is_quoted(value) or plain or value.startswith("${") or value == "null":
        return value
    return f"'{escaped(value)}'"


def escaped(value: str) -> str:
    """The text between Hydra's quotes: there backslashes count only before a quote, or at the end."""
    return re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)


def unquoted(value: str) -> str:
    """The text that somebody has put into quotes; what has none is taken to the letter."""
    return value[1:-1] if _is_quoted(value) else value


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""


@dataclass(frozen=True)
class Status:
    """`running`, `completed`, `failed` or `interrupted`, and why; and which job it was, by its overrides."""

    state: str
    error: str = ""
    overrides: tuple[str, ...] = ()


def is_first_process() -> bool:
    """Whether this is the process a user started, or rank 0, rather than a further DDP rank."""
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID", "NODE_RANK"))


def write_status(directory: Path, status: Status) -> None:
    """Write `status.json`, from the first process only."""
    if is_first_process():
        write_text(directory / "status.json", json.dumps(asdict(status)) + "\n")


def read_status(directory: Path) -> Status | None:
    """What `write_status` has written into a directory, if it has."""
    path = directory / "status.json"
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    return Status(**{**content, "overrides": tuple(content.get("overrides", ()))})


# What a sweeper is told of each job, and jobs are ranked by.
OBJECTIVE = "val/spearman"

RECORD = "sweep.yaml"
_KEY = "sweep.resume="
# Set by the command line itself: not a part of what was asked for.
_OWN = ("hydra.mode=", "hydra.sweep.dir=", "hydra.callbacks.guard.resume=")
_LAUNCHER = ("hydra/launcher", "hydra.launcher")
# Of a sweeper's settings, what may change without changing the jobs that are there.
_FREE = ("n_trials", "max_failure_rate")


def resumed(arguments: Sequence[str]) -> list[str]:
    """Arguments with `sweep.resume=DIR` turned into what Hydra knows.

    Overrides need not be repeated: without any, those of the sweep's record are taken. Another launcher may be chosen.
    """
    place = next((argument.removeprefix(_KEY) for argument in arguments if argument.startswith(_KEY)), None)
    if place is None:
        return list(arguments)
    given = [argument for argument in arguments if not argument.startswith((_KEY, "-m", "--multirun"))]
    place = unquoted(place)
    record = _read(Path(place))
    if not any("=" in argument and not argument.startswith(("hydra", "-")) for argument in given):
        given += record.get("overrides", [])
    kept = list(record.get("hydra", []))
    if any(argument.startswith(_LAUNCHER) for argument in given):
        kept = [argument for argument in kept if not argument.startswith(_LAUNCHER)]
    given_keys = {argument.partition("=")[0] for argument in given}
    kept = [argument for argument in kept if argument.partition("=")[0] not in given_keys]
    return ["-m", *kept, *given, f"hydra.sweep.dir={quote(place)}", "hydra.callbacks.guard.resume=true"]


def save_record(config: DictConfig, directory: Path) -> None:
    """Write `sweep.yaml` into the sweep's directory."""
    write_text(directory / RECORD, OmegaConf.to_yaml(OmegaConf.create(_record(config))))


def check_resumable(config: DictConfig, directory: Path) -> None:
    """Refuse to go on with a sweep that is not there, or with another one in its directory.

    Raises:
        KeyframeError: naming what differs.
    """
    was = _read(directory)
    if not was:
        raise KeyframeError(f"{_KEY}{directory}: there is no sweep ({RECORD}); give the directory of a sweep (-m).")
    now = OmegaConf.to_container(OmegaConf.create(OmegaConf.to_yaml(OmegaConf.create(_record(config)))))
    assert isinstance(now, dict)
    before, after = _differing(was["overrides"], now["overrides"])
    if before or after:
        raise KeyframeError(
            f"{_KEY}{directory} is a sweep of other overrides (it had {before or 'no more'}, now {after or 'no more'}):"
            " leave the overrides out, they are read from its directory, or start a new sweep."
        )
    old, new = (dict(flat({key: part[key] for key in ("sweeper", "config")})) for part in (was, now))
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            raise KeyframeError(
                f"{_KEY}{directory}: the configuration has changed since ({key.partition('.')[2]} was {old.get(key)}, "
                f"is {new.get(key)}): undo that, or start a new sweep."
            )
    if _is_adaptive(config.hydra.sweeper) and OmegaConf.select(config, "hydra.sweeper.sampler.seed") is None:
        raise KeyframeError(
            f"{_KEY}{directory}: without a seed Optuna would draw other jobs now: start sweeps that are to be resumed "
            "with hydra.sweeper.sampler.seed=0."
        )


def is_over(directory: Path, hydra: HydraConf) -> bool:
    """Whether a job of a sweep needs no run, because an earlier start of the sweep has finished it.

    A job that failed is run again. Not so where a sweeper chooses jobs by what the earlier ones gave: it must be told
    the same once more to choose the same.

    Raises:
        KeyframeError: the directory is another job's.
    """
    status = read_status(directory)
    if status is None:
        return False
    now = overrides_of(hydra)
    if status.overrides != now:
        before, after = _differing(status.overrides, now)
        raise KeyframeError(f"{directory} is of another job (it had {before}, now {after}): start a new sweep.")
    return status.state == "completed" or (status.state == "failed" and _is_adaptive(hydra.sweeper))


def overrides_of(hydra: Any) -> tuple[str, ...]:
    """The overrides of a job, or of a sweep, as they were typed."""
    return tuple(_literal(hydra.overrides.task))


def objective_of(directory: Path) -> float | None:
    """A finished job's `val/spearman`; None if it has none."""
    path = directory / "metrics.json"
    metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return metrics.get(OBJECTIVE)


def how_to_go_on(name: str, directory: Path) -> str:
    """The command that resumes a sweep."""
    from keyframe.cli.terminal import from_here

    return f"keyframe-{name} {_KEY}{shlex.quote(str(from_here(directory)))}"


def _record(config: DictConfig) -> dict[str, Any]:
    hydra = config.hydra
    sweeper = OmegaConf.to_container(hydra.sweeper, resolve=False)
    assert isinstance(sweeper, dict)
    job = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    return {
        "overrides": list(overrides_of(hydra)),
        "hydra": [override for override in _literal(hydra.overrides.hydra) if not override.startswith(_OWN)],
        "sweeper": {key: value for key, value in sweeper.items() if key not in _FREE},
        "config": OmegaConf.to_container(job, resolve=False),
    }


def _literal(overrides: Any) -> list[str]:
    """A list of Hydra's with `${` as it stands in it."""
    return [str(override) for override in OmegaConf.to_container(overrides, resolve=False)]  # type: ignore[union-attr]


def _read(directory: Path) -> dict[str, Any]:
    path = directory.expanduser() / RECORD
    record = OmegaConf.to_container(OmegaConf.load(path)) if path.is_file() else {}
    return {str(key): value for key, value in record.items()} if isinstance(record, dict) else {}


def _is_adaptive(sweeper: Any) -> bool:
    return not str(sweeper._target_).endswith(".BasicSweeper")


def _differing(before: Sequence[str], after: Sequence[str]) -> tuple[str, str]:
    """What only one of two lists of overrides has; all of both where they differ in order alone."""
    if list(before) == list(after):
        return "", ""
    lost = [override for override in before if override not in after]
    new = [override for override in after if override not in before]
    return (" ".join(lost), " ".join(new)) if lost or new else (" ".join(before), " ".join(after))


# Keys whose value is a path: quoted, because spaces, parentheses and '=' in a file name break Hydra's grammar.
_PATHS = (
    *("data.root", "data.path", "data.labels", "data.splits", "ckpt", "backbone.weights", "cache.dir"),
    *("labels", "run", "teacher", "output", "out", "hydra.run.dir"),
)
# Keys whose value is a path or a list of paths.
_LISTS = ("runs",)
# Hydra's options that take the next argument as their value.
_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd")
# Where hydra.run.dir puts runs unless asked otherwise.
RUNS = Path("outputs/train")


def prepare(arguments: list[str]) -> list[str]:
    """Quote paths, let `backbone=` take any timm name, let `ckpt=last` and `sweep.resume=` go on where they must."""
    sweep = any(argument in ("-m", "--multirun") for argument in arguments)
    prepared: list[str] = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        # In a sweep a comma parts values, unless it is in the name of something that is there.
        one = not sweep or key == "hydra.sweep.dir" or os.path.lexists(value)
        if equals and one and (key in _PATHS or key == "hydra.sweep.dir"):
            prepared.append(f"{key}={quote(value)}")
        elif equals and key in _LISTS and not sweep:
            prepared.append(f"{key}={_quote_list(value)}")
        elif equals and key == "backbone" and not sweep:
            prepared += _backbone(value)
        else:
            prepared.append(argument)
    if "ckpt=last" in arguments and not any(argument.startswith("hydra.run.dir=") for argument in arguments):
        newest = max(RUNS.glob("*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime, default=None)
        if newest is not None:
            prepared.append(f"hydra.run.dir={quote(str(newest.parents[1]))}")
    return resumed(prepared)


def with_inputs(arguments: list[str]) -> list[str]:
    """Turn arguments that are no options and no `key=value` into one `input=[...]`, together with those of `input=`.

    So a shell's `*.mp4` works. A name with `=` or a leading dash in it is an input if it exists; after `--` all are.
    """
    inputs: list[str] = []
    others: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            inputs += map(_arguments_literal, rest)
        elif argument in _WITH_VALUE:
            others += [argument, *[value for _, value in zip("1", rest, strict=False)]]
        elif argument.startswith("input=") and not os.path.lexists(argument):
            inputs.append(_input(argument.removeprefix("input=")))
        elif os.path.lexists(argument) or not ("=" in argument or argument.startswith(("-", "+", "~"))):
            inputs.append(_arguments_literal(argument))
        else:
            others.append(argument)
    return [*others, f"input=[{','.join(inputs)}]"] if inputs else others


def _input(value: str) -> str:
    """What `input=` was given, as entries of a list."""
    if os.path.lexists(value):
        return _arguments_literal(value)
    quoted = _quote_list(value)
    return quoted[1:-1] if quoted.startswith("[") else quoted


def _arguments_literal(name: str) -> str:
    """A name that is taken to the letter by Hydra and by OmegaConf: neither quotes nor `${` mean anything in it."""
    name = re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + "\\${", name)
    return f"'{escaped(name)}'"


def _quote_list(value: str) -> str:
    """A path, or each of `[A,B,[C,D]]`; what has quotes already stays."""
    if not (value.startswith("[") and value.endswith("]")):
        return quote(value)
    if any(mark in value for mark in "'\""):
        return value
    return re.sub(r"[^\[\],]+", lambda item: quote(item[0].strip()), value)


def _backbone(value: str) -> list[str]:
    """`backbone=NAME` as it is where conf/ knows it, else timm's model of that name."""
    if (conf_dir() / "backbone" / f"{value}.yaml").is_file() or not re.fullmatch(r"[\w.\-]+", value):
        return [f"backbone={value}"]
    return ["backbone=timm", f"backbone.name={value}"]
