"""The baseline's part of the suite `train`, in a process of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from keyframe.benchmark.laps import Laps
from keyframe.benchmark.plain_frames import seconds_of_ways
from keyframe.benchmark.plain_loop import Parts, PlainLoop
from keyframe.config import load_recipe
from keyframe.cores import cores


@dataclass(frozen=True)
class PlainTraining:
    """The baseline's part of a contest, in pieces that a suite asks for one by one.

    Args:
        overrides: of `keyframe-train`: what is trained.
        parts: the videos of each split.
        rounds: epochs of each stage.
        directory: for checkpoints.
    """

    overrides: tuple[str, ...]
    parts: Parts
    rounds: int
    directory: Path

    def __call__(self) -> Iterator[tuple[str, dict[str, float]]]:
        """Yield what was measured, each with its name.

        Yields:
            `ways`: seconds for a few frames, `sequential` and by `seek`; the faster way is taken from then on.
            `stage1` and `stage2`: what `PlainLoop.epoch` gives, in each round.
            `test`: seconds to measure the test videos, as `test`.
            `model`: see `seconds_of_model`.
        """
        recipe = load_recipe(self.overrides)
        ways = seconds_of_ways(self.parts["train"][0].path, recipe.frames, recipe.size)
        yield "ways", ways
        seek = ways["seek"] < ways["sequential"]
        loop = PlainLoop(recipe, self.parts, seek, self.directory / "plain.pt", cores())
        _warm_up(loop)
        for _ in range(self.rounds):
            for stage in (1, 2):
                yield f"stage{stage}", loop.epoch(stage)
        laps = Laps()
        loop.measure("test")
        laps.lap("test")
        yield "test", laps.seconds
        yield "model", seconds_of_model(loop)


def seconds_of_model(loop: PlainLoop, repeats: int = 3) -> dict[str, float]:
    """Seconds of each part of the model for the frames of one batch in stage 2, the median of a few repeats.

    The parts are `prefix_forward`, `tail_forward`, `tail_backward`, `head` (forward, loss and backward); `videos` is
    how many videos the batch has.
    """
    recipe, model = loop.recipe, loop.model
    model.backbone.train_tail(True)
    model.train()
    pixels = torch.randint(0, 256, (recipe.batch_size, recipe.frames, 3, *recipe.size), dtype=torch.uint8)
    pixels = pixels.to(loop.device)
    targets = torch.rand(pixels.shape[:2])
    rounds = []
    for _ in range(repeats):
        laps = Laps()
        maps = model.encode_prefix(pixels)
        laps.lap("prefix_forward")
        features = model.encode_tail(maps)
        laps.lap("tail_forward")
        seen = features.detach().requires_grad_()
        loop.loss_of(model.score(seen), targets).backward()
        laps.lap("head")
        features.backward(seen.grad)
        laps.lap("tail_backward")
        rounds.append(laps.seconds)
    medians = {part: float(np.median([seconds[part] for seconds in rounds])) for part in rounds[0]}
    return medians | {"videos": float(recipe.batch_size)}


def _warm_up(loop: PlainLoop) -> None:
    """What is done once and for all (memory, primitives of the convolutions) belongs to no epoch."""
    for _ in range(2):
        seconds_of_model(loop, repeats=1)
    loop.optimizer.zero_grad()
