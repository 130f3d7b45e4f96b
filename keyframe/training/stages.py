"""Stage 1 trains the head on a frozen backbone, stage 2 also the backbone's tail; schedules that know the stages."""

import logging
import math
from collections.abc import Callable
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping

from keyframe.training.module import KeyframeModule
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
            good = schedule is None or float(schedule(0.0)) >= 0
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
