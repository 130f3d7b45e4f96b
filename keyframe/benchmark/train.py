"""The suites `train` and `ddp`: `keyframe-train` timed by part, against a plain loop, no cache, and two processes."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from pytorch_lightning import Callback, LightningModule, Trainer

import keyframe
from keyframe.benchmark import Bar, SuiteResult, check_whole_numbers
from keyframe.benchmark.baselines import train_plainly
from keyframe.benchmark.decode import import_opencv
from keyframe.benchmark.footage import Footage, TrainData
from keyframe.system import cores, in_child, resident_mb
from keyframe.timing import MB, Timer
from keyframe.types import KeyframeError

# Seconds by part.
Epoch = dict[str, float]
# The epochs of stage 1 and of stage 2.
Stages = tuple[Sequence[Epoch], Sequence[Epoch]]

# Together they are all of an epoch.
EPOCH_PARTS = {
    "wait": "waiting for batches",
    "forward": "forward and loss",
    "backward": "backward",
    "step": "clipping and optimizer",
    "validation": "validation",
    "checkpoint": "writing checkpoints, and logs, up to the next epoch",
    "other": "all else",
}
# Where `TrainData` lies, from the directory in which a training runs.
TRAIN_DATA = ("data.root=.", "data.labels=labels.tsv", "data.splits=splits.json", "callbacks.curves=null")


def epoch_seconds(epoch: Epoch) -> float:
    """Seconds of a whole epoch."""
    return sum(epoch.get(part, 0.0) for part in EPOCH_PARTS)


def _lap(part: str) -> Callable[..., None]:
    def hook(self: "EpochTimer", *args: Any) -> None:
        if self.training:
            self.timer.lap(part)

    return hook


class EpochTimer(Callback):
    """Writes one line of JSON per epoch: its seconds by `EPOCH_PARTS`, from its start to the start of the next.

    The first line, `{"before": seconds}`, is all up to the first epoch; the last, `{"after": seconds}`, all from the
    last epoch to the end of the test, and with it the process's peak memory, `peak_mb`.
    """

    on_train_batch_start = _lap("wait")
    on_before_backward = _lap("forward")
    on_after_backward = _lap("backward")
    on_train_batch_end = _lap("step")
    on_validation_start = on_train_epoch_end = _lap("other")  # the latter comes before checkpoints
    on_validation_end = _lap("validation")

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.timer = Timer()
        self.training = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, "checkpoint" if self.training else "before")
        self.training = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, "checkpoint")
        self.training = False

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, "after")

    def _write(self, trainer: Trainer, part: str) -> None:
        self.timer.lap(part)
        line = self.timer.collect()
        if part == "after":
            line["peak_mb"] = resident_mb()[1]
        if trainer.is_global_zero:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


class Trained(NamedTuple):
    """Seconds of `keyframe-train`, without starting Python and building the model; see `EpochTimer`."""

    before: float
    epochs: list[Epoch]
    after: float
    peak_mb: float = 0.0  # of memory


def time_training(overrides: Sequence[str], directory: Path, name: str) -> Trained:
    """Run `keyframe-train` in a process of its own, in a directory, where its run directory gets the name."""
    times = f"{name}-times.jsonl"
    timed = ("+callbacks.timer._target_=keyframe.benchmark.train.EpochTimer", f"+callbacks.timer.path={times}")
    run_command("train", [*overrides, *timed, f"hydra.run.dir={name}"], directory)
    before, *epochs, after = map(json.loads, (directory / times).read_text(encoding="utf-8").splitlines())
    return Trained(before["before"], epochs, after["after"], after["peak_mb"])


def run_command(name: str, arguments: Sequence[str], directory: Path) -> None:
    """Run `keyframe-<name>` in a process of its own, in a directory."""
    script = directory / f"keyframe-{name}"  # a file, so that ranks can be started like it, and workers can import it
    script.write_text(
        f"from keyframe.cli.main import {name}\n\nif __name__ == '__main__':\n    {name}()\n", encoding="utf-8"
    )
    package = str(Path(keyframe.__file__).parents[1])
    python_path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": python_path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise KeyframeError(f"The keyframe-{name} that was measured failed ({' '.join(words)}).")


class Side(NamedTuple):
    """One way to train, measured."""

    stages: Stages  # the epochs that were run and count
    once: dict[str, float]  # what a whole training takes besides epochs, seconds by name
    totals: list[float]  # seconds of a whole training, one per round


def multiplied(stages: Stages, once: dict[str, float], epochs: tuple[int, int]) -> Side:
    """A side of which a few epochs of each stage were run; a whole training has `epochs` of each."""
    pairs = zip(*stages, strict=True)
    seconds = [epochs[0] * epoch_seconds(first) + epochs[1] * epoch_seconds(second) for first, second in pairs]
    return Side(stages, once, [each + sum(once.values()) for each in seconds])


@dataclass(frozen=True)
class Contest:
    """A backbone on frames of a size, as conf/benchmark.yaml describes it; `name` ends the names of its figures."""

    name: str
    backbone: str
    width: int
    height: int
    uncached: bool = False

    def __str__(self) -> str:
        return f"{self.backbone}, {self.width}x{self.height}"


@dataclass(frozen=True)
class TrainSuite:
    """Times a training with the cache, and epochs of the plain loop, before and after it, and of ours without a cache.

    The arguments are those of the node `train` in conf/benchmark.yaml.
    """

    footage: str
    contests: Sequence[Mapping[str, Any]]
    recipe: Sequence[str]
    cached: Sequence[str]
    uncached: Sequence[str]
    videos: int = 4
    seconds: int = 240
    epochs: int = 30
    switch_epoch: int = 10
    rounds: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole_numbers("train", self, videos=1, seconds=40, epochs=2, switch_epoch=1, rounds=1)
        if self.switch_epoch >= self.epochs:
            raise ValueError(f"switch_epoch must be from 1 to {self.epochs - 1}, not {self.switch_epoch}")
        for entry in self.contests:
            self._data(Contest(**entry))

    def __call__(self, bar: Bar) -> SuiteResult:
        import_opencv()
        contests = [Contest(**entry) for entry in self.contests]
        result = SuiteResult("train", notes=self._notes())
        steps = sum(2 * self.rounds + 4 + contest.uncached for contest in contests)
        measuring = chain.from_iterable(self._measure(contest, result) for contest in contests)
        for _ in bar(measuring, "Training", steps):
            pass
        # ratios first
        result.figures = dict(sorted(result.figures.items(), key=lambda pair: pair[1].unit != ""))
        parts = []
        for contest in contests:
            plain, cached = (result.bars[f"{side} {contest.name}"] for side in ("plain", "cached"))
            speedup = f"{plain / cached:.1f} times as fast as the plain loop ({plain:.0f} s)"
            parts.append(f"{contest} {cached:.0f} s, {speedup}")
        result.summary = f"{self.epochs} epochs in two stages with the cache: {'; '.join(parts)}."
        return result

    def _data(self, contest: Contest) -> TrainData:
        footage = Footage(self.seconds, contest.width, contest.height, seed=self.seed)
        return TrainData(footage, Path(self.footage).expanduser(), self.videos)

    def _measure(self, contest: Contest, result: SuiteResult) -> Iterator[object]:
        """Run all sides of a contest and add its figures; yield after each step."""
        sides: dict[str, Side] = {}
        plain: dict[str, list[Epoch]] = {}
        what = (*self.recipe, f"backbone={contest.backbone}", "backbone.pretrained=false")
        ours = (*what, *TRAIN_DATA, "logger=csv")
        switch, rest = self.switch_epoch, self.epochs - self.switch_epoch
        with tempfile.TemporaryDirectory(prefix="keyframe-benchmark-") as place:
            directory = Path(place)
            videos = self._data(contest).write(directory)
            task = partial(train_plainly, what, videos, self.rounds, directory / "plain.pt")
            with closing(in_child(task, "the plain loop")) as items:
                for name, seconds in islice(items, 1 + 2 * (self.rounds - self.rounds // 2)):
                    plain.setdefault(name, []).append(seconds)
                    yield name
                if contest.uncached:
                    # one epoch more, in which the workers start
                    few = (f"trainer.max_epochs={1 + 2 * self.rounds}", f"finetune.switch_epoch={1 + self.rounds}")
                    overrides = (*ours, *few, *self.uncached, f"data.workers={cores()}")
                    run = time_training(overrides, directory, "uncached")
                    first, *epochs = run.epochs
                    once = {"before": run.before, "first": epoch_seconds(first), "after": run.after}
                    stages = epochs[: self.rounds], epochs[self.rounds :]
                    yield sides.setdefault("uncached", multiplied(stages, once, (switch - 1, rest)))
                length = (f"trainer.max_epochs={self.epochs}", f"finetune.switch_epoch={switch}")
                run = time_training((*ours, *length, *self.cached), directory, "cached")
                once = {"before": run.before, "after": run.after}
                stages = run.epochs[:switch], run.epochs[switch:]
                total = sum(once.values()) + sum(map(epoch_seconds, run.epochs))
                yield sides.setdefault("cached", Side(stages, once, [total]))
                for name, seconds in items:
                    plain.setdefault(name, []).append(seconds)
                    yield name
        sides["plain"] = multiplied((plain["stage1"], plain["stage2"]), plain["test"][0], (switch, rest))
        reading = plain["reading"][0]
        result.notes.append(
            f"{contest}: one pass with OpenCV took {reading['sequential'] / reading['seek']:.2f} of the time of seeks; "
            "the plain loop reads in the faster way."
        )
        add_sides(result, contest, sides, plain["model"][0], self.videos)

    def _notes(self) -> list[str]:
        before, rest = self.rounds - self.rounds // 2, self.epochs - self.switch_epoch
        return [
            f"All sides train on {self.videos} copies of a video, validate and write a checkpoint after every epoch, "
            f"and test. Overrides of keyframe-train for all sides: {' '.join(self.recipe)}.",
            f"With the cache all {self.epochs} epochs ran, from an empty cache; building the model counts on no side.",
            f"The plain loop ran {self.rounds} of each stage's epochs, {before} before ours and {self.rounds - before} "
            f"after; they are multiplied: {self.switch_epoch} times stage 1, {rest} times stage 2, and one test.",
            "It trains the same model by the same recipe, with one worker per core that opens each video with OpenCV "
            "in every epoch. The whole backbone runs in every step, its frozen part without gradients.",
            f"Without a cache {self.rounds} of each stage's epochs ran, after one in which one worker per core "
            "started; they are multiplied, and what is done once is added.",
        ]


def add_sides(
    result: SuiteResult, contest: Contest, sides: Mapping[str, Side], model: Mapping[str, float], videos: int
) -> None:
    """Add the figures and bars of a contest; `model` has the seconds of its parts per batch, see `train_plainly`."""
    is_first = not result.figures
    name, cached, plain = contest.name, sides["cached"], sides["plain"]
    (total,) = cached.totals
    first, second = (median(map(epoch_seconds, epochs)) for epochs in cached.stages)
    epochs_ = sum(map(len, cached.stages))

    def add(key: str, values: float | Iterable[float], unit: str, meaning: str) -> None:
        result.add(key, values, unit, f"{contest}: {meaning}")

    meaning = f"{epochs_} plain epochs over as many with the cache, the filling of the cache included"
    add(f"speedup_over_plain_{name}", [seconds / total for seconds in plain.totals], "", meaning)
    meaning = "a plain epoch of stage 1 over one with the cache, validation and checkpoints included"
    key = "stage1_epoch_speedup" if is_first else f"stage1_epoch_speedup_{name}"
    add(key, [epoch_seconds(epoch) / first for epoch in plain.stages[0]], "", meaning)
    if "uncached" in sides:
        meaning = f"{epochs_} epochs of our own training without a cache over as many with it"
        add("speedup_over_uncached", [seconds / total for seconds in sides["uncached"].totals], "", meaning)
    for part in ("tail_forward", "tail_backward"):
        what = f"{part.replace('_', ' ')} of the training videos, measured alone, in a cached epoch of stage 2"
        add(f"{part}_share_of_stage2_{name}", model[part] * videos / model["videos"] / second, "", what)

    ways = {
        "plain": f"the plain loop, {epochs_} epochs, multiplied",
        "uncached": f"ours without a cache, {epochs_} epochs, multiplied",
        "cached": f"ours with the cache, all {epochs_} epochs",
    }
    for side in filter(sides.__contains__, ways):
        add(f"seconds_{side}_{name}", sides[side].totals, "s", ways[side])
        result.bars[f"{side} {name}"] = median(sides[side].totals)
    for when, what in {
        "before": "before the first epoch: decoding and encoding once",
        "after": "after the last epoch: the best checkpoint is measured",
    }.items():
        add(f"seconds_cached_{when}_{name}", cached.once[when], "s", f"of it {what}")
    for side, measured in sides.items():
        for stage, epochs in enumerate(measured.stages, 1):
            begin = f"seconds_{side}_stage{stage}_epoch"
            add(f"{begin}_{name}", map(epoch_seconds, epochs), "s", f"an epoch of stage {stage}, {side}")
            parts = {part: f"of it {what}" for part, what in EPOCH_PARTS.items()}
            if side == "plain":
                parts["decode"] = "of all workers, most of it while others wait"
            for part, what in parts.items():
                add(f"{begin}_{part}_{name}", [epoch.get(part, 0.0) for epoch in epochs], "s", what)
    for part in [part for part in model if part != "videos"]:
        meaning = f"{part.replace('_', ' ')} of one batch, measured alone"
        add(f"seconds_model_{part}_{name}", model[part], "s", meaning)


@dataclass(frozen=True)
class DdpSuite:
    """Times epochs from a filled cache on several sides; the arguments are the node `ddp` of conf/benchmark.yaml."""

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
        check_whole_numbers("ddp", self, videos=1, seconds=40, epochs=2, rounds=1)
        self._data()

    def __call__(self, bar: Bar) -> SuiteResult:
        result = SuiteResult("ddp")
        seconds: dict[tuple[str, int], list[float]] = {}
        with tempfile.TemporaryDirectory(prefix="keyframe-benchmark-") as place:
            directory = Path(place)
            self._data().write(directory)
            length = (f"trainer.max_epochs={2 * self.epochs}", f"finetune.switch_epoch={self.epochs}")
            tasks = [(number, side) for number in range(self.rounds) for side in self.sides]
            for number, side in bar(tasks, "Training", len(tasks)):
                overrides = (*self.recipe, *TRAIN_DATA, *length, *self.sides[side])
                run = time_training(overrides, directory, f"{side}{number}")
                for stage, epochs in ((1, run.epochs[: self.epochs]), (2, run.epochs[self.epochs :])):
                    seconds.setdefault((side, stage), []).extend(map(epoch_seconds, epochs[1:]))
            one = directory / f"one{self.rounds - 1}"
            whole_mb = sum(path.stat().st_size for path in one.rglob("*") if path.is_file()) / MB
            checkpoint_mb = (one / "checkpoints" / "last.ckpt").stat().st_size / MB

        middle = {key: median(values) for key, values in seconds.items()}
        for (side, stage), values in seconds.items():
            if side != "one":
                ratios = [value / middle["one", stage] for value in values]
                meaning = f"with {' '.join(self.sides[side])}, over one of one process that logs to a CSV file"
                result.add(f"{side}_over_one_stage{stage}", ratios, "", f"an epoch of stage{stage} {meaning}")
        for (side, stage), values in seconds.items():
            result.add(f"seconds_{side}_stage{stage}_epoch", values, "s", f"an epoch of stage{stage}, {side}")
            result.bars[f"{side}, stage{stage}"] = middle[side, stage]
        result.add("run_directory_mb", whole_mb, "MB", "all that a run of one process leaves")
        result.add("checkpoint_mb", checkpoint_mb, "MB", "its last checkpoint, optimizer included")
        share = middle["ranks", 2] / middle["one", 2]
        result.summary = f"In stage 2 two processes on {cores()} cores take {share:.2f} of the time of one."
        result.notes = [
            f"{self.videos} videos in all; recipe: {' '.join(self.recipe)}. A rank is a process on the CPU; "
            "gradients go over gloo.",
            f"One process has all {cores()} cores as well: this is the overhead of processes, not a speed-up by GPUs.",
            "An epoch holds its validation and its checkpoints; videos are encoded before the first.",
        ]
        return result

    def _data(self) -> TrainData:
        footage = Footage(self.seconds, self.width, self.height, seed=self.seed)
        return TrainData(footage, Path(self.footage).expanduser(), self.videos, held_out=2)
