"""The runs that a command is given: loaded, named, and refused if they do not belong together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from keyframe.files import natural_key
from keyframe.runs import Run, load_run
from keyframe.types import KeyframeError


def load_runs(value: Any, key: str, config: DictConfig) -> list[Run]:
    """Load runs and exported models onto the device that evaluation uses.

    Args:
        value: an entry or a list of entries: run directories, checkpoints, exported files, or folders of runs.
        key: that names it, for messages.
        config: with `data.root`, `data.labels` and `device`.

    Raises:
        KeyframeError: one is no run, or the device does not exist.
    """
    paths = [path for entry in _as_list(value) for path in _run_paths(entry, key)]
    runs = [load_run(path, config.data.root, config.data.labels) for path in paths]
    for run in runs:
        run.to(config.device)
    return runs


def load_models(config: DictConfig) -> dict[str, list[Run]]:
    """The models of a comparison by name, each with its runs.

    Raises:
        KeyframeError: fewer than two models, runs of several models under one entry, names that do not fit, or models
            with different videos.
    """
    entries = _as_list(config.runs)
    models = []
    for entry in entries:
        models.append(load_runs(entry, "runs", config))
        check_one_model(models[-1])
    if config.names is None:
        names = _names(entries, models)
    else:
        names = [str(name) for name in _as_list(config.names)]
        if len(names) != len(models) or len(set(names)) != len(names):
            raise KeyframeError(f"names={config.names} must give each of the {len(models)} models a name of its own.")
    if len(models) < 2:
        raise KeyframeError("runs= names one model, and a comparison needs two: for one model use keyframe-evaluate.")
    by_name = dict(zip(names, models, strict=True))
    _check_same_videos(by_name, config.split)
    return by_name


def check_one_model(runs: Sequence[Run]) -> None:
    """Refuse to join runs of different models into one table.

    Raises:
        KeyframeError: naming two of them and the first key that differs.
    """
    first = runs[0].recipe
    for run in runs[1:]:
        other = run.recipe
        for key in sorted(first.keys() | other.keys()):
            if first.get(key) != other.get(key):
                raise KeyframeError(
                    f"{runs[0].directory} and {run.directory} are runs of different models ({key}: {first.get(key)} "
                    f"and {other.get(key)}): compare them with keyframe-compare, or join their scores with "
                    "ensemble=mean."
                )


def model_name(runs: Sequence[Run], ensemble: str | None = None) -> str:
    """The default name of a model: its backbone, or the ensemble of its backbones."""
    names = list(dict.fromkeys(run.name for run in runs))
    return f"{ensemble} of {' and '.join(names)}" if ensemble else names[0]


def _run_paths(entry: Any, key: str) -> list[Path]:
    """The runs that an entry means; a folder of runs means all runs in it."""
    path = Path(str(entry)).expanduser()
    if path.is_file() or (path / "checkpoints").is_dir() or not path.is_dir():
        return [path]
    runs = (place.parents[1] for place in path.glob("*/checkpoints/best.ckpt"))
    found = sorted(runs, key=lambda run: natural_key(run.name))
    if not found:
        raise KeyframeError(f"{key}={entry}: there is no checkpoint {path}/checkpoints/best.ckpt, nor runs below it.")
    return found


def _check_same_videos(models: Mapping[str, Sequence[Run]], split: str) -> None:
    videos = {name: {id_ for run in runs for id_ in run.videos(split)} for name, runs in models.items()}
    first, *others = videos
    for other in others:
        differing = sorted(videos[first] ^ videos[other])
        if differing:
            raise KeyframeError(
                f"{first} and {other} have different {split} videos ({len(differing)} differ, first {differing[0]}): "
                "compare runs with the same data, data.folds, data.fold and data.splits."
            )


def _names(entries: Sequence[Any], models: Sequence[Sequence[Run]]) -> list[str]:
    """Names for models: their backbones if these differ, else their directories' names, else letters."""
    backbones = [model_name(runs) for runs in models]
    directories = [Path(str(_as_list(entry)[0])).name for entry in entries]
    for names in (backbones, directories):
        if len(set(names)) == len(names):
            return names
    return [f"{chr(ord('A') + place)}: {name}" for place, name in enumerate(backbones)]


def _as_list(value: Any) -> list[Any]:
    """A list of the configuration, or one entry, as a plain list."""
    plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_list(value) else value
    return plain if isinstance(plain, list) else [plain]
