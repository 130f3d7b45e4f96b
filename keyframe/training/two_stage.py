"""Stage 1 trains the head on a frozen backbone; stage 2 trains the backbone's tail as well."""

import logging
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping
from torch.optim import Optimizer

from keyframe.models.module import KeyframeModule
from keyframe.training.plateau import PlateauSchedule

log = logging.getLogger(__name__)


class TwoStage(Callback):
    """Releases the backbone's tail at an epoch and lowers the learning rate there.

    The tail is trainable when DDP wraps the model, else its gradients would never be reduced over ranks; this
    callback then only switches `requires_grad` and modes, at the start of training and of every epoch, so a run
    that resumes on either side of the switch is in the right stage. Learning rates are set at the switch alone: on
    resume they come back with the optimizer. A model without a tail stays in stage 1.

    Args:
        switch_epoch: first epoch (from 0) of stage 2; None stays in stage 1.
        lr_factor: both groups' learning rate in stage 2, as a multiple of the one the optimizer started with.
    """

    def __init__(self, switch_epoch: int | None = 10, lr_factor: float = 0.1) -> None:
        if switch_epoch is not None and switch_epoch < 0:
            raise ValueError(f"switch_epoch must be at least 0 or None, not {switch_epoch}")
        self.switch_epoch = switch_epoch
        self.lr_factor = lr_factor
        self.switched = False

    def stage(self, epoch: int) -> int:
        """1 or 2."""
        return 2 if self.switch_epoch is not None and epoch >= self.switch_epoch else 1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stay in stage 1 where a second one would have nothing to train, and say so."""
        assert isinstance(pl_module, KeyframeModule)
        if self.switch_epoch is not None and not pl_module.detector.backbone.tail_parameters():
            log.info("One stage: there is no backbone that finetune.switch_epoch=%d could unfreeze.", self.switch_epoch)
            self.switch_epoch = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the model into the stage of the epoch that training starts at."""
        self._apply(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the model into the stage of this epoch; at the switch, set the learning rates too."""
        self._apply(trainer, pl_module)
        if self.stage(trainer.current_epoch) == 2 and not self.switched:
            self._switch(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the stage of the epoch."""
        pl_module.log("train/stage", float(self.stage(trainer.current_epoch)), batch_size=1)

    def state_dict(self) -> dict[str, Any]:
        """Whether the switch is behind us."""
        return {"switched": self.switched}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the checkpoint was."""
        self.switched = bool(state_dict["switched"])

    def _apply(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, KeyframeModule)
        module.detector.backbone.train_tail(self.stage(trainer.current_epoch) == 2)

    def _switch(self, trainer: Trainer) -> None:
        self.switched = True
        for optimizer in trainer.optimizers:
            self._lower(optimizer)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, PlateauSchedule):
                callback.restart()
            elif isinstance(callback, EarlyStopping):
                callback.wait_count = 0
        rates = {group["name"]: group["lr"] for group in trainer.optimizers[0].param_groups}
        log.info(
            "Stage 2 from epoch %d (finetune.switch_epoch=%d): the backbone's last blocks train too; learning rate %s",
            trainer.current_epoch,
            self.switch_epoch,
            ", ".join(f"{name} {rate:.1e}" for name, rate in rates.items()),
        )

    def _lower(self, optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            # from the configured rate, not from what a scheduler has made of it in stage 1
            group["lr"] = optimizer.defaults["lr"] * self.lr_factor
