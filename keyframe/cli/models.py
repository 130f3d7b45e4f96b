"""The models that evaluate and compare are given, and the videos that these are measured on."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from keyframe.cli.sweep import read_status
from keyframe.config import as_list, plain
from keyframe.data.divided import DividedVideos
from keyframe.data.feature_file import read_feature_files
from keyframe.data.folder import DirectorySource, few
from keyframe.data.hdf5 import TVSUM_IDS
from keyframe.data.labels import SCALED_SUFFIXES, read_labels
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.sampling import UniformSampling
from keyframe.evaluation.report import PARTS_BY_RISK
from keyframe.evaluation.scores import ScoreFile, read_scores_file
from keyframe.evaluation.video import EvalVideo
from keyframe.files import natural_key
from keyframe.runs import FeatureFileVideo, LabelVideo, PixelVideo, Run, RunVideo, load_run
from keyframe.types import FloatArray, KeyframeError

SPLITS = ("train", "val", "test", "new", "all")

log = logging.getLogger(__name__)


def load_runs(value: Any, key: str, config: DictConfig) -> list[Run]:
    """Load onto `device` one or more run directories, checkpoints, exported files, or folders of runs."""
    paths = [path for entry in _entries_of(value, key) for path in _run_paths(entry, key)]
    runs = [load_run(path, trust=config.trust, **plain(config.data)) for path in paths]
    for run in runs:
        run.to(config.device)
    return runs


def load_scores(value: Any) -> list[ScoreFile]:
    """The score files of one system: one, or those of its splits or seeds."""
    return [read_scores_file(str(path)) for path in _entries_of(value, "scores")]


def load_models(config: DictConfig) -> dict[str, Sequence[Run] | Sequence[ScoreFile]]:
    """The models of a comparison by name, each with its runs, then other systems, each with its score files.

    A folder of runs of several models, such as a sweep over heads, stands for all of these.
    """
    models: list[Sequence[Run] | Sequence[ScoreFile]] = []
    known: list[str] = []
    for entry in _entries_of(config.runs, "runs"):
        runs = load_runs(entry, "runs", config)
        if isinstance(entry, list):
            check_one_model(runs)
        groups = _by_recipe(runs)
        models += groups
        known += [Path(str(as_list(entry)[0])).name] if len(groups) == 1 else _varied(groups)
    if config.scores is not None:
        others = as_list(config.scores)
        known += [Path(str(as_list(entry)[0])).name for entry in others]
        models += [load_scores(entry) for entry in others]
    if config.names is None:
        names = _names(known, models)
    else:
        names = [str(name) for name in as_list(config.names)]
        if len(names) != len(models) or len(set(names)) != len(names):
            raise KeyframeError(f"names={config.names} must give each of the {len(models)} models a name of its own.")
    if len(models) < 2:
        raise KeyframeError(
            "runs= names one model, but a comparison needs two: add another run or scores=FILE, or use "
            "keyframe-evaluate for one model."
        )
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


def model_name(runs: Sequence[Run] | Sequence[ScoreFile], ensemble: str | None = None) -> str:
    """The default name of a model: its backbone or the name of its first score file, or the ensemble of all."""
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


def _by_recipe(runs: Sequence[Run]) -> list[list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(str(sorted(run.recipe.items())), []).append(run)
    return list(groups.values())


def _varied(groups: Sequence[Sequence[Run]]) -> list[str]:
    """What a sweep has varied between models, by the overrides that the runs of one share and not all have."""
    given: list[set[str]] = []
    for runs in groups:
        statuses = [read_status(run.directory) for run in runs]
        each = [set(one.overrides) if one else set() for one in statuses]
        given.append(each[0].intersection(*each))
    shared = given[0].intersection(*given)
    own = [sorted(overrides - shared) for overrides in given]
    if all(len(overrides) == 1 for overrides in own):
        return [overrides[0].partition("=")[2] for overrides in own]
    return [", ".join(overrides) for overrides in own]


def _names(known: list[str], models: Sequence[Sequence[Run] | Sequence[ScoreFile]]) -> list[str]:
    """Names for models: their backbones if these differ, else the known ones (of directories), else letters."""
    backbones = [model_name(runs) for runs in models]
    for names in (backbones, known):
        if len(set(names)) == len(names):
            return names
    return [f"{chr(ord('A') + place)}: {name}" for place, name in enumerate(backbones)]


def _entries_of(value: Any, key: str) -> list[Any]:
    """The entries of a key, which must have one."""
    entries = as_list(value)
    if not entries:
        raise KeyframeError(f"{key}=[] names nothing: give one entry at least.")
    return entries


@dataclass
class ChosenVideos:
    """The videos that runs and score files are measured on."""

    split: str = "test"  # one of `SPLITS`, for the names of numbers
    videos: dict[str, RunVideo | LabelVideo] = field(default_factory=dict)  # id -> video
    # for each run or score file, id -> what scores that video at its entries, in [0, 1] if it is a run
    by_run: list[dict[str, Callable[[EvalVideo], FloatArray]]] = field(default_factory=list)
    # id -> the place in `by_run` of a run whose own video it is, and the run: it is decoded once for both
    own: dict[str, tuple[int, Run]] = field(default_factory=dict)
    files: list[ScoreFile] = field(default_factory=list)  # the score files among them, with the scores of these videos
    # id -> its `Run.part_of`, of several runs the first in `PARTS_BY_RISK`; `unrecorded` without runs
    parts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # what a reader should know of the choice, sentences
    numbers: dict[str, float] = field(default_factory=dict)  # of the choice, by the names in metrics.json

    def add_file(self, file: ScoreFile) -> None:
        """Have the videos of a file scored by it; those of its scores that are not measured are named in a note."""
        self.files.append(file)
        self.by_run.append(dict.fromkeys(file.scores, file.at))
        if file.others:
            self.notes.append(f"{file.path} has scores of {len(file.others)} other videos: {few(file.others, 10)}.")

    def add_labels(self, source: DirectorySource) -> None:
        """Name the label files, and the scale of each that has none of its own."""
        scales = set()
        for labels, scale in zip(source.label_files(), source.scales.values(), strict=True):
            note = f"Labels: {labels}"
            if labels.suffix.lower() in SCALED_SUFFIXES:
                scales.add(scale)
                note += f", whose scores go from {scale[0]:g} to {scale[1]:g}"
            self.notes.append(f"{note}.")
        if len(scales) == 1:
            self.numbers = dict(zip(("data/lowest", "data/highest"), map(float, *scales), strict=True))


def choose_videos(models: Sequence[Sequence[Run] | Sequence[ScoreFile]], config: DictConfig) -> ChosenVideos:
    """The videos of `split=` that all models have; the first model is of runs.

    Without `split=` they are a run's test videos, or all videos if they are another data set than the run's.
    """
    members = [member for model in models for member in model]
    runs = [member for member in members if isinstance(member, Run)]
    asked = [config.split or run.held_out for run in runs]
    chosen = ChosenVideos(split=asked[0] if len(set(asked)) == 1 else "test")
    found = {id(run): run.videos(split) for run, split in zip(runs, asked, strict=True)}
    there: dict[str, RunVideo] = {}
    for run in runs:
        for id_, video in found[id(run)].items():
            _check_same_labels(there.setdefault(id_, video), video, runs[0], run)
    if not there:
        present = Counter(map(runs[0].part_of, runs[0].videos("all")))
        raise KeyframeError(
            f"{runs[0].directory} has no {chosen.split} video among those that are there "
            f"({', '.join(f'{count} {part}' for part, count in present.items())}): choose another split=, or "
            "data.root=."
        )
    files = {id(one): one.of(_other_names(there)) for one in members if isinstance(one, ScoreFile)}
    known = {one: videos.keys() for one, videos in found.items()} | {
        one: file.scores.keys() for one, file in files.items()
    }
    by_model = [{id_ for member in model for id_ in known[id(member)]} for model in models]
    common = set.intersection(*by_model)
    if not common:
        raise KeyframeError(
            f"the models have different {chosen.split} videos, and none in common: compare runs with the same data, "
            "data.folds, data.fold and data.splits."
        )
    for run in runs:
        name = run.path if run.model.format else run.directory  # exported files may share a folder
        chosen.notes += run.data.split_notes(str(name))
    if alone := sorted(set.union(*by_model) - common):
        chosen.notes.append(
            f"The models have different {chosen.split} videos: they are compared on the {len(common)} that all have, "
            f"without {few(alone, 10)}."
        )
    chosen.videos = {id_: video for id_, video in there.items() if id_ in common}
    for member in members:
        if isinstance(member, ScoreFile):
            chosen.add_file(member.of(_other_names(chosen.videos)))
            continue
        videos = {id_: video for id_, video in found[id(member)].items() if id_ in common}
        chosen.by_run.append({id_: partial(video.score, member.model) for id_, video in videos.items()})
        for id_, video in videos.items():
            if video is chosen.videos[id_] and isinstance(video, PixelVideo):
                chosen.own[id_] = len(chosen.by_run) - 1, member
            parts = member.part_of(id_), chosen.parts.get(id_, PARTS_BY_RISK[-1])
            chosen.parts[id_] = min(parts, key=PARTS_BY_RISK.index)
    if files:
        chosen.notes.append("The score files do not say which videos their systems were trained on.")
    for note in chosen.notes:
        log.warning("%s", note)
    source = getattr(runs[0].data, "source", None)
    if isinstance(source, DirectorySource):
        chosen.add_labels(source)
    return chosen


def choose_labelled(files: Sequence[ScoreFile], config: DictConfig) -> ChosenVideos:
    """The labelled videos, with their frames, their features or alone, that score files have scores of."""
    videos: Mapping[str, RunVideo | LabelVideo]
    given = plain(config.data)
    root, labels = given["root"], config.labels or given["labels"]
    scale = {key: given[key] for key in ("lowest", "highest") if given[key] is not None}
    path = Path(str(labels)).expanduser()
    beside_features = root is None and path.suffix.lower() == ".h5"
    if config.labels is not None and config.data.labels is not None and not beside_features:
        raise KeyframeError("data.labels names the annotators beside a feature file as labels=: leave it out.")
    chosen, source = ChosenVideos(split="all"), None
    if root is not None:
        source = DirectorySource(root, labels, allow_missing=True, **scale)
        data = DividedVideos(source, PyAVReader(), UniformSampling(1))
        videos = {one.id: PixelVideo(**vars(one), data=data) for one in source.videos()}
    elif beside_features and not scale:
        named = config.data.labels if config.labels is not None else None
        annotators = None if named is None else Path(str(named)).expanduser()
        features = read_feature_files(path, annotators, option="labels")
        videos = {id_: FeatureFileVideo(**vars(one)) for id_, one in features.items()}
    else:
        videos = {id_: LabelVideo(id_, one) for id_, one in read_labels(path, option="labels", **scale).items()}
        chosen.notes.append(
            "No frames were decoded: without shots there is neither keyshot F1 nor a training-free baseline. "
            "data.root=DIR, the folder of the videos, or a feature file as labels= gives both."
        )
    for file in files:
        chosen.add_file(file.of(_other_names(videos)))
    chosen.videos = {id_: one for id_, one in videos.items() if any(id_ in file.scores for file in chosen.files)}
    chosen.parts = dict.fromkeys(chosen.videos, "unrecorded")
    if missing := [id_ for id_ in videos if id_ not in chosen.videos]:
        chosen.notes.append(f"There are no scores for {len(missing)} labelled videos: {few(missing, 10)}.")
    for note in chosen.notes:
        log.warning("%s", note)
    if source is None:
        chosen.notes.append(f"Labels: {path}.")
    else:
        chosen.add_labels(source)
    return chosen


def _other_names(videos: Mapping[str, RunVideo | LabelVideo]) -> dict[str, str]:
    """Video id -> its `video_N` in the field's files, or the id if there is none."""
    keys = {id_: video.key for id_, video in videos.items() if isinstance(video, FeatureFileVideo)}
    official = {id_: f"video_{number}" for number, id_ in enumerate(TVSUM_IDS, start=1)}
    return {id_: keys.get(id_) or official.get(id_, id_) for id_ in videos}


def _check_same_labels(known: RunVideo, other: RunVideo, first: Run, run: Run) -> None:
    if not all(np.array_equal(a, b) for a, b in zip(_tracks(known), _tracks(other), strict=True)):
        raise KeyframeError(
            f"{first.directory} and {run.directory} have different labels for the video {other.id}: they are of "
            "different data sets and cannot be joined or compared."
        )


def _tracks(video: RunVideo) -> tuple[FloatArray, FloatArray]:
    labels = video if isinstance(video, FeatureFileVideo) else video.labels
    return labels.importance, labels.annotators
