"""Ctrl-C and a cluster's signals: finish the batch, save, and only then stop."""

import logging
import os
import signal
import subprocess
import threading
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

log = logging.getLogger(__name__)

_REQUEUE = getattr(signal, "SIGUSR1", None)  # what `#SBATCH --signal=SIGUSR1@90` sends; Windows has none


class SaveOnSignal(Callback):
    """Saves at the end of the batch in which a signal came, then stops; the run can go on from there to the bit.

    SIGINT (Ctrl-C; a second one stops at once, without saving), SIGTERM, and SIGUSR1, after which a SLURM job is put
    back into the queue. A signal to one rank stops all, at the same batch. Lightning would save from inside the signal
    handler, wherever in a step that is.

    Args:
        path: the checkpoint to write.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.received: int | None = None
        self._before: dict[int, Any] = {}
        self._first = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Outside training, while videos are encoded or measured, nothing is to be saved: a job is put back at once."""
        in_main = threading.current_thread() is threading.main_thread()
        if stage == "fit" and _REQUEUE is not None and "SLURM_JOB_ID" in os.environ and in_main:
            self._first = trainer.is_global_zero
            # Lightning notes this handler, and puts it back when training is over
            signal.signal(_REQUEUE, self._requeue_now)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen; Lightning's own handlers are in place by now, and put aside."""
        self.received = None
        if threading.current_thread() is not threading.main_thread():
            return  # Python delivers signals to the main thread only
        for number in (signal.SIGINT, signal.SIGTERM, _REQUEUE):
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._receive)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop, where a signal came and the weights are those of whole steps."""
        last = batch_idx + 1 >= trainer.num_training_batches
        between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        # the end of an epoch is saved by itself, after validation
        if not last and between_steps and self._stops(trainer):
            trainer.save_checkpoint(self.path)
            self._stop(trainer, f"epoch {trainer.current_epoch}, after batch {batch_idx + 1} of it")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop between epochs, where a signal came during the last batch or validation; all is saved."""
        if trainer.current_epoch and self._stops(trainer):
            self._stop(trainer, f"epoch {trainer.current_epoch - 1}, after all of it")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before the test, where a signal came during the last epoch."""
        self._restore()
        if self._stops(trainer):
            self._stop(trainer, "the last epoch")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put back the handlers that were there."""
        self._restore()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        # a log call may be what the signal has interrupted
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
            log.info("Stopped in %s, saved in %s: ckpt=last goes on from there", where, self.path)
            if self.received == _REQUEUE and "SLURM_JOB_ID" in os.environ:
                _requeue()
        raise KeyboardInterrupt

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()


def _requeue() -> None:
    """Put this SLURM job back into the queue."""
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True)
        log.info("SLURM job %s is back in the queue", job)
    except (OSError, subprocess.CalledProcessError) as error:
        log.warning("SLURM job %s could not be put back into the queue (%s): submit it again", job, error)
