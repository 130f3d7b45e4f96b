"""Run the frozen part of the backbone once a video instead of once an epoch."""

import logging

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from keyframe.data.datamodule import KeyframeDataModule
from keyframe.data.dataset import VideoDataset
from keyframe.models.module import KeyframeModule

log = logging.getLogger(__name__)


class PrefixCache(Callback):
    """Replaces held pixels by the output of the backbone's prefix, in memory.

    The prefix never trains, so training on its output gives the numbers of training on pixels. It does nothing
    where augmentation changes pixels, where frames are not held, or where the backbone is not cut; and says so.

    Args:
        dtype: of what is kept, `float32` or `float16` (half the memory, rounded to 3 digits).
    """

    def __init__(self, dtype: str = "float32") -> None:
        if dtype not in ("float32", "float16"):
            raise ValueError(f"dtype must be float32 or float16, not {dtype}")
        self.dtype: torch.dtype = getattr(torch, dtype)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Encode the training and validation videos."""
        self._fill(trainer, pl_module, "train", "val")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Encode the test videos."""
        self._fill(trainer, pl_module, "test")

    def _fill(self, trainer: Trainer, module: LightningModule, *splits: str) -> None:
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(module, KeyframeModule)
        assert isinstance(datamodule, KeyframeDataModule)
        detector = module.detector

        def encode(frames: Tensor) -> Tensor:
            maps = detector.encode_prefix(frames[None].to(module.device))[0]
            return maps.to("cpu", self.dtype)

        for split in splits:
            dataset = datamodule.datasets[split]
            if not isinstance(dataset, VideoDataset):
                return  # what lies behind the backbone is kept already
            if not detector.backbone.is_cut:
                log.info("Prefix cache off: %s has no frozen prefix.", detector.backbone.name)
                return
            if not dataset.held or (dataset.augmentation is not None and dataset.augmentation.changes_pixels):
                log.info("Prefix cache off for %s: its pictures are not held, or change every epoch.", split)
                continue
            if dataset.held[0].stage == "pixels":
                training = detector.training
                detector.eval()
                dataset.replace_inputs("prefix", encode)
                detector.train(training)
