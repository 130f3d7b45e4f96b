"""What a training is made of, whoever runs it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from keyframe.models.detector import KeyframeDetector


@dataclass(frozen=True)
class Recipe:
    """The parts and numbers of a training as `keyframe-train` would have them; see `keyframe.config.load_recipe`.

    Attributes:
        detector: the model, not trained yet.
        loss: called with scores, targets and mask, each (B, T).
        make_optimizer: makes the optimizer from parameter groups.
        frames: of each video, T.
        size: (height, width) of a frame in pixels.
        batch_size: videos a step.
        lr_factor: the learning rate of stage 2 as a multiple of that of stage 1.
        clip: largest norm of the gradient; None does not clip.
        device: "auto" or "cpu".
    """

    detector: KeyframeDetector
    loss: nn.Module
    make_optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer]
    frames: int
    size: tuple[int, int]
    batch_size: int
    lr_factor: float
    clip: float | None
    device: str
