"""The record of a sweep, `sweep.yaml`: written before its first job, and replayed by `sweep.resume=DIR`.

Nothing in a folder proves who has made it, so a record is data: it chooses options of groups and sets values of keys.
An override that could do more (run code, read the environment, write elsewhere) needs `trust=true`.
"""

import os
import shlex
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.conf import HydraConf
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, OverrideType, QuotedString, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from keyframe.cli.arguments import unquoted
from keyframe.cli.terminal import from_here
from keyframe.config import training_settings
from keyframe.files import flat, one_line, write_text
from keyframe.trust import Trust, check_plain, current_name
from keyframe.types import KeyframeError

RECORD = "sweep.yaml"
_KEY, _TRUST = "sweep.resume=", "trust="
_OF_A_START = (_KEY, _TRUST)  # not in the record: whoever resumes says them
_LAUNCHER = ("hydra/launcher", "hydra.launcher")
_FREE = ("n_trials", "max_failure_rate")  # settings of a sweeper that leave existing jobs as they are
_MAX_BYTES = 300_000  # ours have 20,000
_PARTS = {"overrides": list, "hydra": list, "sweeper": dict, "config": dict}

# What an override may be without trust: an option of a group, or a plain value of a key of `training_settings`.
_PLAIN = (int, float, bool, str, type(None))
_HYDRA = {"hydra/launcher": {"basic", "joblib"}, "hydra/sweeper": {"basic", "optuna"}}
_NUMBERS = ("hydra.launcher.", "hydra.sweeper.", "callbacks.", "logger.")  # a text may name a file or a program
_FOLDERS = ("cache.dir",)  # files are written there
_CONFIRM = "add trust=true if the sweep is yours or you have checked it"


def overrides_of(hydra: HydraConf) -> tuple[str, ...]:
    """The overrides of a job, or of a sweep, as they were typed."""
    return tuple(override for override in _literal(hydra.overrides.task) if not override.startswith(_OF_A_START))


def resumed(arguments: Sequence[str]) -> list[str]:
    """Arguments with those of the sweep that `sweep.resume=DIR` names.

    Another launcher may be chosen. Raises KeyframeError if the sweep's own arguments are more than data.
    """
    place = next((argument.removeprefix(_KEY) for argument in arguments if argument.startswith(_KEY)), None)
    if place is None or place == "null":
        return list(arguments)
    given = [argument for argument in arguments if not argument.startswith((_KEY, "-m", "--multirun"))]
    place = unquoted(place)
    record = _read_record(Path(place)) or {"overrides": [], "hydra": []}
    repeated = any("=" in argument and not argument.startswith((_TRUST, "hydra", "-")) for argument in given)
    replayed = [] if repeated else record["overrides"]
    given_keys = {_key_of(argument) for argument in given}
    another = any(argument.startswith(_LAUNCHER) for argument in given)
    kept = [
        override
        for override in record["hydra"]
        if _key_of(override) not in given_keys and not (another and override.startswith(_LAUNCHER))
    ]
    trust = next((argument for argument in reversed(given) if argument.startswith(_TRUST)), f"{_TRUST}null")
    value: Any = OverridesParser.create().parse_overrides([trust])[0].value()
    if reason := _more_than_data([*kept, *replayed], Trust.of(value).programs):
        raise KeyframeError(f"{Path(place) / RECORD} was not followed: {reason}.")
    return ["-m", *kept, *given, *replayed, f"{_KEY}{place}", f"hydra.sweep.dir={place}"]


def save_record(config: DictConfig, directory: Path) -> None:
    """Write `sweep.yaml` into the sweep's directory."""
    write_text(directory / RECORD, _record_text(config))


def check_resumable(config: DictConfig, directory: Path) -> None:
    """Refuse to go on with a sweep that does not exist, with another one in its directory, or outside of it."""
    was = _read_record(directory)
    if not was:
        raise KeyframeError(f"{_KEY}{directory}: there is no sweep ({RECORD}); give the directory of a sweep (-m).")
    now = yaml.safe_load(_record_text(config))
    before, after = differing(was["overrides"], now["overrides"])
    if before or after:
        raise KeyframeError(
            f"{_KEY}{directory} is a sweep of other overrides (it had {before or 'no more'}, now {after or 'no more'}):"
            " leave the overrides out, they are read from its directory, or start a new sweep."
        )
    old, new = (dict(flat({key: part[key] for key in ("sweeper", "config")})) for part in (was, now))
    for key in sorted(old.keys() | new.keys()):
        value = old.get(key)
        if (current_name(value) if isinstance(value, str) else value) != new.get(key):
            raise KeyframeError(
                f"{_KEY}{directory}: the configuration has changed since ({key.partition('.')[2]} was "
                f"{old.get(key)!r}, is {new.get(key)!r}): undo that, or start a new sweep."
            )
    if is_adaptive(config.hydra.sweeper) and OmegaConf.select(config, "hydra.sweeper.sampler.seed") is None:
        raise KeyframeError(
            f"{_KEY}{directory}: without a seed Optuna would draw other jobs now: start sweeps that are to be resumed "
            "with hydra.sweeper.sampler.seed=0."
        )
    places = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    assert isinstance(places, dict)
    jobs = Path(str(places["subdir"]))
    if jobs.is_absolute() or ".." in jobs.parts:
        raise KeyframeError(f"{_KEY}{directory}: hydra.sweep.subdir={jobs} is outside the sweep's directory.")
    if not Trust.of(config.trust).programs and (found := next(_more_than_files(directory), None)) is not None:
        raise KeyframeError(f"{found} is a link, a special file or a folder of programs: remove it, or {_CONFIRM}.")


def how_to_go_on(config: DictConfig, directory: Path) -> str:
    """The command that resumes a sweep."""
    record = _record(config)
    reason = _more_than_data([*record["hydra"], *record["overrides"]], trusted=False)
    command = f"keyframe-{config.hydra.job.name} {_KEY}{shlex.quote(str(from_here(directory)))}"
    return f"{command} {_TRUST}true" if reason else command


def is_adaptive(sweeper: Any) -> bool:
    """Whether a sweeper chooses jobs by the results of earlier ones."""
    return not str(sweeper._target_).endswith(".BasicSweeper")


def differing(before: Sequence[str], after: Sequence[str]) -> tuple[str, str]:
    """What only one of two lists of overrides has; all of both if they differ in order alone."""
    if list(before) == list(after):
        return "", ""
    lost = [override for override in before if override not in after]
    new = [override for override in after if override not in before]
    return (" ".join(lost), " ".join(new)) if lost or new else (" ".join(before), " ".join(after))


def _record(config: DictConfig) -> dict[str, Any]:
    hydra = config.hydra
    sweeper = OmegaConf.to_container(hydra.sweeper, resolve=False)
    assert isinstance(sweeper, dict)
    job = OmegaConf.masked_copy(config, [str(key) for key in config if key not in ("hydra", "sweep", "trust")])
    own = ("hydra.mode=", "hydra.sweep.dir=")  # set by `resumed`
    return {
        "overrides": list(overrides_of(hydra)),
        "hydra": [override for override in _literal(hydra.overrides.hydra) if not override.startswith(own)],
        "sweeper": {key: value for key, value in sweeper.items() if key not in _FREE},
        "config": OmegaConf.to_container(job, resolve=False),
    }


def _record_text(config: DictConfig) -> str:
    return OmegaConf.to_yaml(OmegaConf.create(_record(config)))


def _literal(overrides: Any) -> list[str]:
    return [str(override) for override in OmegaConf.to_container(overrides, resolve=False)]  # type: ignore[union-attr]


def _key_of(argument: str) -> str:
    return argument.partition("=")[0]


def _read_record(directory: Path) -> dict[str, Any]:
    """The record in a directory, of plain values; empty if there is none."""
    path = directory.expanduser() / RECORD
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"more than {_MAX_BYTES:,} bytes")
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
        check_plain(record, path, references=True)
        if not all(isinstance(record[part], kind) for part, kind in _PARTS.items()):
            raise TypeError("parts of other types")
        if not all(isinstance(override, str) for override in (*record["overrides"], *record["hydra"])):
            raise TypeError("overrides that are not text")
    except (OSError, ValueError, TypeError, LookupError, RecursionError, yaml.YAMLError) as error:
        reason = one_line(str(getattr(error, "problem", None) or error))[:100]
        raise KeyframeError(f"{path} is not a sweep's record, or is damaged ({reason}): start a new sweep.") from error
    assert isinstance(record, dict)
    return record


def _more_than_data(overrides: Sequence[str], trusted: bool) -> str | None:
    """Why a record's overrides cannot be replayed; None if they can."""
    parser, settings = OverridesParser.create(), {} if trusted else training_settings() | _HYDRA
    for text in overrides:
        if text.startswith("-") or _key_of(text) in (_TRUST[:-1], _KEY[:-1]):
            return f"{text[:100]!r} is not an override of a sweep"
        if not trusted and not _is_data(text, parser, settings):
            return f"its override {text[:100]!r} is more than an option or a value; {_CONFIRM}"
    return None


def _is_data(text: str, parser: OverridesParser, settings: Mapping[str, Collection[str]]) -> bool:
    try:
        override = parser.parse_override(text)
    except HydraException:
        return False
    key, values = override.key_or_group, list(_leaves(override._value))
    if override.type != OverrideType.CHANGE:
        return False
    if key in settings:
        return all(isinstance(value, str) and value in settings[key] for value in values)
    if key.startswith(_NUMBERS):
        return all(isinstance(value, int | float) for value in values)
    plain = all(isinstance(value, _PLAIN) and "${" not in str(value) for value in values)
    return plain and key in settings[""] and key not in _FOLDERS


def _leaves(value: Any) -> Iterator[Any]:
    """The plain values of an override, or of each choice of a sweep; whatever is not plain as it is."""
    if isinstance(value, ChoiceSweep):
        value = value.list
    if isinstance(value, list):
        for child in value:
            yield from _leaves(child)
    elif isinstance(value, RangeSweep | IntervalSweep):
        yield 0.0
    else:
        yield value.text if isinstance(value, QuotedString) else value


def _more_than_files(directory: Path) -> Iterator[Path]:
    """What a job could write through, or load as a program: links, pipes, and the pickles of submitit."""
    for folder, folders, files in os.walk(directory):
        for name in (*folders, *files):
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)) or name == ".submitit":
                yield path
        folders[:] = [name for name in folders if name != "wandb"]  # it keeps links of its own
