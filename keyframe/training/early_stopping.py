"""Early stopping that does not keep a run from stage 2."""

from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping

from keyframe.training.two_stage import TwoStage


class StageAwareEarlyStopping(EarlyStopping):
    """Lightning's early stopping, idle in stage 1 unless asked; its counter starts anew at the switch.

    Args:
        may_stop_stage_1: also stop before the backbone has trained at all.
        kwargs: as for `pytorch_lightning.callbacks.EarlyStopping`.
    """

    def __init__(self, may_stop_stage_1: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.may_stop_stage_1 = may_stop_stage_1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count an epoch without progress, where this stage counts."""
        if self._counts(trainer):
            super().on_train_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count an epoch without progress, where this stage counts."""
        if self._counts(trainer):
            super().on_validation_end(trainer, pl_module)

    def _counts(self, trainer: Trainer) -> bool:
        stages = [callback for callback in trainer.callbacks if isinstance(callback, TwoStage)]  # type: ignore[attr-defined]
        only_stage_1 = not stages or stages[0].switch_epoch is None
        return self.may_stop_stage_1 or only_stage_1 or stages[0].stage(trainer.current_epoch) == 2
