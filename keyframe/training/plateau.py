"""Lower the learning rate when a metric stalls, in a way that survives a resume."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from keyframe.errors import KeyframeError


class PlateauSchedule(Callback):
    """torch's `ReduceLROnPlateau`, stepped before checkpoints are written.

    Lightning writes an epoch's checkpoint before it steps such a scheduler, and drops that step on resume. As a
    callback the step comes first, and the scheduler's state is in the checkpoint.

    Args:
        monitor: the metric, measured on validation videos.
        mode: `max` or `min`, what is better.
        factor: the learning rates are multiplied by it.
        patience: epochs without progress before that.
        threshold: how much better counts as progress, absolutely.
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
        """Watch the optimizer; its learning rates are restored by now."""
        self.scheduler = ReduceLROnPlateau(trainer.optimizers[0], **self.options)
        if self._restored is not None:
            self.scheduler.load_state_dict(self._restored)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Step once an epoch."""
        if trainer.sanity_checking or self.scheduler is None:
            return
        if self.monitor not in trainer.callback_metrics:
            raise KeyframeError(f"scheduler.monitor={self.monitor} is not measured: use val/spearman or val/loss.")
        self.scheduler.step(float(trainer.callback_metrics[self.monitor]))

    def restart(self) -> None:
        """Count anew from here; learning rates stay as they are."""
        if self.scheduler is not None:
            self.scheduler._reset()

    def state_dict(self) -> dict[str, Any]:
        """The scheduler's counters."""
        return {} if self.scheduler is None else self.scheduler.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue counting where the checkpoint was."""
        self._restored = state_dict or None
