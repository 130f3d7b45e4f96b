"""The suites `engine` and `growth`: jobs that do nothing, longer features, more annotators, and the power of each."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import torch
from torch import nn

from keyframe.benchmark import Bar, SuiteResult, check_rising, check_whole_numbers
from keyframe.benchmark.evaluate import EvaluateSuite
from keyframe.benchmark.scale import Cost, add_growth
from keyframe.data.reader import VideoReader
from keyframe.extraction.engines import VideoJob, VideoResult, run_local
from keyframe.extraction.extract import ExtractionSpec
from keyframe.extraction.ray_engine import RayEngine
from keyframe.summary.candidates import Selector
from keyframe.summary.shots import ShotCutter
from keyframe.system import in_child, resident_mb
from keyframe.timing import added_peak_mb, in_turns

Engine = Callable[[ExtractionSpec, Sequence[VideoJob], int], Iterator[VideoResult]]


@dataclass(frozen=True)
class EngineSuite:
    """Times jobs whose video is missing, so that they end at once; the arguments are a node of conf/benchmark.yaml."""

    shots: ShotCutter
    selector: Selector
    reader: VideoReader
    counts: Sequence[int] = (1000, 10_000, 100_000)
    ray_counts: Sequence[int] = (100, 1000)
    workers: int = 2

    def __post_init__(self) -> None:
        check_whole_numbers("engine", self, counts=1, ray_counts=1, workers=1)
        check_rising("engine.counts", self.counts, "[1000,100000]")
        check_rising("engine.ray_counts", self.ray_counts, "[100,1000]")

    def __call__(self, bar: Bar) -> SuiteResult:
        result = SuiteResult("engine")
        spec = ExtractionSpec(self.shots, self.selector, self.reader)
        sides: dict[str, tuple[Callable[[], Engine], int, Sequence[int]]] = {
            "local": (_local, 1, self.counts),
            "workers": (_local, self.workers, self.counts),
        }
        if all(find_spec(name) for name in ("ray", "pyarrow", "pandas")):
            sides["ray"] = RayEngine, self.workers, self.ray_counts
        else:
            result.notes.append("Ray is not installed: it is left out.")
        tasks = [(side, count) for side, (_, _, counts) in sides.items() for count in counts]
        costs: dict[str, dict[int, Cost]] = {side: {} for side in sides}
        for side, count in bar(tasks, "Doing jobs", len(tasks)):
            make, workers, _ = sides[side]
            (costs[side][count],) = in_child(partial(_do, spec, make, count, workers), "the engine")
        for side, by_count in costs.items():
            most = max(by_count)
            add_growth(result, side, by_count, f"jobs that do nothing, by {side}")
            result.add(f"seconds_a_job_{side}", by_count[most].seconds / most, "s", f"one of {most} jobs by {side}")
            result.bars[f"{most} jobs by {side}"] = by_count[most].seconds
        most = self.counts[-1]
        local, by_workers = (1e6 * result[f"seconds_a_job_{side}"] for side in ("local", "workers"))
        result.summary = (
            f"A job of {self.counts[-1]} that do nothing takes the processor {local:.0f} microseconds in one process "
            f"and {by_workers:.0f} by {self.workers} workers."
        )
        result.notes += [
            "The video of each job is missing, so that it fails at once. The start of workers, and of Ray, counts.",
            "Seconds are of the processor, of this process and its workers; Ray's are on the clock.",
            "Memory is what this process adds at its peak, the results of all jobs kept, as the command keeps them.",
        ]
        return result


def _local() -> Engine:
    return run_local


def _do(spec: ExtractionSpec, make: Callable[[], Engine], count: int, workers: int) -> Iterator[Cost]:
    """Yield seconds of all jobs, and what they add to memory at its peak."""
    with TemporaryDirectory() as place:
        jobs = [VideoJob(Path(place, f"{number}.mp4"), Path(place, str(number))) for number in range(count)]
        engine = make()
        clock = perf_counter if isinstance(engine, RayEngine) else lambda: process_time() + sum(os.times()[2:4])
        before, start = resident_mb()[0], clock()
        results = list(engine(spec, jobs, workers))
        seconds = clock() - start
    if len(results) != count or any(one.status != "failed" for one in results):
        raise RuntimeError(f"{len(results)} of {count} jobs have ended")
    yield Cost(seconds, resident_mb()[1] - before)


@dataclass(frozen=True)
class GrowthSuite:
    """Times heads on longer videos, and evaluations by more annotators; the arguments are of conf/benchmark.yaml."""

    heads: Mapping[str, Callable[..., nn.Module]]  # built with `features`
    evaluation: EvaluateSuite
    lengths: Sequence[int] = (60, 470, 5000)  # frames
    annotators: Sequence[int] = (5, 20, 80)
    features: int = 1280
    repeats: int = 3

    def __post_init__(self) -> None:
        check_whole_numbers("growth", self, lengths=1, annotators=1, features=1, repeats=1)
        check_rising("growth.lengths", self.lengths, "[60,470,5000]")
        check_rising("growth.annotators", self.annotators, "[5,20,80]")

    def __call__(self, bar: Bar) -> SuiteResult:
        result = SuiteResult("growth")
        for name in bar(self.heads, "Scoring features", len(self.heads)):
            costs = {}
            for length in self.lengths:
                (costs[length],) = in_child(partial(self._score, name, length), "the head")
            add_growth(result, name, costs, f"frames by the head {name}")
            result.bars[f"{self.lengths[-1]} frames by {name}"] = costs[self.lengths[-1]].seconds
        people = {}
        for count in bar(self.annotators, "Evaluating", len(self.annotators)):
            suite = replace(self.evaluation, annotators=count)
            *_, (seconds, peak) = in_child(suite.evaluation, "the evaluation")
            people[count] = Cost(sum(seconds.values()), peak)
        add_growth(result, "evaluation", people, "annotators")
        result.summary = "Exponents of time: " + ", ".join(
            f"{name} {result[f'exponent_{name}']:.2f}" for name in (*self.heads, "evaluation")
        )
        result.summary += "."
        result.notes = [
            f"Heads score one video of {self.features} channels in evaluation mode; memory is what that adds.",
            f"Evaluations are of {self.evaluation.videos} videos of {self.evaluation.frames} frames; memory is of the "
            "process.",
            "An exponent is the slope of log time over log size by least squares: 1 is in proportion.",
        ]
        return result

    @torch.inference_mode()
    def _score(self, name: str, length: int) -> Iterator[Cost]:
        head = self.heads[name](features=self.features).eval()
        features = torch.randn(1, length, self.features, generator=torch.Generator().manual_seed(0))
        peak = added_peak_mb(partial(head, features))
        yield Cost(min(in_turns({"head": partial(head, features)}, self.repeats)["head"]), peak)
