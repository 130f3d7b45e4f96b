"""How long each part of a training with Lightning takes, written down as it goes on.

`keyframe-train` in a process of its own, and what each part of it takes.

What the sides of a contest in training took, as figures.

The suite `train`: two-stage training with the cache, against training as people write it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

import keyframe
from keyframe.benchmark.baselines import PlainTraining, require_opencv
from keyframe.benchmark.footage import TrainData
from keyframe.benchmark.report import Bar, Measured, SuiteResult
from keyframe.system import cores, in_child
from keyframe.timing import Timer
from keyframe.types import KeyframeError


class EpochTimer(Callback):
    """Writes a line of JSON an epoch: its seconds by part, which add up to the time from one epoch to the next.

    Parts are `wait` (for the next batch), `forward`, `backward`, `step` (clipping and optimizer), `validation`,
    `checkpoint` (and what loggers write, up to the next epoch), and `other` (what callbacks do before that). The first
    line, `{"before": seconds}`, is all from this object's making to the first epoch, where videos are found, decoded
    and encoded; the last, `{"after": seconds}`, all from the last epoch to the end of the test.

    Args:
        path: the file.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._laps = Timer()
        self._training = False
        self._writes = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Of several ranks the first alone writes."""
        self._writes = trainer.is_global_zero

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """One epoch is over, the next begins."""
        self._close()
        self._training = True

    def on_train_batch_start(self, *args: Any) -> None:
        """The batch is there."""
        self._lap("wait")

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """The loss is there."""
        self._lap("forward")

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The gradient is there."""
        self._lap("backward")

    def on_train_batch_end(self, *args: Any) -> None:
        """The weights have changed."""
        self._lap("step")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All batches have been trained on."""
        self._lap("other")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All videos are measured."""
        self._lap("validation")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checkpoints are written next: Lightning calls their callbacks last."""
        self._lap("other")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last epoch is over."""
        self._close()
        self._training = False

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The test is over."""
        self._laps.lap("after")
        self._write(self._laps.collect())

    def _lap(self, part: str) -> None:
        if self._training:
            self._laps.lap(part)

    def _close(self) -> None:
        self._laps.lap("checkpoint" if self._training else "before")
        self._write(self._laps.collect())

    def _write(self, seconds: dict[str, float]) -> None:
        if self._writes:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(seconds) + "\n")


@dataclass(frozen=True)
class Trained:
    """How long a training took.

    Attributes:
        before: seconds from the making of its callbacks to the first epoch: videos are found, decoded and encoded.
            Starting Python and building the model is not in it.
        epochs: of each, its seconds by part; see `keyframe.benchmark.train`.
        after: seconds from the last epoch to the end of the test.
    """

    before: float
    epochs: list[dict[str, float]]
    after: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.before + sum(sum(epoch.values()) for epoch in self.epochs) + self.after


def train(overrides: Sequence[str], directory: Path, name: str) -> Trained:
    """Run `keyframe-train`.

    Args:
        overrides: of its configuration; relative paths are below the directory.
        directory: where it runs, and writes its run directory.
        name: of that.

    Raises:
        KeyframeError: it failed, in its own words.
    """
    laps = f"{name}-laps.jsonl"
    timed = ("+callbacks.laps._target_=keyframe.benchmark.train.EpochTimer", f"+callbacks.laps.path={laps}")
    package = str(Path(keyframe.__file__).parents[1])
    python_path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "keyframe.cli.train", *overrides, *timed, f"hydra.run.dir={name}"],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": python_path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise KeyframeError(f"The training that was measured failed ({' '.join(words)}).")
    lines = [json.loads(line) for line in (directory / laps).read_text(encoding="utf-8").splitlines()]
    (before, *epochs, after) = lines
    return Trained(before["before"], epochs, after["after"])


# Of an epoch, with what each is; together they are all of it.
PARTS = {
    "wait": "waiting for batches",
    "forward": "forward and loss",
    "backward": "backward",
    "step": "clipping and optimizer",
    "validation": "validation",
    "checkpoint": "writing checkpoints, and logs, up to the next epoch",
    "other": "all else",
}


@dataclass(frozen=True)
class Contest:
    """What is trained on which pictures.

    Attributes:
        name: ends the names of its figures.
        backbone: as of `keyframe-train`.
        width: of the source's pictures in pixels.
        height: of the source's pictures in pixels.
        uncached: whether our training without a cache is measured too.
    """

    name: str
    backbone: str
    width: int
    height: int
    uncached: bool = False

    def __str__(self) -> str:
        return f"{self.backbone}, {self.width}x{self.height}"


@dataclass
class Outcome:
    """What a contest took.

    Attributes:
        contest: what was measured.
        videos: trained on.
        epochs: of a whole training.
        switch_epoch: how many of them are of stage 1.
        plain: what `PlainTraining` yields, by name.
        cached: our whole training.
        uncached: a few epochs of ours; the first is one more than counts.
    """

    contest: Contest
    videos: int
    epochs: int
    switch_epoch: int
    plain: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    cached: Trained = field(default_factory=lambda: Trained(0.0, [], 0.0))
    uncached: Trained | None = None

    def add_plain(self, items: Iterable[tuple[str, dict[str, float]]]) -> Iterator[str]:
        """Keep what comes of the plain loop, and yield the name of each."""
        for name, seconds in items:
            self.plain.setdefault(name, []).append(seconds)
            yield name

    def stages(self) -> dict[str, tuple[list[dict[str, float]], list[dict[str, float]]]]:
        """The epochs of stage 1 and of stage 2 by side, their seconds by part."""
        sides = {
            "plain": (self.plain["stage1"], self.plain["stage2"]),
            "cached": (self.cached.epochs[: self.switch_epoch], self.cached.epochs[self.switch_epoch :]),
        }
        if self.uncached is not None:
            counted = self.uncached.epochs[1:]
            half = len(counted) // 2
            sides["uncached"] = (counted[:half], counted[half:])
        return sides

    def plain_totals(self) -> list[float]:
        """Seconds of a whole plain training, by the epochs of each round, and one test."""
        return [total + self.plain["test"][0]["test"] for total in self._multiplied("plain", 0)]

    def uncached_totals(self) -> list[float]:
        """Seconds of a whole training of ours without a cache, by the epochs of each round."""
        if self.uncached is None:
            return []
        once = self.uncached.before + whole(self.uncached.epochs[0]) + self.uncached.after
        return [total + once for total in self._multiplied("uncached", 1)]

    def totals(self) -> dict[str, float]:
        """Seconds of a whole training by side."""
        sides = {"plain": self.plain_totals(), "uncached": self.uncached_totals(), "cached": [self.cached.seconds]}
        return {side: float(np.median(seconds)) for side, seconds in sides.items() if seconds}

    def _multiplied(self, side: str, already: int) -> list[float]:
        first, second = self.stages()[side]
        counts = self.switch_epoch - already, self.epochs - self.switch_epoch
        return [counts[0] * whole(a) + counts[1] * whole(b) for a, b in zip(first, second, strict=True)]


def whole(epoch: dict[str, float]) -> float:
    """Seconds of an epoch."""
    return sum(epoch.get(part, 0.0) for part in PARTS)


def figures_of(outcomes: Sequence[Outcome]) -> list[Measured]:
    """All figures of the suite; those that matter most come first."""
    first = outcomes[0]
    ratios = [figure for outcome in outcomes for figure in _ratios(outcome, is_first=outcome is first)]
    return [*ratios, *(figure for outcome in outcomes for figure in _seconds(outcome))]


def _ratios(outcome: Outcome, is_first: bool) -> Iterator[Measured]:
    contest, cached = outcome.contest, outcome.cached.seconds
    name = contest.name
    yield Measured(
        f"train/speedup_over_plain_{name}",
        tuple(seconds / cached for seconds in outcome.plain_totals()),
        "",
        f"{contest}: {outcome.epochs} plain epochs over as many with the cache, the filling of the cache included",
    )
    ours = float(np.median([whole(epoch) for epoch in outcome.stages()["cached"][0]]))
    yield Measured(
        "train/stage1_epoch_speedup" + ("" if is_first else f"_{name}"),
        tuple(whole(epoch) / ours for epoch in outcome.plain["stage1"]),
        "",
        f"{contest}: a plain epoch of stage 1 over one with the cache, validation and checkpoints included",
    )
    if totals := outcome.uncached_totals():
        yield Measured(
            "train/speedup_over_uncached",
            tuple(seconds / cached for seconds in totals),
            "",
            f"{contest}: {outcome.epochs} epochs of our own training without a cache over as many with it",
        )
    second = float(np.median([whole(epoch) for epoch in outcome.stages()["cached"][1]]))
    model = outcome.plain["model"][0]
    for part in ("tail_forward", "tail_backward"):
        yield Measured(
            f"train/{part}_share_of_stage2_{name}",
            (model[part] * outcome.videos / model["videos"] / second,),
            "",
            f"{contest}: {part.replace('_', ' ')} of the training videos, measured alone, in a cached epoch of stage 2",
        )


def _seconds(outcome: Outcome) -> Iterator[Measured]:
    name = outcome.contest.name

    def figure(key: str, values: Iterable[float], meaning: str) -> Measured:
        return Measured(f"train/seconds_{key}_{name}", tuple(values), "s", f"{outcome.contest}: {meaning}")

    yield figure("plain", outcome.plain_totals(), f"the plain loop, {outcome.epochs} epochs, multiplied")
    if totals := outcome.uncached_totals():
        yield figure("uncached", totals, f"ours without a cache, {outcome.epochs} epochs, multiplied")
    yield figure("cached", [outcome.cached.seconds], f"ours with the cache, all {outcome.epochs} epochs")
    yield figure("cached_before", [outcome.cached.before], "of it before the first epoch: decoding and encoding once")
    yield figure("cached_after", [outcome.cached.after], "of it after the last epoch: the best checkpoint is measured")
    for side, stages in outcome.stages().items():
        for stage, epochs in enumerate(stages, 1):
            begin = f"{side}_stage{stage}_epoch"
            yield figure(begin, map(whole, epochs), f"an epoch of stage {stage}, {side}")
            for part, what in PARTS.items():
                yield figure(f"{begin}_{part}", _values(epochs, part), f"of it {what}")
            if side == "plain":
                yield figure(
                    f"{begin}_decode", _values(epochs, "decode"), "of all workers, most of it while others wait"
                )
    for part, seconds in outcome.plain["model"][0].items():
        if part != "videos":
            yield figure(f"model_{part}", [seconds], f"{part.replace('_', ' ')} of one batch, measured alone")


def _values(epochs: Sequence[dict[str, float]], part: str) -> list[float]:
    return [epoch.get(part, 0.0) for epoch in epochs]


def summary_of(outcomes: Sequence[Outcome]) -> str:
    """The sentence that matters most."""
    parts = []
    for outcome in outcomes:
        totals = outcome.totals()
        parts.append(
            f"{outcome.contest} {totals['cached']:.0f} s, {totals['plain'] / totals['cached']:.1f} times as fast as "
            f"the plain loop ({totals['plain']:.0f} s)"
        )
    return f"{outcomes[0].epochs} epochs in two stages with the cache: {'; '.join(parts)}."


def notes_of(outcomes: Sequence[Outcome], rounds: int, recipe: Sequence[str]) -> list[str]:
    """How it was measured."""
    first = outcomes[0]
    stage_1, stage_2 = first.switch_epoch, first.epochs - first.switch_epoch
    tried = [(outcome.contest, outcome.plain["ways"][0]) for outcome in outcomes]
    ways = [f"{way['sequential'] / way['seek']:.2f} for {contest.width}x{contest.height}" for contest, way in tried]
    notes = [
        f"All sides train on the same {first.videos} videos, validate on one more and write a checkpoint after every "
        "epoch, and test on another in the end; nobody draws pictures. The videos are copies of one, each another file "
        "to a cache, and weights are random: time does not depend on what is seen or learned. "
        f"Overrides of keyframe-train for all sides: {' '.join(recipe)}.",
        f"With the cache the command keyframe-train ran all {first.epochs} epochs, from an empty cache. Its time is "
        "from the first look at the videos to the end of the test: on no side does starting Python or building the "
        "model count.",
        f"The plain loop ran {rounds} of each stage's epochs, {rounds - rounds // 2} before ours and {rounds // 2} "
        f"after; they are multiplied: {stage_1} times stage 1, {stage_2} times stage 2, and one test.",
        "The plain loop trains this model (same backbone, head, loss, optimizer, clipping, batches) from a DataLoader "
        "with as many persistent workers as there are cores. They open each video with OpenCV in every epoch and read "
        "it in one pass (grab; only wanted frames are converted) or by a seek a frame, whichever is faster: one pass "
        f"took {', '.join(ways)} of the time of seeks. The whole backbone runs in every step, channels_last, its "
        "frozen part without gradients.",
    ]
    if first.uncached is not None:
        notes.append(
            f"Without a cache keyframe-train ran {rounds} of each stage's epochs, with as many workers as there are "
            "cores, after one more in which the workers start; they are multiplied, and what is done once (videos "
            "checked, features' statistics, the test) is added."
        )
    return notes


@dataclass(frozen=True)
class TrainSuite:
    """Times a whole training with the cache, epochs of the plain loop, and epochs of ours without a cache.

    Each side runs in a process of its own, one after the other, ours as the command `keyframe-train`. All of them
    train on the same videos by the same overrides. Half of the plain loop's rounds come before our trainings (of one
    round, that one), half after them.

    Args:
        footage: the folder in which videos are kept.
        contests: what is trained on which pictures: the attributes of `Contest`.
        recipe: overrides of `keyframe-train` for all sides.
        cached: further ones with the cache.
        uncached: further ones without.
        videos: to train on; one more validates, one more is tested.
        seconds: length of each.
        epochs: of a whole training.
        switch_epoch: first epoch (from 0) of stage 2.
        rounds: epochs of each stage that are run, and multiplied, where not all are.
        seed: of the footage.

    Raises:
        ValueError: if a stage has no epoch.
        TypeError: if a contest has other attributes.
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
        if not 0 < self.switch_epoch < self.epochs:
            raise ValueError(f"switch_epoch must be from 1 to {self.epochs - 1}, not {self.switch_epoch}")
        for entry in self.contests:
            Contest(**entry)

    def __call__(self, bar: Bar) -> SuiteResult:
        """Measure; `bar` shows progress."""
        require_opencv()
        outcomes = [Outcome(Contest(**entry), self.videos, self.epochs, self.switch_epoch) for entry in self.contests]
        steps = sum(2 * self.rounds + 5 + outcome.contest.uncached for outcome in outcomes)
        for _ in bar(self._measure(outcomes), "Training", steps):
            pass
        return SuiteResult(
            name="train",
            summary=summary_of(outcomes),
            figures=figures_of(outcomes),
            bars={
                f"{side} {outcome.contest.name}": seconds
                for outcome in outcomes
                for side, seconds in outcome.totals().items()
            },
            notes=notes_of(outcomes, self.rounds, self.recipe),
        )

    def _measure(self, outcomes: Sequence[Outcome]) -> Iterator[object]:
        """Fill the outcomes, and yield after each step."""
        for outcome in outcomes:
            with tempfile.TemporaryDirectory(prefix="keyframe-benchmark-") as directory:
                yield from self._contest(outcome, Path(directory))

    def _contest(self, outcome: Outcome, directory: Path) -> Iterator[object]:
        contest = outcome.contest
        footage = Path(self.footage).expanduser()
        data = TrainData(footage, self.videos, self.seconds, contest.width, contest.height, self.seed)
        data.write(directory)
        yield data

        what = (*self.recipe, f"backbone={contest.backbone}", "backbone.pretrained=false")
        where = ("data.root=.", "data.labels=labels.tsv", "data.splits=splits.json")
        ours = (*what, *where, "logger=csv", "callbacks.curves=null")
        with closing(
            in_child(PlainTraining(what, data.videos_of(directory), self.rounds, directory), "the plain loop")
        ) as plain:
            yield from outcome.add_plain(islice(plain, 1 + 2 * (self.rounds - self.rounds // 2)))
            if contest.uncached:
                # one epoch more, in which the workers start
                few = (f"trainer.max_epochs={1 + 2 * self.rounds}", f"finetune.switch_epoch={1 + self.rounds}")
                workers = f"data.workers={cores()}"
                outcome.uncached = train((*ours, *few, *self.uncached, workers), directory, "uncached")
                yield outcome.uncached
            whole = (f"trainer.max_epochs={self.epochs}", f"finetune.switch_epoch={self.switch_epoch}")
            outcome.cached = train((*ours, *whole, *self.cached), directory, "cached")
            yield outcome.cached
            yield from outcome.add_plain(plain)
