"""The suite `scale`: what a video costs when it is one of many."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import NamedTuple

import numpy as np

from keyframe.batch import Job, Recipe, plan, run_local
from keyframe.benchmark.child import in_child
from keyframe.benchmark.copies import write_clips, write_copies
from keyframe.benchmark.footage import Footage
from keyframe.benchmark.record import Bar, Measured, SuiteResult
from keyframe.benchmark.resident import resident_mb
from keyframe.data.readers import VideoReader
from keyframe.errors import KeyframeError
from keyframe.extraction.inputs import find_inputs
from keyframe.extraction.video import ShotCutter
from keyframe.summary.candidates import Selector

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
        recipe = Recipe(self.shots, self.selector, self.reader)
        runs = {}
        for count in self.counts:
            steps = in_child(partial(batch, recipe, clips, count))
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


def batch(recipe: Recipe, clips: Sequence[Path], count: int) -> Iterator[Step]:
    """Do a batch of copies of clips, and start it again: planning, each video, planning again.

    Raises:
        RuntimeError: a video failed, or was done again.
    """
    with TemporaryDirectory() as place:
        videos, output = Path(place, "videos"), Path(place, "found")
        write_copies(clips, videos, count)
        list(run_local(recipe, [Job(clips[0], Path(place, "warm-up"))]))

        start = perf_counter()
        jobs = plan(_found(videos, output), output, recipe)
        yield Step(perf_counter() - start, resident_mb()[0])
        start = perf_counter()
        for outcome in run_local(recipe, [job for job in jobs if isinstance(job, Job)]):
            if outcome.status != "done":
                raise RuntimeError(outcome.notes)
            yield Step(perf_counter() - start, resident_mb()[0])
            start = perf_counter()
        start = perf_counter()
        left = plan(_found(videos, output), output, recipe)
        if any(isinstance(entry, Job) for entry in left):
            raise RuntimeError("a second start would do videos again")
        yield Step(perf_counter() - start, resident_mb()[0])


def _found(videos: Path, output: Path) -> list[Path]:
    """What a command finds in a folder of videos."""
    return [path for path in find_inputs([str(videos)], False, [output]) if isinstance(path, Path)]
