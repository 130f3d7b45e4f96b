"""Values of the configuration that are checked before anything is built or written."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from keyframe.errors import KeyframeError


@dataclass(frozen=True)
class Number:
    """Which numbers a key takes: whole or any, from `lowest` on; `above` leaves `lowest` itself out."""

    lowest: float
    whole: bool = True
    above: bool = False
    optional: bool = False

    def takes(self, value: Any) -> bool:
        """Whether the key takes this value."""
        if value is None:
            return self.optional
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        return math.isfinite(value) and (value > self.lowest if self.above else value >= self.lowest)

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        limit = f"above {self.lowest:g}" if self.above else f"from {self.lowest:g} on"
        return f"{kind} {limit}{', or null' if self.optional else ''}"


# Keys whose owner is not ours, or finds out late; the others check themselves.
NUMBERS = {
    "seed": Number(0),
    "data.size": Number(1),
    "data.width": Number(1),
    "data.batch_size": Number(1),
    "data.folds": Number(2),
    "data.fold": Number(0),
    "data.val_fraction": Number(0, whole=False, above=True),
    "data.workers": Number(0),
    "cache.max_gb": Number(0, whole=False, above=True),
    "cache.views": Number(1),
    "head.window": Number(0),
    "optimizer.lr": Number(0, whole=False, above=True),
    "optimizer.weight_decay": Number(0, whole=False),
    "finetune.switch_epoch": Number(0, optional=True),
    "finetune.lr_factor": Number(0, whole=False, above=True),
    "trainer.max_epochs": Number(1),
    "trainer.accumulate_grad_batches": Number(1),
    "tune.max_batch_size": Number(1, optional=True),
    "trainer.gradient_clip_val": Number(0, whole=False, optional=True),
    "callbacks.pictures.every": Number(1),
    "pictures": Number(0),
    "speed.videos": Number(1),
    "speed.repeats": Number(1),
    "memory.videos": Number(1),
    "rate": Number(0, whole=False, above=True),
    "quality": Number(1),
    "workers": Number(1, optional=True),
    "threads": Number(1, optional=True),
    "repeats": Number(1),
    "check.videos": Number(1),
    "calibration.videos": Number(1),
    "scale.counts": Number(1),
    "scale.seconds": Number(1),
    "long.minutes": Number(1),
    "long.rate": Number(0, whole=False, above=True),
    "long.size": Number(1),
    "long.window": Number(1, optional=True),
    "decode.seconds": Number(1),
    "decode.frames": Number(2),
    "decode.rate": Number(0, whole=False, above=True),
    "decode.repeats": Number(1),
    "decode.budget_s": Number(0, whole=False, above=True),
    "infer.frames": Number(1),
    "infer.size": Number(32),
    "infer.videos": Number(1),
    "infer.chunks": Number(1),
    "ddp.videos": Number(1),
    "ddp.seconds": Number(40),
    "ddp.epochs": Number(2),
    "ddp.rounds": Number(1),
    "train.videos": Number(1),
    "train.seconds": Number(40),
    "train.epochs": Number(2),
    "train.switch_epoch": Number(1),
    "train.rounds": Number(1),
    "evaluate.videos": Number(1),
    "evaluate.frames": Number(30),
    "evaluate.annotators": Number(1),
}


def check_values(config: DictConfig) -> None:
    """Check that every mandatory key is set and that numbers are numbers in their range.

    Raises:
        KeyframeError: naming the first key that is not.
    """
    for key in _missing(OmegaConf.to_container(config)):
        raise KeyframeError(f"{key} is not set: add {key}=... to the command.")
    for key, number in NUMBERS.items():
        value = OmegaConf.select(config, key, default="absent")
        parts = value if OmegaConf.is_list(value) else [value]
        if value != "absent" and not all(number.takes(part) for part in parts):
            raise KeyframeError(f"{key}={value} must be {number}.")


def _missing(values: Any, key: str = "") -> Iterator[str]:
    """The keys that hold `???`; interpolations are left as they are, so each is named where a user sets it."""
    if isinstance(values, dict):
        for name, value in values.items():
            yield from _missing(value, f"{key}.{name}" if key else str(name))
    elif values == "???":
        yield key
