"""Randomness as a function of (seed, epoch, rank, batch): a resumed run draws what an uninterrupted one would."""

from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class BatchSeed(Callback):
    """Seeds torch before every training batch; Lightning saves no random state.

    Args:
        seed: the run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed dropout for this batch and rank."""
        entropy = np.random.SeedSequence((self.seed, trainer.current_epoch, trainer.global_rank, batch_idx))
        torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0]) % 2**63)
