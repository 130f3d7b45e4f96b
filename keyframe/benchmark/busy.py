"""The suite `busy`: training and extraction beside processes that use every core, over the same alone."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from keyframe.benchmark import Bar, SuiteResult, check_whole_numbers
from keyframe.benchmark.footage import Footage, TrainData
from keyframe.benchmark.train import TRAIN_DATA, epoch_seconds, run_command, time_training
from keyframe.system import cores

_PARTS = {
    "stage1": "an epoch of stage 1",
    "stage2": "an epoch of stage 2",
    "extract": "the command for a video's keyframes with a model",
    "extract_free": "the same without a model",
}


@dataclass(frozen=True)
class BusySuite:
    """Times each part alone and beside others, in turns; the arguments are the node `busy` of conf/benchmark.yaml."""

    footage: Footage
    directory: str
    recipe: Sequence[str]
    videos: int = 4
    epochs: int = 4
    repeats: int = 3

    def __post_init__(self) -> None:
        check_whole_numbers("busy", self, videos=1, epochs=2, repeats=1)

    def __call__(self, bar: Bar) -> SuiteResult:
        """Measure; `bar` shows progress."""
        directory = Path(self.directory).expanduser()
        video = self.footage.write(directory)
        seconds: dict[tuple[str, bool], list[float]] = {}
        tasks = [(number, busy) for number in range(self.repeats) for busy in (False, True)]
        with tempfile.TemporaryDirectory(prefix="keyframe-benchmark-") as place:
            TrainData(self.footage, directory, self.videos).write(Path(place))
            for number, busy in bar(tasks, "Measuring alone and beside others", len(tasks)):
                with burning(cores()) if busy else nullcontext():
                    taken = self._measure(video.absolute(), Path(place), f"{number}-{busy}")
                for part, one in taken.items():
                    seconds.setdefault((part, busy), []).append(one)
        result = SuiteResult("busy")
        add_loads(result, seconds)
        ratios = ", ".join(f"{what} {result[f'{part}_ratio']:.1f} times" for part, what in _PARTS.items())
        result.summary = f"Beside {cores()} processes that use every core it takes {ratios} the time it takes alone."
        result.notes = [
            f"{self.videos} videos of {self.footage.seconds} s at {self.footage.width}x{self.footage.height}; "
            f"recipe: {' '.join(self.recipe)}. The first epoch of each stage is not counted.",
            f"The others are {cores()} processes that calculate without end, at equal priority: a fair share is half.",
        ]
        return result

    def _measure(self, video: Path, place: Path, name: str) -> dict[str, float]:
        """Seconds of each part: the median epoch of each stage, and commands of extraction."""
        length = (f"trainer.max_epochs={2 * self.epochs}", f"finetune.switch_epoch={self.epochs}")
        run = time_training((*self.recipe, *TRAIN_DATA, *length), place, name)
        stages = {"stage1": run.epochs[1 : self.epochs], "stage2": run.epochs[self.epochs + 1 :]}
        seconds = {stage: median(map(epoch_seconds, epochs)) for stage, epochs in stages.items()}
        for part, model in (("extract", f"run={name}"), ("extract_free", "run=null")):
            start = perf_counter()
            run_command(
                "extract", [str(video), model, f"output={part}-{name}", f"hydra.run.dir={part}-{name}-log"], place
            )
            seconds[part] = perf_counter() - start
        return seconds


@contextmanager
def burning(count: int) -> Iterator[None]:
    """Processes that use a core each, until the block ends."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def add_loads(result: SuiteResult, seconds: dict[tuple[str, bool], list[float]]) -> None:
    """Add the ratios, seconds and bars of each part, from its seconds alone (False) and beside others (True)."""
    for part, what in _PARTS.items():
        alone, busy = seconds[part, False], seconds[part, True]
        result.add_ratio(f"{part}_ratio", busy, alone, f"{what} beside others, over alone")
        for name, taken in (("alone", alone), ("busy", busy)):
            result.add(f"seconds_{part}_{name}", taken, "s", f"{what}, {name}")
            result.bars[f"{what}, {name}"] = median(taken)
