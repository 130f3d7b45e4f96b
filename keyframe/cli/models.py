"""The models that evaluate and compare are given, and the videos that these are measured on."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from keyframe.data.folder import DirectorySource, few
from keyframe.evaluation.report import PARTS_BY_RISK
from keyframe.files import natural_key
from keyframe.runs import Run, RunVideo, load_run
from keyframe.types import KeyframeError

SPLITS = ("train", "val", "test", "new", "all")

log = logging.getLogger(__name__)


def load_runs(value: Any, key: str, config: DictConfig) -> list[Run]:
    """Load runs and exported models onto `device`.

    The value of `key` is one or more run directories, checkpoints, exported files, or folders of runs.
    """
    paths = [path for entry in _as_list(value) for path in _run_paths(entry, key)]
    runs = [load_run(path, trust=config.trust, **config.data) for path in paths]
    for run in runs:
        run.to(config.device)
    return runs


def load_models(config: DictConfig) -> dict[str, list[Run]]:
    """The models of a comparison by name, each with its runs."""
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
    return dict(zip(names, models, strict=True))


def check_one_model(runs: Sequence[Run]) -> None:
    """Refuse to join runs of different models into one table."""
    first = runs[0].recipe
    for run in runs[1:]:
        other = run.recipe
        for key in sorted(first | other):
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


@dataclass
class ChosenVideos:
    """The videos that runs are measured on.

    Attributes:
        split: one of `SPLITS`, for the names of numbers.
        by_run: for each run, id -> video.
        parts: id -> its `Run.part_of`, of several runs the first in `PARTS_BY_RISK`.
        notes: what a reader should know of the choice, sentences.
        numbers: of the choice, by the names in metrics.json.
    """

    split: str = "test"
    by_run: list[dict[str, RunVideo]] = field(default_factory=list)
    parts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    numbers: dict[str, float] = field(default_factory=dict)


def choose_videos(models: Sequence[Sequence[Run]], config: DictConfig) -> ChosenVideos:
    """The videos of `split=` that all models have.

    Without `split=` they are a run's test videos, or all videos if they are another data set than the run's.
    """
    runs = [run for model in models for run in model]
    asked = [config.split or run.held_out for run in runs]
    chosen = ChosenVideos(split=asked[0] if len(set(asked)) == 1 else "test")
    found = {id(run): run.videos(split) for run, split in zip(runs, asked, strict=True)}
    by_model = [{id_ for run in model for id_ in found[id(run)]} for model in models]
    if not any(by_model):
        there = Counter(map(runs[0].part_of, runs[0].videos("all")))
        raise KeyframeError(
            f"{runs[0].directory} has no {chosen.split} video among those that are there "
            f"({', '.join(f'{count} {part}' for part, count in there.items())}): choose another split=, or data.root=."
        )
    common = set.intersection(*by_model)
    if not common:
        raise KeyframeError(
            f"the models have different {chosen.split} videos, and none in common: compare runs with the same data, "
            "data.folds, data.fold and data.splits."
        )
    for run in runs:
        name = run.path if run.model.format else run.directory  # exported files may share a folder
        chosen.notes += run.datamodule.split_notes(str(name))
    if alone := sorted(set.union(*by_model) - common):
        chosen.notes.append(
            f"The models have different {chosen.split} videos: they are compared on the {len(common)} that all have, "
            f"without {few(alone, 10)}."
        )
    for note in chosen.notes:
        log.warning("%s", note)
    for run in runs:
        chosen.by_run.append({id_: video for id_, video in found[id(run)].items() if id_ in common})
        for id_ in chosen.by_run[-1]:
            chosen.parts[id_] = min(run.part_of(id_), chosen.parts.get(id_, PARTS_BY_RISK[-1]), key=PARTS_BY_RISK.index)
    source = getattr(runs[0].datamodule, "source", None)
    if isinstance(source, DirectorySource):
        labels = source.label_file()
        chosen.notes.append(f"Labels: {labels}")
        if labels.suffix.lower() == ".tsv":
            chosen.numbers = {"data/lowest": float(source.lowest), "data/highest": float(source.highest)}
            chosen.notes[-1] += f", whose scores go from {source.lowest:g} to {source.highest:g}"
        chosen.notes[-1] += "."
    return chosen
