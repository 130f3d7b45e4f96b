"""The suites `scale`, `long` and `feature_scale`: many videos to extract from, long ones, and many to train on."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import av
import h5py
import numpy as np

from keyframe.benchmark import Bar, SuiteResult, check_rising, check_whole_numbers
from keyframe.benchmark.footage import Footage, write_clips, write_copies
from keyframe.data.reader import VideoReader
from keyframe.extraction.engines import VideoJob, plan, run_local
from keyframe.extraction.extract import ExtractionSpec, extract_video
from keyframe.extraction.inputs import find_inputs
from keyframe.extraction.staging import Staging
from keyframe.pipeline import Scorer, TrainedModel, TrainingFree
from keyframe.summary.candidates import Selector
from keyframe.summary.shots import ShotCutter
from keyframe.system import in_child, resident_mb
from keyframe.types import KeyframeError, check_number

if TYPE_CHECKING:
    from keyframe.benchmark.train import Trained

# Memory is compared after 20 and all videos, each as the median after the last 10 of them.
_SETTLED, _AROUND = 20, 10
# What the keyframes of two hours may take in all, Python and torch included.
_LIMIT_MB = 1500.0


class Cost(NamedTuple):
    """Seconds of a step of a batch and MB of its process after it, or of an extraction and MB at its peak."""

    seconds: float
    memory_mb: float


class BatchRun(NamedTuple):
    """What a batch took."""

    planning: Cost  # finding the videos and what is to do with each
    videos: Sequence[Cost]

    @property
    def seconds_per_video(self) -> float:
        return (self.planning.seconds + sum(step.seconds for step in self.videos)) / len(self.videos)

    def memory_mb(self, videos: int) -> float:
        return statistics.median(step.memory_mb for step in self.videos[max(0, videos - _AROUND) : videos])


def add_growth(result: SuiteResult, name: str, costs: Mapping[int, Cost], what: str) -> None:
    """Add seconds and memory by size, and the exponent of time: the slope of log seconds over log size."""
    for size, cost in costs.items():
        result.add(f"seconds_{name}_{size}", cost.seconds, "s", f"{size} {what}")
        result.add(f"memory_mb_{name}_{size}", cost.memory_mb, "MB", f"memory of {size} {what}")
    add_exponent(result, name, {size: cost.seconds for size, cost in costs.items()}, what)


def add_exponent(result: SuiteResult, name: str, seconds: Mapping[int, float], what: str) -> None:
    """Add the power with which time grows with two sizes or more, by least squares on logarithms; 1 is linear."""
    if len(seconds) > 1:
        slope = np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)[0]
        result.add(f"exponent_{name}", float(slope), "", f"power with which time grows with the number of {what}")


@dataclass(frozen=True)
class ScaleSuite:
    """Extracts keyframes from more and more short videos; the arguments are the node `scale` of conf/benchmark.yaml."""

    shots: ShotCutter
    selector: Selector
    reader: VideoReader
    directory: str
    counts: Sequence[int] = (10, 100, 1000)
    seconds: int = 4

    def __post_init__(self) -> None:
        check_whole_numbers("scale", self, counts=1, seconds=1)
        check_rising("scale.counts", self.counts, "[10,100]")
        if 40 % self.seconds:
            raise KeyframeError(f"scale.seconds={self.seconds} must divide 40: choose 1, 2, 4, 5, 8, 10, 20 or 40.")

    def __call__(self, bar: Bar) -> SuiteResult:
        footage = Footage(seconds=40, width=160, height=90, key_every=25 * self.seconds)
        clips = write_clips(footage, Path(self.directory).expanduser())
        spec = ExtractionSpec(self.shots, self.selector, self.reader)
        runs = {}
        for count in self.counts:
            steps = in_child(partial(run_batch, spec, clips, count), "the batch")
            planning, *videos = bar(steps, f"Extracting {count} videos", count + 1)
            runs[count] = BatchRun(planning, videos)
        few, most = self.counts[0], self.counts[-1]
        result = SuiteResult("scale")
        add_batches(result, runs)
        result.summary = (
            f"A video of {self.seconds} s takes {runs[most].seconds_per_video:.3f} s when it is one of {most}, "
            f"{runs[few].seconds_per_video:.3f} s when it is one of {few}."
        )
        result.notes = [
            f"Videos of {self.seconds} s at 160x90, scored without a model, in a fresh process per batch.",
            "One video is done before, untimed: what is imported and set up once is no cost of a video.",
            "They are copies of few clips that differ in a number at the end of the file; copying is not timed.",
        ]
        return result


def add_batches(result: SuiteResult, runs: Mapping[int, BatchRun]) -> None:
    """Add the figures and bars of batches, by number of videos, from the fewest to the most."""
    *fewer, most = runs
    largest = runs[most]
    for count, run in runs.items():
        result.add(f"seconds_a_video_{count}", run.seconds_per_video, "s", f"a video of {count}, all included")
        result.bars[f"a video of {count}"] = run.seconds_per_video
    for count in fewer:
        value = largest.seconds_per_video / runs[count].seconds_per_video
        result.add(f"ratio_{most}_over_{count}", value, "", f"a video of {most}, over a video of {count}")
    batches = {count: run.seconds_per_video * count for count, run in runs.items()}
    add_exponent(result, "seconds", batches, "videos")
    if most > _SETTLED:
        growth = largest.memory_mb(most) - largest.memory_mb(_SETTLED)
        meaning = f"growth of the process's memory from the {_SETTLED}th to the {most}th video"
        result.add(f"rss_growth_mb_{_SETTLED}_to_{most}", growth, "MB", meaning)
    result.add("seconds_a_video_planning", largest.planning.seconds / most, "s", "finding what is to do")


def run_batch(spec: ExtractionSpec, clips: Sequence[Path], count: int) -> Iterator[Cost]:
    """Do a batch of copies of clips: planning, then each video."""
    with TemporaryDirectory() as place:
        videos, output = Path(place, "videos"), Path(place, "found")
        write_copies(clips, videos, count)
        list(run_local(spec, [VideoJob(clips[0], Path(place, "warm-up"))]))

        start = perf_counter()
        found = find_inputs([str(videos)], False, [output], Staging(output))
        paths = [path for path in found if isinstance(path, Path)]
        jobs = [entry for entry in plan(paths, output, spec) if isinstance(entry, VideoJob)]
        yield Cost(perf_counter() - start, resident_mb()[0])
        start = perf_counter()
        for result in run_local(spec, jobs):
            if result.status != "done":
                raise RuntimeError(result.notes)
            yield Cost(perf_counter() - start, resident_mb()[0])
            start = perf_counter()


def untrained_model(backbone: str, size: int, window: int | None) -> Scorer:
    """A scorer of a timm backbone, with the same random weights every time."""
    import torch  # here, so that an extraction without a model is measured without it

    from keyframe.models.detector import untrained_detector

    torch.manual_seed(0)
    return TrainedModel(untrained_detector(backbone), (size, size), window, {"kind": "untrained model"})


@dataclass(frozen=True)
class LongSuite:
    """Extracts keyframes from long footage; the arguments are those of the node `long` in conf/benchmark.yaml."""

    shots: ShotCutter
    selector: Selector
    reader: VideoReader
    footage: Callable[..., Footage]
    directory: str
    model: str = "efficientnet_b0"
    minutes: Sequence[int] = (10, 30, 120)
    rate: float = 2.0
    size: int = 224
    window: int | None = 60

    def __post_init__(self) -> None:
        check_whole_numbers("long", self, minutes=1, size=1)
        check_number("long.rate", self.rate, 0, whole=False, above=True)
        check_number("long.window", self.window, 1, optional=True)
        check_rising("long.minutes", self.minutes, "[10,30,120]")
        if any(minutes % 2 for minutes in self.minutes):
            raise KeyframeError(f"long.minutes={list(self.minutes)} must be even.")

    def __call__(self, bar: Bar) -> SuiteResult:
        directory = Path(self.directory).expanduser()
        footages = {minutes: self.footage(seconds=60 * minutes) for minutes in self.minutes}
        made = bar(footages.items(), "Making footage", len(footages))
        videos = {minutes: footage.write(directory) for minutes, footage in made}
        shortest, longest = self.minutes[0], self.minutes[-1]
        (decoding,) = in_child(partial(_decode, videos[shortest]), "decoding")
        scorers: dict[str, Callable[[], Scorer]] = {
            "": partial(untrained_model, self.model, self.size, self.window),
            "_training_free": TrainingFree,
        }
        costs: dict[str, dict[int, Cost]] = {suffix: {} for suffix in scorers}
        tasks = [(minutes, suffix) for minutes in self.minutes for suffix in scorers]
        for minutes, suffix in bar(tasks, "Extracting", len(tasks)):
            spec = ExtractionSpec(self.shots, self.selector, self.reader, self.rate)
            task = partial(_extract, videos[minutes], spec, scorers[suffix])
            (costs[suffix][minutes],) = in_child(task, "the extraction")
        result = SuiteResult("long")
        for suffix, by_length in costs.items():
            add_lengths(result, by_length, suffix)
        cost, without = costs[""][longest], costs["_training_free"][longest]
        value = costs["_training_free"][shortest].seconds / decoding
        meaning = "the whole extraction, over PyAV decoding every frame"
        result.add(f"ratio_to_decode_{shortest}min_training_free", value, "", meaning)
        result.summary = (
            f"The keyframes of {longest} minutes take {cost.seconds:.0f} s and {cost.memory_mb:.0f} MB with a model, "
            f"{without.seconds:.0f} s and {without.memory_mb:.0f} MB without."
        )
        footage = footages[longest]
        result.notes = [
            f"Footage of {footage.width}x{footage.height} at {footage.rate} frames per second; making it is not timed.",
            "Each extraction runs once, in a fresh process; importing is not timed, but is in its memory.",
            "The model's weights are random.",
        ]
        return result


def add_lengths(result: SuiteResult, costs: Mapping[int, Cost], suffix: str) -> None:
    """Add figures and bars, by minutes from the shortest; `suffix` is `_training_free` without a model."""
    scored = "training-free" if suffix else "with a model"
    for minutes, cost in costs.items():
        what = f"of {minutes} minutes, {scored}"
        result.add(f"seconds_{minutes}min{suffix}", cost.seconds, "s", f"the keyframes {what}")
        result.add(f"peak_rss_mb_{minutes}min{suffix}", cost.memory_mb, "MB", f"peak memory {what}")
        result.bars[f"{minutes} minutes, {scored}"] = cost.seconds
    for shorter, longer in pairwise(costs):
        value = costs[longer].seconds / costs[shorter].seconds
        meaning = f"seconds of {longer} minutes over those of {shorter}, {scored}; in proportion {longer / shorter:g}"
        result.add(f"time_ratio_{longer}_over_{shorter}{suffix}", value, "", meaning)
    seconds = {minutes: cost.seconds for minutes, cost in costs.items()}
    add_exponent(result, f"seconds{suffix}", seconds, f"minutes, {scored}")
    longest = max(costs)
    meaning = f"peak memory of {longest} minutes over the limit for 120, {_LIMIT_MB:.0f} MB, {scored}"
    result.add(f"rss_ratio_to_limit{suffix}", costs[longest].memory_mb / _LIMIT_MB, "", meaning)


def _extract(video: Path, spec: ExtractionSpec, make_scorer: Callable[[], Scorer]) -> Iterator[Cost]:
    with TemporaryDirectory() as place:
        scorer = make_scorer()
        start = perf_counter()
        extract_video(video, Path(place, "found"), spec, scorer)
        yield Cost(perf_counter() - start, resident_mb()[1])


def _decode(video: Path) -> Iterator[float]:
    with av.open(str(video)) as container:
        context = container.streams.video[0].codec_context
        context.thread_count, context.thread_type = 0, "AUTO"
        start = perf_counter()
        for _ in container.decode(video=0):
            pass
        yield perf_counter() - start


@dataclass(frozen=True)
class FeatureScaleSuite:
    """Trains on feature files of more and more videos; the arguments are the node `feature_scale` of benchmark.yaml.

    The files are like Mr.HiSum's, one feature a second, but in float16.
    """

    directory: str
    recipe: Sequence[str]
    counts: Sequence[int] = (1000, 31892)
    features: int = 200
    width: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole_numbers("feature_scale", self, counts=20, features=2, width=1)
        check_rising("feature_scale.counts", self.counts, "[1000,31892]")

    def __call__(self, bar: Bar) -> SuiteResult:
        from keyframe.benchmark.train import time_training  # here, as in `untrained_model`

        runs = {}
        Path(self.directory).expanduser().mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=Path(self.directory).expanduser()) as place:
            for count in bar(self.counts, "Training", len(self.counts)):
                file = Path(place, "features.h5")
                self._write(file, count)
                overrides = (*self.recipe, "data=h5", f"data.path={file}", f"data.width={self.width}")
                runs[count] = time_training(overrides, Path(place), str(count))
        result = SuiteResult("feature_scale")
        add_trainings(result, runs)
        most = self.counts[-1]
        result.summary = (
            f"An epoch of {most} videos takes {result[f'seconds_epoch_{most}']:.0f} s, "
            f"{result[f'waiting_share_{most}']:.1%} of it waiting for data, in {result[f'peak_rss_mb_{most}']:.0f} MB."
        )
        result.notes = [
            f"Random features ({self.features}, {self.width}) in float16; recipe: {' '.join(self.recipe)}.",
            "Epochs hold validation, on an eighth of the videos, and checkpoints. Memory is the peak of the process.",
            "What was just written may still be in the system's memory: no cold disk is measured.",
        ]
        return result

    def _write(self, path: Path, count: int) -> None:
        rng = np.random.default_rng(self.seed)
        drawn = rng.standard_normal((2 * self.features, self.width)).astype(np.float16)
        starts = np.arange(0, self.features, 10)
        shots = np.stack([starts, np.append(starts[1:], self.features)], axis=1)
        with h5py.File(path, "w") as file:
            for number, first in enumerate(rng.integers(0, self.features, count), start=1):
                group = file.create_group(f"video_{number}")
                group["features"] = drawn[first : first + self.features]
                group["gtscore"] = 1 / (1 + np.exp(-drawn[first : first + self.features, 0].astype(np.float64)))
                group["change_points"] = shots


def add_trainings(result: SuiteResult, runs: "Mapping[int, Trained]") -> None:
    """Add the figures and bars of trainings, by number of videos, from the fewest to the most; see `Trained`."""
    from keyframe.benchmark.train import epoch_seconds

    *_, most = runs
    seconds = {count: statistics.median(map(epoch_seconds, run.epochs)) for count, run in runs.items()}
    for count, run in runs.items():
        waiting = [epoch["wait"] / epoch_seconds(epoch) for epoch in run.epochs]
        result.add(f"seconds_epoch_{count}", map(epoch_seconds, run.epochs), "s", f"an epoch of {count} videos")
        result.add(f"waiting_share_{count}", waiting, "", "the share of an epoch spent waiting for batches")
        result.add(f"seconds_before_{count}", run.before, "s", "what is in the file, the features' mean and deviation")
        result.add(f"peak_rss_mb_{count}", run.peak_mb, "MB", f"peak memory of training on {count} videos")
        result.bars[f"an epoch of {count}"] = seconds[count]
        if count != most:
            value = seconds[most] / most / (seconds[count] / count)
            result.add(
                f"ratio_{most}_over_{count}", value, "", f"an epoch's time per video of {most}, over that of {count}"
            )
