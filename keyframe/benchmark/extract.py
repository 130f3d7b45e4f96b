"""The suite `extract`: keyframes of a film with a model, over those without, over its parts, over an older version."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numpy as np

from keyframe.benchmark import Bar, SuiteResult, check_whole_numbers
from keyframe.benchmark.footage import Footage
from keyframe.benchmark.scale import untrained_model
from keyframe.data.reader import VideoReader
from keyframe.extraction.extract import ExtractionSpec, extract_video
from keyframe.pipeline import Scorer, TrainingFree
from keyframe.summary.candidates import Selector
from keyframe.summary.shots import ShotCutter
from keyframe.system import in_child
from keyframe.types import KeyframeError, check_number

# The same extraction by commit 6d3bddf, of which both parts are imported before the clock starts.
_BEFORE = """
import sys, time
from pathlib import Path
from keyframe.benchmark.long import untrained_model
from keyframe.data.pyav_reader import PyAVReader
from keyframe.extraction.video import Settings, extract_video
from keyframe.models.backbone import Backbone
from keyframe.models.detector import KeyframeDetector
from keyframe.models.head import TemporalHead
from keyframe.summary.selection import AdaptiveSelection
from keyframe.summary.shots import KtsShots
video, directory, model, size, window, rate, threads = sys.argv[1:]
make = lambda: KeyframeDetector(Backbone(model, pretrained=False), TemporalHead).eval()
scorer = untrained_model(make, int(size), int(window))
reader, settings = PyAVReader(threads=int(threads)), Settings(rate=float(rate))
start, used = time.perf_counter(), time.process_time()
extract_video(Path(video), Path(directory, "found"), scorer, KtsShots(), AdaptiveSelection(), reader, settings)
print(time.perf_counter() - start, time.process_time() - used)
"""
# Images given to a model at once, as a reader does.
_PIECE = 64

Seconds = tuple[float, float]  # by the clock, and of all cores


@dataclass(frozen=True)
class ExtractSuite:
    """Times whole extractions by turns; the arguments are the node `extract` of conf/benchmark.yaml."""

    shots: ShotCutter
    selector: Selector
    reader: VideoReader
    footage: Footage
    directory: str
    model: str = "efficientnet_b0"
    size: int = 224
    window: int = 60
    rate: float = 2.0
    before: str | None = None
    repeats: int = 3

    def __post_init__(self) -> None:
        check_whole_numbers("extract", self, size=1, window=1, repeats=1)
        check_number("extract.rate", self.rate, 0, whole=False, above=True)
        if self.before is not None and not Path(self.before, "keyframe/extraction/video.py").is_file():
            raise KeyframeError(
                f"extract.before={self.before} is not a checkout of commit 6d3bddf: make one with git worktree add."
            )

    def __call__(self, bar: Bar) -> SuiteResult:
        path = self.footage.write(Path(self.directory).expanduser())
        spec = ExtractionSpec(self.shots, self.selector, self.reader, self.rate)
        model = partial(untrained_model, self.model, self.size, self.window)
        tasks: dict[str, Callable[[], Iterator[Seconds]]] = {
            "model": partial(in_child, partial(_extract, path, spec, model), "the extraction"),
            "free": partial(in_child, partial(_extract, path, spec, TrainingFree), "the extraction"),
            "encoding": partial(
                in_child, partial(_encode, model, round(self.footage.seconds * self.rate), self.size), "the model"
            ),
        }
        if self.before is not None:
            tasks["before"] = partial(self._before, path, self.before)
        rounds = bar([name for _ in range(self.repeats) for name in tasks], "Extracting", self.repeats * len(tasks))
        taken: dict[str, list[Seconds]] = {name: [] for name in tasks}
        for name in rounds:
            taken[name] += tasks[name]()
        return self._result(taken)

    def _result(self, taken: Mapping[str, Sequence[Seconds]]) -> SuiteResult:
        result = SuiteResult("extract")
        used = {name: [cores for _, cores in rounds] for name, rounds in taken.items()}
        texts = {"model": "with a model", "free": "without a model", "encoding": "the model on as many images"}
        texts["before"] = "with a model, by commit 6d3bddf"
        for name, rounds in taken.items():
            result.add(f"seconds_{name}", [clock for clock, _ in rounds], "s", texts[name])
            result.add(f"cpu_seconds_{name}", used[name], "s", f"{texts[name]}, all cores together")
            result.bars[texts[name]] = result[f"cpu_seconds_{name}"]
        result.add_ratio("model_over_free", used["model"], used["free"], "processor time with a model, over without")
        parts = [free + model for free, model in zip(used["free"], used["encoding"], strict=True)]
        result.add_ratio("model_over_parts", used["model"], parts, "the same, over without a model and the model alone")
        if "before" in used:
            meaning = "processor time with a model, over commit 6d3bddf"
            result.add_ratio("model_over_before", used["model"], used["before"], meaning)
        factors = [self.footage.seconds / clock for clock, _ in taken["model"]]
        result.add("realtime_factor", factors, "", "the video's length over the seconds of an extraction with a model")
        footage = self.footage
        result.summary = (
            f"With a model, the keyframes of {footage.seconds / 60:.1f} minutes of {footage.width}x{footage.height} "
            f"take {result['seconds_model']:.0f} s, {result['realtime_factor']:.0f} times as fast as they play."
        )
        result.notes = [
            f"{self.model} with random weights on {self.size}x{self.size} pixels; {self.rate:g} frames per second.",
            "Each extraction runs in a fresh process; ratios are of processor time, which other processes change less.",
        ]
        return result

    def _before(self, video: Path, checkout: str) -> Iterator[Seconds]:
        settings = (self.model, self.size, self.window, self.rate, self.reader.threads)
        environment = {**os.environ, "PYTHONPATH": str(Path(checkout).resolve())}
        with TemporaryDirectory() as place:
            command = [sys.executable, "-c", _BEFORE, str(video.resolve()), place, *map(str, settings)]
            done = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip() or "no message").splitlines()[-1]
            raise KeyframeError(f"extract.before={checkout} cannot extract ({reason}): check out commit 6d3bddf there.")
        clock, cores = done.stdout.split()[-2:]
        yield float(clock), float(cores)


def _extract(video: Path, spec: ExtractionSpec, make_scorer: Callable[[], Scorer]) -> Iterator[Seconds]:
    scorer = make_scorer()
    with TemporaryDirectory() as place:
        start, used = perf_counter(), process_time()
        extract_video(video, Path(place, "found"), spec, scorer)
        yield perf_counter() - start, process_time() - used


def _encode(make_scorer: Callable[[], Scorer], count: int, size: int) -> Iterator[Seconds]:
    """Score so many images, of which no two are equal."""
    scorer = make_scorer()
    images = np.random.default_rng(0).integers(0, 256, (_PIECE, size, size, 3), np.uint8)
    start, used = perf_counter(), process_time()
    pieces = (images[: min(_PIECE, count - first)] for first in range(0, count, _PIECE))
    scorer.score(scorer.see(pieces, count))
    yield perf_counter() - start, process_time() - used
