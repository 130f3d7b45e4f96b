"""Callbacks of training: its two stages, seeding, progress, curve images, and a checkpoint at a signal."""

import logging
import math
import os
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
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

_REQUEUE = getattr(signal, "SIGUSR1", None)  # sent by `#SBATCH --signal=SIGUSR1@90`; Windows has none


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
        shown = ", ".join(f"{name} {float(values[key]):.3f}" for key, name in names.items() if key in values)
        waited = f", {self._waited / took:.0%} of it waiting for data" if self._waited >= 0.01 * took else ""
        epoch, last, stage = trainer.current_epoch, (trainer.max_epochs or 0) - 1, int(values.get("train/stage", 1))
        line = "epoch %d/%d, stage %d: %s, %.1f s%s (about %.0f s left)"
        if trainer.is_global_zero:
            log.info(line, epoch, last, stage, shown, took, waited, took * max(0, last - epoch))


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
        due = (epoch + 1) % self.every == 0 or epoch + 1 == trainer.max_epochs
        if due and not trainer.sanity_checking:
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


class SaveOnSignal(Callback):
    """Saves at the end of the batch in which a signal came, then stops; the run resumes from there to the bit.

    The signals are SIGINT (Ctrl-C; a second one stops at once, without saving), SIGTERM, and SIGUSR1, after which a
    SLURM job is requeued. A signal to one rank stops all ranks, at the same batch. Lightning would save from inside the
    signal handler, wherever in a step that is.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.received: int | None = None
        self._before: dict[int, Any] = {}
        self._first = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Outside training, while videos are encoded or measured, there is nothing to save: requeue a job at once."""
        if stage == "fit" and _REQUEUE is not None and "SLURM_JOB_ID" in os.environ and _in_main_thread():
            self._first = trainer.is_global_zero
            # Lightning notes this handler, and restores it after training
            signal.signal(_REQUEUE, self._requeue_now)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's own handlers, which are in place by now."""
        self.received = None
        for number in (signal.SIGINT, signal.SIGTERM, _REQUEUE):
            if number is not None and _in_main_thread() and signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._receive)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop, if a signal came and the weights are those of whole steps."""
        last = batch_idx + 1 >= trainer.num_training_batches
        between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        # the end of an epoch is saved anyway, after validation
        if not last and between_steps and self._stops(trainer):
            trainer.save_checkpoint(self.path)
            self._stop(trainer, f"epoch {trainer.current_epoch}, after batch {batch_idx + 1} of it")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop between epochs, if a signal came during the last batch or validation; all is saved."""
        if trainer.current_epoch and self._stops(trainer):
            self._stop(trainer, f"epoch {trainer.current_epoch - 1}, after all of it")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before the test, if a signal came during the last epoch."""
        self._restore()
        if self._stops(trainer):
            self._stop(trainer, "the last epoch")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._restore()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        # the signal may have interrupted a log call
        os.write(2, b"\nStopping after this batch, with a checkpoint; Ctrl-C again stops at once.\n")

    def _requeue_now(self, number: int, frame: FrameType | None) -> None:
        if self._first:
            _requeue()
        raise KeyboardInterrupt

    def _stops(self, trainer: Trainer) -> bool:
        return trainer.strategy.reduce_boolean_decision(self.received is not None, all=False)

    def _stop(self, trainer: Trainer, where: str) -> None:
        self._restore()
        if trainer.is_global_zero:
            log.info("Stopped in %s, saved in %s: resume with ckpt_path=last", where, self.path)
            if self.received == _REQUEUE and "SLURM_JOB_ID" in os.environ:
                _requeue()
        raise KeyboardInterrupt

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _requeue() -> None:
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True)
        log.info("SLURM job %s is back in the queue", job)
    except (OSError, subprocess.CalledProcessError) as error:
        log.warning("SLURM job %s could not be requeued (%s): submit it again", job, error)


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
