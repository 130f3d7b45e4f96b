"""Stage 1 trains the head on a frozen backbone, stage 2 also the backbone's tail; schedules that know the stages."""

import logging
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping
from torch.optim.lr_scheduler import ReduceLROnPlateau

from keyframe.training.module import KeyframeModule
from keyframe.types import KeyframeError, check_number

log = logging.getLogger(__name__)


class TwoStage(Callback):
    """Releases the backbone's tail at an epoch and lowers the learning rate there; without a tail it stays in stage 1.

    The tail is trainable when DDP wraps the model, else its gradients would silently never be all-reduced; this
    callback then only switches `requires_grad` and modes, at the start of training and of every epoch, so a run that
    resumes on either side of the switch is in the right stage. Learning rates are set at the switch: on resume they
    come back with the optimizer, unless other ones are configured now.

    Args:
        switch_epoch: first epoch (from 0) of stage 2; None stays in stage 1.
        lr_factor: both groups' learning rate in stage 2, as a multiple of the optimizer's configured one.

    Attributes:
        new_rates: whether training starts with the configured rates of its stage, not with those of the checkpoint.
    """

    def __init__(self, switch_epoch: int | None = 10, lr_factor: float = 0.1) -> None:
        check_number("finetune.switch_epoch", switch_epoch, 0, optional=True)
        check_number("finetune.lr_factor", lr_factor, 0, whole=False, above=True)
        self.switch_epoch = switch_epoch
        self.lr_factor = lr_factor
        self.switched = False
        self.new_rates = False

    def stage(self, epoch: int) -> int:
        """1 or 2."""
        return 2 if self.switch_epoch is not None and epoch >= self.switch_epoch else 1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stay in stage 1 if the model has no tail to train, and say so."""
        assert isinstance(pl_module, KeyframeModule)
        if self.switch_epoch is not None and not pl_module.detector.backbone.tail_parameters():
            log.info("One stage: there is no backbone that finetune.switch_epoch=%d could unfreeze.", self.switch_epoch)
            self.switch_epoch = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As at the start of an epoch, also if a run resumes within one; then set new learning rates."""
        self.on_train_epoch_start(trainer, pl_module)
        if self.new_rates:
            self._set_rates(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the model into the stage of this epoch; at the switch, set the learning rates too."""
        assert isinstance(pl_module, KeyframeModule)
        pl_module.detector.backbone.train_tail(self.stage(trainer.current_epoch) == 2)
        if self.stage(trainer.current_epoch) == 2 and not self.switched:
            self._switch(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the stage of the epoch."""
        pl_module.log("train/stage", float(self.stage(trainer.current_epoch)), batch_size=1)

    def state_dict(self) -> dict[str, Any]:
        """Whether the switch has happened."""
        return {"switched": self.switched}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the checkpoint was."""
        self.switched = bool(state_dict["switched"])

    def _set_rates(self, trainer: Trainer) -> None:
        """Set both groups to the configured rate of the stage, whatever a scheduler has made of it."""
        factor = self.lr_factor if self.stage(trainer.current_epoch) == 2 else 1
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = optimizer.defaults["lr"] * factor
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, PlateauSchedule):
                callback.restart()
            elif isinstance(callback, EarlyStopping):
                callback.wait_count = 0

    def _switch(self, trainer: Trainer) -> None:
        self.switched = True
        self._set_rates(trainer)
        rates = {group["name"]: group["lr"] for group in trainer.optimizers[0].param_groups}
        log.info(
            "Stage 2 from epoch %d (finetune.switch_epoch=%d): the backbone's last blocks train too; learning rate %s",
            trainer.current_epoch,
            self.switch_epoch,
            ", ".join(f"{name} {rate:.1e}" for name, rate in rates.items()),
        )


def find_two_stage(trainer: Trainer) -> TwoStage | None:
    """The trainer's `TwoStage`, if it has one."""
    return next((one for one in trainer.callbacks if isinstance(one, TwoStage)), None)  # type: ignore[attr-defined]


class PlateauSchedule(Callback):
    """torch's `ReduceLROnPlateau`, stepped before checkpoints are written.

    Lightning writes an epoch's checkpoint before it steps such a scheduler, and drops that step on resume. The
    arguments are torch's; `monitor` is a metric of the validation videos, `threshold` the least absolute progress.
    """

    def __init__(
        self,
        monitor: str = "val/spearman",
        mode: str = "max",
        factor: float = 0.5,
        patience: int = 3,
        threshold: float = 1e-4,
    ) -> None:
        if mode not in ("max", "min"):
            raise ValueError(f"mode must be max or min, not {mode}")
        if not 0 < factor < 1:
            raise ValueError(f"factor must lie between 0 and 1, not {factor}")
        check_number("scheduler.patience", patience, 0)
        self.monitor = monitor
        self.options: dict[str, Any] = {
            "mode": mode,
            "factor": factor,
            "patience": patience,
            "threshold": threshold,
            "threshold_mode": "abs",
        }
        self.scheduler: ReduceLROnPlateau | None = None
        self._restored: dict[str, Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watch the optimizer, whose learning rates are restored by now."""
        self.scheduler = ReduceLROnPlateau(trainer.optimizers[0], **self.options)
        if self._restored is not None:
            self.scheduler.load_state_dict(self._restored | self.options)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Step once per epoch."""
        if trainer.sanity_checking or self.scheduler is None:
            return
        if self.monitor not in trainer.callback_metrics:
            raise KeyframeError(f"scheduler.monitor={self.monitor} is not measured: use val/spearman or val/loss.")
        self.scheduler.step(float(trainer.callback_metrics[self.monitor]))

    def restart(self) -> None:
        """Reset the counters; learning rates stay."""
        self._restored = None
        if self.scheduler is not None:
            self.scheduler._reset()

    def state_dict(self) -> dict[str, Any]:
        """The scheduler's counters, and what they count."""
        return {} if self.scheduler is None else self.scheduler.state_dict() | {"monitor": self.monitor}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue counting where the checkpoint was, unless that was of another metric."""
        counted = state_dict.pop("monitor", self.monitor), state_dict.get("mode")
        self._restored = state_dict if counted == (self.monitor, self.options["mode"]) else None


class StageAwareEarlyStopping(EarlyStopping):
    """Lightning's early stopping, idle in stage 1 unless `may_stop_stage_1`; `TwoStage` resets its counter."""

    def __init__(self, may_stop_stage_1: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.may_stop_stage_1 = may_stop_stage_1

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue counting where the checkpoint was, with the patience that is configured now."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count an epoch without progress, if this stage counts."""
        if self._counts(trainer):
            super().on_train_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count an epoch without progress, if this stage counts."""
        if self._counts(trainer):
            super().on_validation_end(trainer, pl_module)

    def _counts(self, trainer: Trainer) -> bool:
        two_stage = find_two_stage(trainer)
        if self.may_stop_stage_1 or two_stage is None or two_stage.switch_epoch is None:
            return True
        return two_stage.stage(trainer.current_epoch) == 2
