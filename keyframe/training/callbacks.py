"""Callbacks of training: its two stages, seeding, progress, curve images."""

import logging
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping

from keyframe.drawing import save_figure
from keyframe.drawing.curves import draw_curves
from keyframe.training.module import KeyframeModule
from keyframe.training.trackers import log_image
from keyframe.types import KeyframeError, check_number

log = logging.getLogger(__name__)


class TwoStage(Callback):
    """Releases the backbone's tail at an epoch and lowers the learning rate there; without a tail it stays in stage 1.

    The tail is trainable when DDP wraps the model, else its gradients would silently never be all-reduced; this
    callback then only switches `requires_grad` and modes, at the start of training and of every epoch. Learning rates
    are set before every batch. Both depend on the place in training alone, so a run that resumes anywhere goes on as it
    would have.

    Args:
        switch_epoch: first epoch (from 0) of stage 2; None stays in stage 1.
        lr_factor: both groups' learning rate in stage 2, as a multiple of the optimizer's configured one.
        schedule: share of training that is done, in [0, 1) -> factor of the learning rate; None: 1.
    """

    def __init__(
        self, switch_epoch: int | None = 10, lr_factor: float = 0.1, schedule: Callable[[float], float] | None = None
    ) -> None:
        check_number("finetune.switch_epoch", switch_epoch, 0, optional=True)
        check_number("finetune.lr_factor", lr_factor, 0, whole=False, above=True)
        try:
            good = schedule is None or all(float(schedule(done)) >= 0 for done in np.linspace(0, 1, 50, endpoint=False))
        except Exception:  # whatever a user's own code raises
            good = False
        if not good:
            raise KeyframeError(
                "scheduler: a schedule is a function of the share of training that is done, in [0, 1), and returns a "
                "factor of the learning rate, 0 or more."
            )
        self.switch_epoch = switch_epoch
        self.lr_factor = lr_factor
        self.schedule = schedule
        self.switched = False

    def stage(self, epoch: int) -> int:
        return 2 if self.switch_epoch is not None and epoch >= self.switch_epoch else 1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stay in stage 1 if the model has no tail to train, and say so."""
        assert isinstance(pl_module, KeyframeModule)
        if self.switch_epoch is not None and not pl_module.detector.backbone.tail_parameters():
            log.info("One stage: there is no backbone that finetune.switch_epoch=%d could unfreeze.", self.switch_epoch)
            self.switch_epoch = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As at the start of an epoch, also if a run resumes within one."""
        if self.schedule is not None and (trainer.max_epochs is None or trainer.max_epochs < 1):
            raise KeyframeError("scheduler needs an end of training: set trainer.max_epochs, or use scheduler=none.")
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, KeyframeModule)
        pl_module.detector.backbone.train_tail(self.stage(trainer.current_epoch) == 2)
        self._set_rates(trainer, 0)
        if self.stage(trainer.current_epoch) == 2 and not self.switched:
            self._switch(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._set_rates(trainer, batch_idx)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.log("train/stage", float(self.stage(trainer.current_epoch)), batch_size=1)

    def state_dict(self) -> dict[str, Any]:
        return {"switched": self.switched}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.switched = bool(state_dict["switched"])

    def _set_rates(self, trainer: Trainer, batch: int) -> None:
        """Set both groups' rate before a batch: the optimizer's configured one, times what stage and schedule say."""
        epoch = trainer.current_epoch
        factor = self.lr_factor if self.stage(epoch) == 2 else 1.0
        if self.schedule is not None and trainer.max_epochs:
            factor *= self.schedule((epoch + batch / trainer.num_training_batches) / trainer.max_epochs)
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = optimizer.defaults["lr"] * factor

    def _switch(self, trainer: Trainer) -> None:
        self.switched = True
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping):
                callback.wait_count = 0
        rates = {group["name"]: group["lr"] for group in trainer.optimizers[0].param_groups}
        log.info(
            "Stage 2 from epoch %d (finetune.switch_epoch=%d): the backbone's last blocks train too; learning rate %s",
            trainer.current_epoch,
            self.switch_epoch,
            ", ".join(f"{name} {rate:.1e}" for name, rate in rates.items()),
        )


def cosine(done: float) -> float:
    """Half a cosine from 1 to 0 (Loshchilov and Hutter: SGDR, 2017, equation 5, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * done))


def find_two_stage(trainer: Trainer) -> TwoStage | None:
    """The trainer's `TwoStage`, if it has one."""
    return next((one for one in trainer.callbacks if isinstance(one, TwoStage)), None)  # type: ignore[attr-defined]


class StageAwareEarlyStopping(EarlyStopping):
    """Lightning's early stopping, idle in stage 1 if there are two; `TwoStage` resets its counter."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue counting where the checkpoint was, with the patience that is configured now."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._counts(trainer):
            super().on_train_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._counts(trainer):
            super().on_validation_end(trainer, pl_module)

    def _counts(self, trainer: Trainer) -> bool:
        """Whether an epoch without progress counts in this stage."""
        two_stage = find_two_stage(trainer)
        if two_stage is None or two_stage.switch_epoch is None:
            return True
        return two_stage.stage(trainer.current_epoch) == 2


class BatchSeed(Callback):
    """Seeds torch before every training batch by (seed, epoch, rank, batch): a resumed run draws the same numbers.

    Lightning saves no random state.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        entropy = np.random.SeedSequence((self.seed, trainer.current_epoch, trainer.global_rank, batch_idx))
        torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0]) % 2**63)


class EpochLines(Callback):
    """Logs a line after every epoch: stage, loss, validation metrics, seconds, and an estimate of the time left.

    If 1 % or more of the seconds were spent waiting for batches, the line says so.
    """

    def __init__(self) -> None:
        self._started = self._ready = self._waited = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, also if a run resumes within an epoch."""
        self._started = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = self._ready = time.monotonic()
        self._waited = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._waited += time.monotonic() - self._ready

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._ready = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do not count validation within an epoch as waiting."""
        self._ready = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        values = trainer.callback_metrics
        took = time.monotonic() - self._started
        names = {"train/loss": "loss", "val/spearman": "val Spearman", "val/kendall": "Kendall"}
        if trainer.is_global_zero:
            log.info(
                "epoch %d/%d, stage %d: %s, %.1f s%s (about %.0f s left)",
                trainer.current_epoch,
                (trainer.max_epochs or 0) - 1,
                int(values.get("train/stage", 1)),
                ", ".join(f"{name} {float(values[key]):.3f}" for key, name in names.items() if key in values),
                took,
                f", {self._waited / took:.0%} of it waiting for data" if self._waited >= 0.01 * took else "",
                took * max(0, (trainer.max_epochs or 0) - trainer.current_epoch - 1),
            )


class CurveImages(Callback):
    """Draws the model's and the annotators' curves into PNG files in `directory`, and into W&B and TensorBoard if on.

    Each image shows so many `videos`; those of validation come every `every` epochs and after the last.
    """

    def __init__(self, directory: str, every: int = 5, videos: int = 2) -> None:
        check_number("callbacks.curves.every", every, 1)
        check_number("callbacks.curves.videos", videos, 1)
        self.directory = Path(directory)
        self.every = every
        self.videos = videos

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        assert isinstance(pl_module, KeyframeModule)
        pl_module.drawn = self.videos

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch
        last = epoch + 1 == trainer.max_epochs
        if not trainer.sanity_checking and ((epoch + 1) % self.every == 0 or last):
            self._draw(trainer, pl_module, "val", f"val-epoch{epoch:03d}", f"validation videos after epoch {epoch}")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer, pl_module, "test", "test", "held-out test videos")

    def _draw(self, trainer: Trainer, module: LightningModule, split: str, name: str, title: str) -> None:
        assert isinstance(module, KeyframeModule)
        if not trainer.is_global_zero:
            return
        figure = draw_curves([p for _, p in sorted(module.predictions.items())], title)
        path = self.directory / f"{name}.png"
        save_figure(figure, path)
        log_image(trainer.loggers, f"{split}/curves", path, trainer.global_step)


def quiet_lightning() -> None:
    """Drop Lightning's messages about what is intended here, or what our own lines say."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        r".*in eval mode at the start of training",  # a frozen backbone
        r".*isinstance\(treespec, LeafSpec\)",  # between Lightning and torch
        r".*does not have many workers",  # cached frames need none
        r".*It is recommended to use `self.log\(",  # our metrics are gathered over ranks already
        r".*resuming from a checkpoint that ended before the epoch ended",  # our sampler continues where it was
        r".*Checkpoint directory .* exists and is not empty",  # of the run that resumes
        r".*The number of training batches .* is smaller than the logging interval",
    ):
        warnings.filterwarnings("ignore", message)
