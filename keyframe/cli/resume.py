"""A sweep that goes on where it was stopped: its record, and what its directory says of each job.

A sweep writes `sweep.yaml` before its first job: the overrides it was started with, and its search space. Started again
with `sweep.resume=DIR` it numbers its jobs as before, so each meets its own directory: a finished job is left as it is,
an interrupted one trains on from its last checkpoint, the others start.
"""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from omegaconf import DictConfig, OmegaConf

from keyframe.cli.quoting import quote, unquoted
from keyframe.cli.status import read_status
from keyframe.errors import KeyframeError
from keyframe.files import write_text
from keyframe.nested import flat

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
    from keyframe.cli.results import from_here

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
