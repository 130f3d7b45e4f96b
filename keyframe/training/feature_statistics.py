"""Fit the feature standardizer on the training videos, once."""

import logging

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from keyframe.data.batch import collate
from keyframe.data.datamodule import KeyframeDataModule
from keyframe.models.module import KeyframeModule

log = logging.getLogger(__name__)


class FeatureStatistics(Callback):
    """Sets the mean and deviation that `FeatureStandardizer` takes out of backbone features.

    From the training videos only, as they are without augmentation; computed on rank 0 and sent to all; skipped on
    resume, because they are in the checkpoint. Behind `PrefixCache`, it reads the features that are kept.
    """

    @torch.no_grad()
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fit, unless a checkpoint brought the statistics."""
        assert isinstance(pl_module, KeyframeModule)
        detector = pl_module.detector
        if bool(detector.standardizer.fitted):
            return
        statistics = torch.zeros(2, detector.backbone.width, dtype=torch.float64)
        if trainer.is_global_zero:
            statistics = self._measure(trainer, pl_module)
        statistics = trainer.strategy.broadcast(statistics)
        detector.standardizer.set(*statistics.to(pl_module.device, torch.float32))

    def _measure(self, trainer: Trainer, module: KeyframeModule) -> torch.Tensor:
        """Mean and deviation of each feature over all frames, (2, width), float64."""
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(datamodule, KeyframeDataModule)
        dataset = datamodule.datasets["train"]
        detector = module.detector
        training = detector.training
        detector.eval()
        count, total, squares = 0, torch.zeros(1), torch.zeros(1)
        for number in range(len(dataset)):
            batch = collate([dataset.plain(number)]).to(module.device)
            with trainer.precision_plugin.forward_context():
                features = detector.encode(batch.stage, batch.inputs)[0].double().cpu()
            count, total, squares = (
                count + len(features),
                total + features.sum(0),
                squares + features.square().sum(0),
            )
        detector.train(training)
        mean = total / count
        return torch.stack([mean, (squares / count - mean.square()).clamp(min=0).sqrt()])
