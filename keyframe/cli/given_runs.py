"""Which runs a command was given: loaded, named, and refused where they do not belong together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from keyframe.config import load_any_run
from keyframe.errors import KeyframeError
from keyframe.runs import BaseRun


def run_paths(entry: Any, key: str) -> list[Path]:
    """The runs that an entry of `runs=` means: a run directory, a checkpoint, an exported file, or a folder of runs.

    Raises:
        KeyframeError: there is none.
    """
    path = Path(str(entry)).expanduser()
    if path.is_file() or (path / "checkpoints").is_dir() or not path.is_dir():
        return [path]
    found = sorted((place.parents[1] for place in path.glob("*/checkpoints/best.ckpt")), key=_natural)
    if not found:
        raise KeyframeError(f"{key}={entry}: there is no checkpoint {path}/checkpoints/best.ckpt, nor runs below it.")
    return found


def load_runs(paths: Sequence[Path], config: DictConfig) -> list[BaseRun]:
    """Load runs and exported models onto the device that evaluation uses.

    Raises:
        KeyframeError: one is no run, or the device is not there.
    """
    runs = [load_any_run(path, config.data.root, config.data.labels) for path in paths]
    for run in runs:
        run.to(config.device)
    return runs


def load_groups(config: DictConfig) -> dict[str, list[BaseRun]]:
    """The models of a comparison by name, each with its runs.

    Raises:
        KeyframeError: no list of runs, runs of several models under one entry, or names that do not fit.
    """
    entries = as_list(config.runs)
    groups = []
    for entry in entries:
        parts = entry if isinstance(entry, list) else [entry]
        runs = load_runs([path for part in parts for path in run_paths(part, "runs")], config)
        check_one_model(runs)
        groups.append(runs)
    if config.names is not None:
        names = [str(name) for name in as_list(config.names)]
        if len(names) != len(groups) or len(set(names)) != len(names):
            raise KeyframeError(f"names={config.names} must give each of the {len(groups)} models a name of its own.")
    else:
        names = _names(entries, groups)
    return dict(zip(names, groups, strict=True))


def check_one_model(runs: Sequence[BaseRun]) -> None:
    """Refuse to join runs of different models into one table.

    Raises:
        KeyframeError: naming two of them and the first key that differs.
    """
    first = runs[0].recipe
    for run in runs[1:]:
        other = run.recipe
        differing = sorted(key for key in first.keys() | other.keys() if first.get(key) != other.get(key))
        if differing:
            key = differing[0]
            raise KeyframeError(
                f"{runs[0].directory} and {run.directory} are runs of different models ({key}: {first.get(key)} and "
                f"{other.get(key)}): compare them with keyframe-compare, or join their scores with ensemble=mean."
            )


def check_same_videos(groups: Mapping[str, Sequence[BaseRun]], split: str) -> None:
    """Refuse to compare models on different videos.

    Raises:
        KeyframeError: naming two models and a video that one of them lacks.
    """
    videos = {name: {id_ for run in group for id_ in run.videos(split)} for name, group in groups.items()}
    first, *others = videos
    for other in others:
        differing = sorted(videos[first] ^ videos[other])
        if differing:
            raise KeyframeError(
                f"{first} and {other} have different {split} videos ({len(differing)} differ, first {differing[0]}): "
                "compare runs with the same data, data.folds, data.fold and data.splits."
            )


def model_name(runs: Sequence[BaseRun], ensemble: str | None = None) -> str:
    """What a model is called where the user gives it no name: after its backbones, or the ensemble of them."""
    names = list(dict.fromkeys(run.name for run in runs))
    return f"{ensemble} of {' and '.join(names)}" if ensemble else names[0]


def as_list(value: Any) -> list[Any]:
    """A list of the configuration, or one entry, as a plain list."""
    if OmegaConf.is_list(value):
        return list(OmegaConf.to_container(value, resolve=True))  # type: ignore[arg-type]
    return [value]


def _names(entries: Sequence[Any], groups: Sequence[Sequence[BaseRun]]) -> list[str]:
    """Names for models: their backbones where these differ, else their directories' names, else letters."""
    backbones = [model_name(group) for group in groups]
    directories = [Path(str(entry[0] if isinstance(entry, list) else entry)).name for entry in entries]
    for names in (backbones, directories):
        if len(set(names)) == len(names):
            return names
    return [f"{chr(ord('A') + place)}: {name}" for place, name in enumerate(backbones)]


def _natural(path: Path) -> tuple[int, str]:
    """Jobs of a sweep are numbered: 2 comes before 10."""
    return (int(path.name), "") if path.name.isdigit() else (1 << 30, path.name)
