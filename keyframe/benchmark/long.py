"""The suite `long`: what time and memory the keyframes of a long video take."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import av

from keyframe.benchmark.child import in_child
from keyframe.benchmark.footage import Footage
from keyframe.benchmark.record import Bar, Measured, SuiteResult
from keyframe.benchmark.resident import resident_mb
from keyframe.data.packets import PacketIndex
from keyframe.data.readers import VideoReader
from keyframe.errors import KeyframeError
from keyframe.extraction.scorers import Scorer, TrainingFree
from keyframe.extraction.video import Settings, ShotCutter, extract_video
from keyframe.summary.candidates import Selector
from keyframe.summary.descriptor import Look
from keyframe.types import FloatArray, IntArray

if TYPE_CHECKING:  # a process that scores without a model needs no torch, and its memory is measured
    from keyframe.models.detector import KeyframeDetector

# What the keyframes of two hours may take in all, Python and torch included.
LIMIT_MB = 1500.0


class Cost(NamedTuple):
    """What an extraction took: seconds, and the peak of its process's memory in MB."""

    seconds: float
    peak_mb: float


class UntrainedModel:
    """Scores as `TrainedModel` does, by a model that comes from no run.

    Args:
        detector: the model.
        size: (height, width) of its pictures.
        window: frames that it sees at once; None for any number.
    """

    name = "an untrained model"
    description: Mapping[str, Any] = {"kind": "untrained model"}
    libraries: Sequence[str] = ("torch", "timm")

    def __init__(self, detector: "KeyframeDetector", size: tuple[int, int], window: int | None) -> None:
        self.detector = detector.eval()
        self.size = size
        self.window = window

    def __call__(
        self, index: PacketIndex, frames: IntArray, look: Look, shots: IntArray, reader: VideoReader
    ) -> FloatArray:
        """Score frames."""
        from keyframe.pipeline import score_video

        return score_video(index.path, self.detector, reader, frames, self.size, self.window, index).values


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
        (decoding,) = in_child(partial(decode, videos[shortest]))
        tasks = [(minutes, scored) for minutes in self.minutes for scored in ("", "_training_free")]
        costs: dict[str, dict[int, Cost]] = {"": {}, "_training_free": {}}
        for minutes, scored in bar(tasks, "Extracting", len(tasks)):
            scorer = TrainingFree if scored else partial(untrained_model, self.detector, self.size, self.window)
            task = partial(
                extract, videos[minutes], scorer, self.shots, self.selector, self.reader, Settings(self.rate)
            )
            (costs[scored][minutes],) = in_child(task)
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


def untrained_model(detector: Callable[[], "KeyframeDetector"], size: int, window: int | None) -> UntrainedModel:
    """A scorer whose model is made with the same random weights every time."""
    import torch

    torch.manual_seed(0)
    return UntrainedModel(detector(), (size, size), window)


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
