"""What evaluation and comparison do alike: look at the runs' videos, score them, measure what stands beside them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from omegaconf import DictConfig

from keyframe.cli.progress import bar
from keyframe.cores import cores
from keyframe.data.features_h5 import FeatureVideo
from keyframe.errors import KeyframeError, VideoError
from keyframe.evaluation.measure import measure, over_videos
from keyframe.evaluation.reference import draws_of, reference_lines, reference_metrics
from keyframe.evaluation.reference_f1 import f1_metrics, reference_f1
from keyframe.evaluation.study import ENSEMBLES
from keyframe.evaluation.subject import Shots, Subject
from keyframe.runs import BaseRun, Video
from keyframe.types import FloatArray

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

    subjects: dict[str, Subject] = field(default_factory=dict)
    scores: list[dict[str, FloatArray]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    videos: dict[str, Video] = field(default_factory=dict)


def check_choices(config: DictConfig) -> None:
    """Refuse values that are none of the known ones.

    Raises:
        KeyframeError: naming the key.
    """
    for key, known in (("split", SPLITS), ("protocol", PROTOCOLS), ("ensemble", (None, *ENSEMBLES))):
        if config[key] not in known:
            raise KeyframeError(f"{key}={config[key]} is none of {', '.join(filter(None, known))}.")


def score_runs(runs: Sequence[BaseRun], config: DictConfig, shots: Shots) -> Scored:
    """Score the videos of a split by the runs that have it; a video that cannot be read is left out and named.

    Raises:
        KeyframeError: two runs have different labels for a video, or no video can be read.
    """
    scored = Scored()
    owners: dict[str, BaseRun] = {}
    for run in runs:
        for id_, video in run.videos(config.split).items():
            _same_labels(scored.videos.setdefault(id_, video), video, runs[0], run)
            owners.setdefault(id_, run)

    def attempt(id_: str) -> Subject | VideoError:
        try:
            return owners[id_].subject(scored.videos[id_], shots)
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
            scored.subjects[id_] = owners[id_].sampled(subject, scored.videos[id_])
    _score(runs, config.split, scored)
    return scored


def _score(runs: Sequence[BaseRun], split: str, scored: Scored) -> None:
    """Add each run's scores; a video that one run cannot read is left out for all."""
    for number, run in enumerate(runs, start=1):
        mine = {id_: video for id_, video in run.videos(split).items() if id_ in scored.subjects}
        scored.scores.append({})
        for id_, video in bar(mine.items(), f"Scoring, run {number} of {len(runs)}", len(mine)):
            try:
                scored.scores[-1][id_] = run.score(video, scored.subjects[id_])
            except VideoError as error:
                scored.skipped[id_] = str(error)
                del scored.subjects[id_]
    if not scored.subjects:
        raise KeyframeError(f"No video of the {split} split can be read: {'; '.join(scored.skipped.values())}")


def baseline_metrics(subjects: Mapping[str, Subject]) -> dict[str, float]:
    """The training-free baseline's means over videos."""
    return over_videos([measure(subject.training_free, subject) for subject in subjects.values()])


def reference_of(subjects: Mapping[str, Subject], seed: int) -> dict[str, float]:
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


def thumbnails_of(
    runs: Sequence[BaseRun], scored: Scored
) -> Callable[[str, Sequence[float]], list[tuple[float, npt.NDArray[np.uint8]]]]:
    """Gives small pictures of a video near the given seconds; none of a feature file's."""
    return lambda id_, seconds: runs[0].thumbnails(scored.videos[id_], seconds)


def track(config: DictConfig, metrics: Mapping[str, float], figures: Path) -> None:
    """Send an evaluation to the trackers that `logger=` names; none by default."""
    from hydra.utils import instantiate

    from keyframe.training import tracking

    loggers = [instantiate(entry, _convert_="all") for entry in (config.logger or {}).values()]
    try:
        tracking.log_report(loggers, metrics, sorted(figures.glob("*.png")))
    finally:
        tracking.finish(loggers)


def _same_labels(known: Video, other: Video, first: BaseRun, run: BaseRun) -> None:
    if not all(np.array_equal(a, b) for a, b in zip(_tracks(known), _tracks(other), strict=True)):
        raise KeyframeError(
            f"{first.directory} and {run.directory} have different labels for the video {other.id}: they are of "
            "different data sets and cannot be joined or compared."
        )


def _tracks(video: Video) -> tuple[FloatArray, FloatArray]:
    labels = video if isinstance(video, FeatureVideo) else video.labels
    return labels.importance, labels.annotators


def _check_sampling(runs: Sequence[BaseRun]) -> None:
    kinds = {str(run.config.get("sampling")): run for run in runs}
    if len(kinds) > 1:
        names = " and ".join(str(run.directory) for run in list(kinds.values())[:2])
        raise KeyframeError(
            f"{names} sample frames differently: protocol=sampled cannot compare them, protocol=picks can."
        )
