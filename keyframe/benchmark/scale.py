"""The suite `scale`: what a video costs when it is one of many.

The suite `long`: what time and memory the keyframes of a long video take.

The suite `ddp`: training in two processes against one, and what trackers and checkpoints cost a run.
"""

import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import av
import numpy as np

from keyframe.benchmark.footage import Footage, TrainData, write_clips, write_copies
from keyframe.benchmark.report import Bar, Measured, SuiteResult
from keyframe.benchmark.train import Trained, train
from keyframe.data.reader import VideoReader
from keyframe.extraction.engines import ExtractionSpec, VideoJob, plan, run_local
from keyframe.extraction.extract import Settings, ShotCutter, extract_video
from keyframe.extraction.inputs import find_inputs
from keyframe.pipeline import Scorer, TrainedModel, TrainingFree
from keyframe.summary.constraints import Selector
from keyframe.system import cores, in_child, resident_mb
from keyframe.timing import MB
from keyframe.types import KeyframeError

if TYPE_CHECKING:
    from keyframe.models.detector import KeyframeDetector

# Memory is compared after the first 20 videos, by when all that is kept for good is there, after 200, and after all. It
# goes up and down within a video, so each is the median after so many of them.
_SETTLED, _LATER = 20, 200
_AROUND = 10


class Step(NamedTuple):
    """A step of a batch: looking for what is to do, or a video.

    Attributes:
        seconds: that it took.
        resident_mb: memory of the process after it.
    """

    seconds: float
    resident_mb: float


@dataclass(frozen=True)
class BatchRun:
    """What a batch took.

    Attributes:
        videos: seconds of each, in order.
        resident_mb: memory of the process after each.
        planning: seconds of finding the videos and what is to do with each.
        again: the same of a second start, which finds all done.
    """

    videos: Sequence[float]
    resident_mb: Sequence[float]
    planning: float
    again: float

    @classmethod
    def of(cls, steps: Sequence[Step]) -> "BatchRun":
        """From what `batch` yields."""
        first, *videos, last = steps
        return cls(
            [step.seconds for step in videos], [step.resident_mb for step in videos], first.seconds, last.seconds
        )

    @property
    def seconds_a_video(self) -> float:
        """All that the batch took, shared by its videos."""
        return (self.planning + sum(self.videos)) / len(self.videos)

    def memory_mb(self, videos: int) -> float:
        """Memory of the process after so many videos."""
        return float(np.median(self.resident_mb[max(0, videos - _AROUND) : videos]))


@dataclass(frozen=True)
class ScaleSuite:
    """Extracts keyframes from more and more short videos, as `keyframe-extract` does, and sees whether one costs more.

    Args:
        shots: cuts videos.
        selector: chooses keyframes.
        reader: decodes frames.
        directory: where the footage is made that the videos are copies of.
        counts: videos of each batch, rising.
        seconds: that a video lasts; divides 40.

    Raises:
        KeyframeError: an argument is out of its range.
    """

    shots: ShotCutter
    selector: Selector
    reader: VideoReader
    directory: str
    counts: Sequence[int] = (10, 100, 1000)
    seconds: int = 4

    def __post_init__(self) -> None:
        if not self.counts or sorted(set(self.counts)) != list(self.counts):
            raise KeyframeError(f"scale.counts={list(self.counts)} must rise: give them in order, such as [10,100].")
        if 40 % self.seconds:
            raise KeyframeError(f"scale.seconds={self.seconds} must divide 40: choose 1, 2, 4, 5, 8, 10, 20 or 40.")

    def __call__(self, bar: Bar) -> SuiteResult:
        """Measure; `bar` shows progress."""
        footage = Footage(seconds=40, width=160, height=90, key_every=25 * self.seconds)
        clips = write_clips(footage, Path(self.directory).expanduser())
        recipe = ExtractionSpec(self.shots, self.selector, self.reader)
        runs = {}
        for count in self.counts:
            steps = in_child(partial(batch, recipe, clips, count), "the batch")
            runs[count] = BatchRun.of(list(bar(steps, f"Extracting {count} videos", count + 2)))
        figures = scale_figures(runs)
        largest = runs[self.counts[-1]]
        return SuiteResult(
            name="scale",
            summary=f"A video of {self.seconds} s takes {largest.seconds_a_video:.3f} s when it is one of "
            f"{self.counts[-1]}, {runs[self.counts[0]].seconds_a_video:.3f} s when it is one of {self.counts[0]}.",
            figures=figures,
            bars={f"a video of {count}": run.seconds_a_video for count, run in runs.items()},
            notes=[
                f"Videos of {self.seconds} s at 160x90, scored without a model, one after another, in a fresh process "
                "for each batch: most of it is what a video costs beside its decoding.",
                "One video is done before, untimed: what is imported and set up once is no cost of a video.",
                "They are copies of few clips that differ in a number at the end of the file; copying is not timed.",
            ],
        )


def scale_figures(runs: dict[int, BatchRun]) -> list[Measured]:
    """What batches of so many videos say, from the fewest to the most.

    Args:
        runs: by number of videos.
    """
    counts = list(runs)
    most = counts[-1]
    figures = [
        Measured(f"scale/seconds_a_video_{count}", (run.seconds_a_video,), "s", f"a video of {count}, all included")
        for count, run in runs.items()
    ]
    for count in counts[:-1]:
        value = runs[most].seconds_a_video / runs[count].seconds_a_video
        figures.append(
            Measured(f"scale/ratio_{most}_over_{count}", (value,), "", f"a video of {most}, over a video of {count}")
        )
    for mark in sorted({_LATER, most}):
        if _SETTLED < mark <= most:
            meaning = f"growth of the process's memory from the {_SETTLED}th to the {mark}th video"
            growth = runs[most].memory_mb(mark) - runs[most].memory_mb(_SETTLED)
            figures.append(Measured(f"scale/rss_growth_mb_{_SETTLED}_to_{mark}", (growth,), "MB", meaning))
    planning, again = runs[most].planning / most, runs[most].again / most
    return [
        *figures,
        Measured("scale/seconds_a_video_planning", (planning,), "s", f"finding {most} videos and what is to do"),
        Measured("scale/seconds_a_video_second_start", (again,), "s", "the same when all are done and skipped"),
    ]


def batch(recipe: ExtractionSpec, clips: Sequence[Path], count: int) -> Iterator[Step]:
    """Do a batch of copies of clips, and start it again: planning, each video, planning again.

    Raises:
        RuntimeError: a video failed, or was done again.
    """
    with TemporaryDirectory() as place:
        videos, output = Path(place, "videos"), Path(place, "found")
        write_copies(clips, videos, count)
        list(run_local(recipe, [VideoJob(clips[0], Path(place, "warm-up"))]))

        start = perf_counter()
        jobs = plan(_found(videos, output), output, recipe)
        yield Step(perf_counter() - start, resident_mb()[0])
        start = perf_counter()
        for outcome in run_local(recipe, [job for job in jobs if isinstance(job, VideoJob)]):
            if outcome.status != "done":
                raise RuntimeError(outcome.notes)
            yield Step(perf_counter() - start, resident_mb()[0])
            start = perf_counter()
        start = perf_counter()
        left = plan(_found(videos, output), output, recipe)
        if any(isinstance(entry, VideoJob) for entry in left):
            raise RuntimeError("a second start would do videos again")
        yield Step(perf_counter() - start, resident_mb()[0])


def _found(videos: Path, output: Path) -> list[Path]:
    """What a command finds in a folder of videos."""
    return [path for path in find_inputs([str(videos)], False, [output]) if isinstance(path, Path)]


# What the keyframes of two hours may take in all, Python and torch included.
LIMIT_MB = 1500.0


class Cost(NamedTuple):
    """What an extraction took: seconds, and the peak of its process's memory in MB."""

    seconds: float
    peak_mb: float


@dataclass(frozen=True)
class LongSuite:
    """Extracts keyframes from footage of several lengths, with a model and without, each in a fresh process.

    Args:
        shots: cuts videos.
        selector: chooses keyframes.
        reader: decodes frames.
        detector: makes the model, of any weights; picklable.
        footage: makes the videos' description from `seconds=`, e.g. a `functools.partial(Footage, ...)`.
        directory: where the footage is made.
        minutes: lengths, rising, even.
        rate: frames looked at for each second of video.
        size: height and width of the model's pictures.
        window: frames that the model sees at once.

    Raises:
        KeyframeError: the lengths do not rise or are odd.
    """

    shots: ShotCutter
    selector: Selector
    reader: VideoReader
    detector: Callable[[], "KeyframeDetector"]
    footage: Callable[..., Footage]
    directory: str
    minutes: Sequence[int] = (10, 30, 120)
    rate: float = 2.0
    size: int = 224
    window: int | None = 60

    def __post_init__(self) -> None:
        if not self.minutes or sorted(set(self.minutes)) != list(self.minutes) or any(one % 2 for one in self.minutes):
            raise KeyframeError(
                f"long.minutes={list(self.minutes)} must rise and be even: give them in order, such as [10,30,120]."
            )

    def __call__(self, bar: Bar) -> SuiteResult:
        """Measure; `bar` shows progress."""
        directory = Path(self.directory).expanduser()
        footages = {minutes: self.footage(seconds=60 * minutes) for minutes in self.minutes}
        made = bar(footages.items(), "Making footage", len(footages))
        videos = {minutes: footage.write(directory) for minutes, footage in made}
        shortest = self.minutes[0]
        (decoding,) = in_child(partial(decode, videos[shortest]), "decoding")
        tasks = [(minutes, scored) for minutes in self.minutes for scored in ("", "_training_free")]
        costs: dict[str, dict[int, Cost]] = {"": {}, "_training_free": {}}
        for minutes, scored in bar(tasks, "Extracting", len(tasks)):
            scorer = TrainingFree if scored else partial(untrained_model, self.detector, self.size, self.window)
            task = partial(
                extract, videos[minutes], scorer, self.shots, self.selector, self.reader, Settings(self.rate)
            )
            (costs[scored][minutes],) = in_child(task, "the extraction")
        longest = self.minutes[-1]
        cost, without = costs[""][longest], costs["_training_free"][longest]
        return SuiteResult(
            name="long",
            summary=f"The keyframes of {longest} minutes take {cost.seconds:.0f} s and {cost.peak_mb:.0f} MB with a "
            f"model, {without.seconds:.0f} s and {without.peak_mb:.0f} MB without.",
            figures=[
                *(figure for scored, by_length in costs.items() for figure in long_figures(by_length, scored)),
                Measured(
                    f"long/ratio_to_decode_{shortest}min_training_free",
                    (costs["_training_free"][shortest].seconds / decoding,),
                    "",
                    "the whole extraction, over PyAV decoding every frame and nothing else",
                ),
            ],
            bars={
                f"{minutes} minutes, {'training-free' if scored else 'with a model'}": cost.seconds
                for scored, by_length in costs.items()
                for minutes, cost in by_length.items()
            },
            notes=[
                f"Footage of {footages[longest].width}x{footages[longest].height} at {footages[longest].rate} frames a "
                "second, one encoded piece repeated by copying its packets; making it is not timed.",
                "Each extraction runs once, in a fresh process; importing is not timed, but is in its memory. With a "
                "model a video is decoded twice, at the model's size and at the size of a look.",
                "The model's weights are random: what it costs does not depend on them.",
            ],
        )


def long_figures(costs: Mapping[int, Cost], suffix: str) -> list[Measured]:
    """What extractions of several lengths say.

    Args:
        costs: by minutes, from the shortest to the longest.
        suffix: of each key, such as _training_free.
    """
    who = "training-free" if suffix else "with a model"
    figures = []
    for minutes, cost in costs.items():
        what = f"of {minutes} minutes, {who}"
        figures += [
            Measured(f"long/seconds_{minutes}min{suffix}", (cost.seconds,), "s", f"the keyframes {what}"),
            Measured(f"long/peak_rss_mb_{minutes}min{suffix}", (cost.peak_mb,), "MB", f"peak memory {what}"),
        ]
    for shorter, longer in pairwise(costs):
        figures.append(
            Measured(
                f"long/time_ratio_{longer}_over_{shorter}{suffix}",
                (costs[longer].seconds / costs[shorter].seconds,),
                "",
                f"seconds of {longer} minutes over those of {shorter}, {who}; in proportion it is {longer / shorter:g}",
            )
        )
    longest = max(costs)
    limit = f"peak memory of {longest} minutes over the limit for 120, {LIMIT_MB:.0f} MB, {who}"
    return [*figures, Measured(f"long/rss_ratio_to_limit{suffix}", (costs[longest].peak_mb / LIMIT_MB,), "", limit)]


def untrained_model(detector: Callable[[], "KeyframeDetector"], size: int, window: int | None) -> TrainedModel:
    """A scorer whose model is made with the same random weights every time."""
    import torch

    torch.manual_seed(0)
    return TrainedModel(detector().eval(), (size, size), window, {"kind": "untrained model"})


def extract(
    video: Path,
    scorer: Callable[[], Scorer],
    shots: ShotCutter,
    selector: Selector,
    reader: VideoReader,
    settings: Settings,
) -> Iterator[Cost]:
    """Extract the keyframes of a video, once, and throw them away."""
    with TemporaryDirectory() as place:
        score = scorer()
        start = perf_counter()
        extract_video(video, Path(place, "found"), score, shots, selector, reader, settings)
        yield Cost(perf_counter() - start, resident_mb()[1])


def decode(video: Path) -> Iterator[float]:
    """Seconds that decoding every frame of a video takes, on a thread a core."""
    with av.open(str(video)) as container:
        context = container.streams.video[0].codec_context
        context.thread_count, context.thread_type = 0, "AUTO"
        start = perf_counter()
        for _ in container.decode(video=0):
            pass
        yield perf_counter() - start


_STAGES = ("stage1", "stage2")


@dataclass(frozen=True)
class DdpSuite:
    """Times epochs of `keyframe-train` from a filled cache: one process, two, and one with all trackers.

    All train on the same videos; a rank of several has its share of them. Trainings run one after the other, in rounds.

    Args:
        footage: the folder in which videos are kept.
        recipe: overrides of `keyframe-train` for all sides.
        sides: further ones by side: `one` process is the baseline of all others, `ranks` are two processes.
        videos: to train on; two more validate, two more are tested.
        seconds: length of each, a multiple of 40.
        width: of a picture of the files in pixels.
        height: of it in pixels.
        epochs: of each stage, at least 2; the first of a stage sets things up, and is left out.
        rounds: trainings of each side.
        seed: of the footage.

    Raises:
        ValueError: a stage has no epoch to measure.
    """

    footage: str
    recipe: Sequence[str]
    sides: Mapping[str, Sequence[str]]
    videos: int = 8
    seconds: int = 40
    width: int = 640
    height: int = 360
    epochs: int = 6
    rounds: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 2:
            raise ValueError(f"epochs must be at least 2, not {self.epochs}")

    def __call__(self, bar: Bar) -> SuiteResult:
        """Measure; `bar` shows progress."""
        measured = _Measurement()
        for _ in bar(self._measure(measured), "Training", self.rounds * len(self.sides) + 1):
            pass
        figures = [
            *(figure for side in self.sides if side != "one" for figure in measured.ratios(side, self.sides[side])),
            *(
                Measured(f"ddp/seconds_{side}_{stage}_epoch", tuple(values), "s", f"an epoch of {stage}, {side}")
                for (side, stage), values in measured.seconds.items()
            ),
            Measured("ddp/run_directory_mb", (measured.directory_mb,), "MB", "all that a run of one process leaves"),
            Measured("ddp/checkpoint_mb", (measured.checkpoint_mb,), "MB", "its last checkpoint, optimizer included"),
        ]
        one, ranks = (statistics.median(measured.seconds[side, "stage2"]) for side in ("one", "ranks"))
        return SuiteResult(
            name="ddp",
            summary=f"In stage 2 two processes on {cores()} cores take {ranks / one:.2f} of the time of one.",
            figures=figures,
            bars={f"{side}, {stage}": statistics.median(values) for (side, stage), values in measured.seconds.items()},
            notes=[
                f"{self.videos} videos in all; recipe: {' '.join(self.recipe)}. A rank is a process on the CPU, and "
                "gradients go over gloo.",
                f"One process has all {cores()} cores as well: on one machine's cores this is the overhead of "
                "processes, not the speed-up of several GPUs.",
                "An epoch holds its validation and its checkpoints. Videos are encoded before the first.",
            ],
        )

    def _measure(self, measured: "_Measurement") -> Iterator[object]:
        with tempfile.TemporaryDirectory(prefix="keyframe-benchmark-") as place:
            directory, footage = Path(place), Path(self.footage).expanduser()
            data = TrainData(footage, self.videos, self.seconds, self.width, self.height, self.seed, held_out=2)
            data.write(directory)
            yield data
            where = ("data.root=.", "data.labels=labels.tsv", "data.splits=splits.json")
            length = (f"trainer.max_epochs={2 * self.epochs}", f"finetune.switch_epoch={self.epochs}")
            common = (*self.recipe, *where, *length, "callbacks.curves=null")
            for number in range(self.rounds):
                for side, overrides in self.sides.items():
                    name = f"{side}{number}"
                    measured.add(side, train((*common, *overrides), directory, name), self.epochs)
                    if side == "one":
                        measured.weigh(directory / name)
                    yield name


@dataclass
class _Measurement:
    """Seconds of each epoch by (side, stage), and sizes in MB."""

    seconds: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    directory_mb: float = float("nan")
    checkpoint_mb: float = float("nan")

    def add(self, side: str, trained: Trained, epochs: int) -> None:
        for stage, first in zip(_STAGES, (0, epochs), strict=True):
            taken = [sum(epoch.values()) for epoch in trained.epochs[first + 1 : first + epochs]]
            self.seconds.setdefault((side, stage), []).extend(taken)

    def weigh(self, run: Path) -> None:
        files = [path for path in run.rglob("*") if path.is_file()]
        self.directory_mb = sum(path.stat().st_size for path in files) / MB
        self.checkpoint_mb = (run / "checkpoints" / "last.ckpt").stat().st_size / MB

    def ratios(self, side: str, overrides: Sequence[str]) -> list[Measured]:
        """Epochs of a side over the median of the baseline's, by stage."""
        return [
            Measured(
                f"ddp/{side}_over_one_{stage}",
                tuple(value / statistics.median(self.seconds["one", stage]) for value in self.seconds[side, stage]),
                "",
                f"an epoch of {stage} with {' '.join(overrides)}, over one of one process that logs to a CSV file",
            )
            for stage in _STAGES
        ]
