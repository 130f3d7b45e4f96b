"""The suite `train`: two-stage training with the cache, against training as people write it."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from keyframe.benchmark.child import in_child
from keyframe.benchmark.our_training import train
from keyframe.benchmark.plain_frames import require_opencv
from keyframe.benchmark.plain_training import PlainTraining
from keyframe.benchmark.record import Bar, SuiteResult
from keyframe.benchmark.train_data import TrainData
from keyframe.benchmark.train_figures import Contest, Outcome, figures_of, notes_of, summary_of
from keyframe.cores import cores


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
        ours = (*what, *where, "logger=csv", "callbacks.pictures=null")
        with closing(in_child(PlainTraining(what, data.videos_of(directory), self.rounds, directory))) as plain:
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
