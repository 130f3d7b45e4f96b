"""The suite `ddp`: training in two processes against one, and what trackers and checkpoints cost a run."""

import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keyframe.benchmark.cost import MB
from keyframe.benchmark.our_training import Trained, train
from keyframe.benchmark.record import Bar, Measured, SuiteResult
from keyframe.benchmark.train_data import TrainData
from keyframe.cores import cores

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
            common = (*self.recipe, *where, *length, "callbacks.pictures=null")
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
