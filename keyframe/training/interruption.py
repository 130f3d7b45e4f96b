"""Ctrl-C, SIGTERM and the signal before a cluster's time limit, during training: save, then stop."""

import logging
import os
import signal
import subprocess
import threading
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

log = logging.getLogger(__name__)

_REQUEUE = getattr(signal, "SIGUSR1", None)  # sent by `#SBATCH --signal=SIGUSR1@90`; Windows has none


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
