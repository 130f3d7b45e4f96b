"""Which runs a command was given: loaded, named, and refused where they do not belong together.

What evaluation and comparison do alike: look at the runs' videos, score them, measure what stands beside them.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from omegaconf import DictConfig, OmegaConf

from keyframe.cli.terminal import bar
from keyframe.data.feature_file import FeatureVideo
from keyframe.evaluation.reference import draws_of, f1_metrics, reference_f1, reference_lines, reference_metrics
from keyframe.evaluation.results import ENSEMBLES, measure, over_videos
from keyframe.evaluation.video import EvalVideo, Shots
from keyframe.files import natural_key
from keyframe.runs import Run, RunVideo, load_run
from keyframe.system import cores
from keyframe.types import FloatArray, KeyframeError, VideoError


def run_paths(entry: Any, key: str) -> list[Path]:
    """The runs that an entry of `runs=` means: a run directory, a checkpoint, an exported file, or a folder of runs.

    Raises:
        KeyframeError: there is none.
    """
    path = Path(str(entry)).expanduser()
    if path.is_file() or (path / "checkpoints").is_dir() or not path.is_dir():
        return [path]
    runs = (place.parents[1] for place in path.glob("*/checkpoints/best.ckpt"))
    found = sorted(runs, key=lambda run: natural_key(run.name))
    if not found:
        raise KeyframeError(f"{key}={entry}: there is no checkpoint {path}/checkpoints/best.ckpt, nor runs below it.")
    return found


def load_runs(paths: Sequence[Path], config: DictConfig) -> list[Run]:
    """Load runs and exported models onto the device that evaluation uses.

    Raises:
        KeyframeError: one is no run, or the device is not there.
    """
    runs = [load_run(path, config.data.root, config.data.labels) for path in paths]
    for run in runs:
        run.to(config.device)
    return runs


def load_groups(config: DictConfig) -> dict[str, list[Run]]:
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


def check_one_model(runs: Sequence[Run]) -> None:
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


def check_same_videos(groups: Mapping[str, Sequence[Run]], split: str) -> None:
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


def model_name(runs: Sequence[Run], ensemble: str | None = None) -> str:
    """What a model is called where the user gives it no name: after its backbones, or the ensemble of them."""
    names = list(dict.fromkeys(run.name for run in runs))
    return f"{ensemble} of {' and '.join(names)}" if ensemble else names[0]


def as_list(value: Any) -> list[Any]:
    """A list of the configuration, or one entry, as a plain list."""
    if OmegaConf.is_list(value):
        return list(OmegaConf.to_container(value, resolve=True))  # type: ignore[arg-type]
    return [value]


def _names(entries: Sequence[Any], groups: Sequence[Sequence[Run]]) -> list[str]:
    """Names for models: their backbones where these differ, else their directories' names, else letters."""
    backbones = [model_name(group) for group in groups]
    directories = [Path(str(entry[0] if isinstance(entry, list) else entry)).name for entry in entries]
    for names in (backbones, directories):
        if len(set(names)) == len(names):
            return names
    return [f"{chr(ord('A') + place)}: {name}" for place, name in enumerate(backbones)]


log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
PROTOCOLS = ("picks", "sampled")


@dataclass
class Scored:
    """Subjects of all runs' videos, and each run's scores.

    Attributes:
        subjects: video -> what scores are compared with.
        scores: for each run, video -> scores at the subject's entries.
        skipped: video -> why it was left out.
        videos: video -> the video itself.
    """

    subjects: dict[str, EvalVideo] = field(default_factory=dict)
    scores: list[dict[str, FloatArray]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    videos: dict[str, RunVideo] = field(default_factory=dict)


def check_choices(config: DictConfig) -> None:
    """Refuse values that are none of the known ones.

    Raises:
        KeyframeError: naming the key.
    """
    for key, known in (("split", SPLITS), ("protocol", PROTOCOLS), ("ensemble", (None, *ENSEMBLES))):
        if config[key] not in known:
            raise KeyframeError(f"{key}={config[key]} is none of {', '.join(filter(None, known))}.")


def score_runs(runs: Sequence[Run], config: DictConfig, shots: Shots) -> Scored:
    """Score the videos of a split by the runs that have it; a video that cannot be read is left out and named.

    Raises:
        KeyframeError: two runs have different labels for a video, or no video can be read.
    """
    scored = Scored()
    for run in runs:
        for id_, video in run.videos(config.split).items():
            _same_labels(scored.videos.setdefault(id_, video), video, runs[0], run)

    def attempt(id_: str) -> EvalVideo | VideoError:
        try:
            return scored.videos[id_].subject(shots)
        except VideoError as error:
            return error

    with ThreadPoolExecutor(cores()) as pool:
        outcomes = pool.map(attempt, scored.videos)
        for id_, outcome in zip(scored.videos, bar(outcomes, "Looking at videos", len(scored.videos)), strict=True):
            if isinstance(outcome, VideoError):
                scored.skipped[id_] = str(outcome)
            else:
                scored.subjects[id_] = outcome
    if not scored.subjects:
        raise KeyframeError(f"No video of the {config.split} split can be read: {'; '.join(scored.skipped.values())}")
    if config.protocol == "sampled":
        _check_sampling(runs)
        for id_, subject in scored.subjects.items():
            scored.subjects[id_] = scored.videos[id_].sampled(subject)
    _score(runs, config.split, scored)
    return scored


def _score(runs: Sequence[Run], split: str, scored: Scored) -> None:
    """Add each run's scores; a video that one run cannot read is left out for all."""
    for number, run in enumerate(runs, start=1):
        mine = {id_: video for id_, video in run.videos(split).items() if id_ in scored.subjects}
        scored.scores.append({})
        for id_, video in bar(mine.items(), f"Scoring, run {number} of {len(runs)}", len(mine)):
            try:
                scored.scores[-1][id_] = video.score(run.model, scored.subjects[id_])
            except VideoError as error:
                scored.skipped[id_] = str(error)
                del scored.subjects[id_]
    if not scored.subjects:
        raise KeyframeError(f"No video of the {split} split can be read: {'; '.join(scored.skipped.values())}")


def baseline_metrics(subjects: Mapping[str, EvalVideo]) -> dict[str, float]:
    """The training-free baseline's means over videos."""
    return over_videos([measure(subject.training_free, subject) for subject in subjects.values()])


def reference_of(subjects: Mapping[str, EvalVideo], seed: int) -> dict[str, float]:
    """The reference lines on these videos; what needs annotators only where every video has some."""
    f1 = f1_metrics(
        [
            reference_f1(subject, draws_of(id_, seed))
            for id_, subject in bar(subjects.items(), "Reference F1", len(subjects))
        ]
    )
    if not all(len(subject.annotators) for subject in subjects.values()):
        return f1
    lines = {
        id_: reference_lines(subject.annotators, draws_of(id_, seed), subject.training_free)
        for id_, subject in bar(subjects.items(), "Reference lines", len(subjects))
    }
    return {**reference_metrics(lines), **f1}


def thumbnails_of(scored: Scored) -> Callable[[str, Sequence[float]], list[tuple[float, npt.NDArray[np.uint8]]]]:
    """Gives small pictures of a video near the given seconds; none of a feature file's."""
    return lambda id_, seconds: scored.videos[id_].thumbnails(seconds)


def track(config: DictConfig, metrics: Mapping[str, float], figures: Path) -> None:
    """Send an evaluation to the trackers that `logger=` names; none by default."""
    from hydra.utils import instantiate

    from keyframe.training import callbacks as tracking

    loggers = [instantiate(entry, _convert_="all") for entry in (config.logger or {}).values()]
    try:
        tracking.log_report(loggers, metrics, sorted(figures.glob("*.png")))
    finally:
        tracking.finish(loggers)


def _same_labels(known: RunVideo, other: RunVideo, first: Run, run: Run) -> None:
    if not all(np.array_equal(a, b) for a, b in zip(_tracks(known), _tracks(other), strict=True)):
        raise KeyframeError(
            f"{first.directory} and {run.directory} have different labels for the video {other.id}: they are of "
            "different data sets and cannot be joined or compared."
        )


def _tracks(video: RunVideo) -> tuple[FloatArray, FloatArray]:
    labels = video if isinstance(video, FeatureVideo) else video.labels
    return labels.importance, labels.annotators


def _check_sampling(runs: Sequence[Run]) -> None:
    kinds = {str(run.config.get("sampling")): run for run in runs}
    if len(kinds) > 1:
        names = " and ".join(str(run.directory) for run in list(kinds.values())[:2])
        raise KeyframeError(
            f"{names} sample frames differently: protocol=sampled cannot compare them, protocol=picks can."
        )
