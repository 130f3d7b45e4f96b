"""Randomness as a function of (seed, epoch, rank), so that a resumed run draws what an uninterrupted one would."""

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class EpochSeed(Callback):
    """Seeds torch at the start of every training epoch; Lightning saves no random state.

    Args:
        seed: the run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed dropout for this epoch and rank."""
        entropy = np.random.SeedSequence((self.seed, trainer.current_epoch, trainer.global_rank))
        torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0]) % 2**63)
