"""What the sides of a contest in training took, as figures."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from keyframe.benchmark.our_training import Trained
from keyframe.benchmark.record import Measured

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
