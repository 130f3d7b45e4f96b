"""The LightningModule: steps, optimizer groups, per-video metrics."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.utilities import grad_norm
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torchmetrics import MeanMetric, Metric
from torchmetrics.utilities import dim_zero_cat

from keyframe.data.dataset import Batch
from keyframe.drawing.curves import Prediction
from keyframe.evaluation.metrics import VIDEO_METRICS, epoch_metrics, spearman, video_metrics
from keyframe.models.detector import KeyframeDetector
from keyframe.training.losses import Distillation, adapted, check_loss
from keyframe.types import FloatArray, KeyframeError

TRAIN_NUMBERS = "train_numbers"  # key of a checkpoint: the last training epoch's numbers by name


def logged_numbers(trainer: Trainer, *prefixes: str) -> dict[str, float]:
    """The numbers last logged under names with one of these prefixes."""
    return {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(prefixes)}


class VideoMetrics(Metric):
    """A row of `VIDEO_METRICS` per video, gathered over ranks; torchmetrics' own pool the frames of all videos."""

    full_state_update = False
    rows: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, number: int, scores: FloatArray, importance: FloatArray, annotators: FloatArray) -> None:
        """Add a video: its place in the data set, then the arguments of `video_metrics`."""
        row = [float(number), *video_metrics(scores, importance, annotators).values()]
        # One array: thousands of small ones between batches that come and go leave holes in which no batch fits, and
        # the process grows by each batch.
        self.rows = [torch.cat([*self.rows, torch.tensor([row], dtype=torch.float32, device=self.device)])]

    def compute(self) -> dict[int, dict[str, float]]:
        if not len(self.rows):
            return {}
        rows = dim_zero_cat(self.rows).cpu().numpy()
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        return {int(row[0]): dict(zip(VIDEO_METRICS, row[1:].tolist(), strict=True)) for row in rows}


class KeyframeModule(LightningModule):
    """Trains a detector.

    The optimizer has two groups from the start, `head` and `backbone` (the tail), so that a checkpoint of either
    stage fits; in stage 1 the tail has no gradient and the optimizer skips it.

    Args:
        detector: the model.
        loss: called with scores, targets and mask, each (B, T), gives a scalar; or a loss of torch, see `FrameLoss`.
        optimizer: makes the optimizer from parameter groups, e.g. a `functools.partial(AdamW, lr=1e-4)`.
        config: plain nested values kept as hyperparameters in checkpoints and loggers.
        distillation: blends a teacher into the loss; None learns from labels alone.
    """

    def __init__(
        self,
        detector: KeyframeDetector,
        loss: nn.Module,
        optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer],
        config: Mapping[str, Any] | None = None,
        distillation: Distillation | None = None,
    ) -> None:
        super().__init__()
        self.detector = detector
        self.loss = adapted(loss)
        check_loss(self.loss)
        self.distillation = distillation
        self.make_optimizer = optimizer
        self.metrics = VideoMetrics()
        self.agreement = MeanMetric(nan_strategy="ignore")  # with the teacher, over validation videos
        # of this rank's first videos by id in the last epoch of validation or test, as many as are to be drawn
        self.predictions: dict[str, Prediction] = {}
        self.drawn = 0
        # the metrics of all ranks' videos in that epoch, by place in the data set
        self.table: dict[int, dict[str, float]] = {}
        self.save_hyperparameters(dict(config or {}))

    def on_train_start(self) -> None:
        """Let a resumed run have the optimizer's settings of now; `TwoStage` sets the learning rates."""
        for optimizer in self.trainer.optimizers:
            settings = {name: value for name, value in optimizer.defaults.items() if name != "lr"}
            for group in optimizer.param_groups:
                group.update(settings)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        features = self.detector.encode(batch.kind, batch.inputs)
        scores = self.detector.score(features, batch.mask)
        loss: Tensor = self.loss(scores, batch.importance, batch.mask)
        if self.distillation is not None:
            assert batch.teacher_target is not None
            embeddings = self.detector.embed(features) if self.distillation.hint_weight else None
            loss = self.distillation(loss, scores, embeddings, batch.teacher_target, batch.mask)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch.videos), sync_dist=True)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Log the gradient's norm before clipping."""
        total = grad_norm(self, norm_type=2).get("grad_2.0_norm_total", torch.tensor(0.0))
        self.log("train/grad_norm", total, on_step=False, on_epoch=True, batch_size=1)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._measure("val", batch, batch_idx)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._measure("test", batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        self._report("val")

    def on_test_epoch_end(self) -> None:
        self._report("test")

    def configure_optimizers(self) -> Optimizer:
        groups = [
            {"name": "head", "params": list(self.detector.head.parameters())},
            {"name": "backbone", "params": self.detector.backbone.tail_parameters()},
        ]
        try:
            made = self.make_optimizer([group for group in groups if group["params"]])
        except (TypeError, ValueError) as error:
            raise KeyframeError(f"optimizer: {error}.") from error
        if not isinstance(made, Optimizer):
            raise KeyframeError(f"optimizer: a {type(made).__name__} was made, not a torch.optim.Optimizer.")
        free = type(made) is AdamW and made.defaults["fused"] is made.defaults["foreach"] is None
        if free and self.device.type == "cpu":
            # a quarter of the time; as an argument Lightning would refuse it beside clipping in mixed precision
            for settings in (made.defaults, *made.param_groups):
                settings["fused"] = True
        return made

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the last epoch's numbers: a run that resumes after its last epoch has no others."""
        checkpoint[TRAIN_NUMBERS] = logged_numbers(self.trainer, "train/")

    def _measure(self, split: str, batch: Batch, batch_idx: int) -> None:
        if batch_idx == 0:
            self.predictions.clear()
        scores = self.detector.enter(batch.kind, batch.inputs, batch.mask)
        loss = self.loss(scores, batch.importance, batch.mask)
        self.log(f"{split}/loss", loss, on_epoch=True, batch_size=len(batch.videos), sync_dist=True)
        for row, video in enumerate(batch.videos):
            real = batch.mask[row].cpu()
            predicted = scores[row].detach().cpu()[real].double().numpy()
            importance = batch.importance[row].cpu()[real].double().numpy()
            labels = batch.annotators[row].cpu()[:, real]
            annotators = labels[~labels.isnan().all(1)].double().numpy()  # without padded rows
            seconds = batch.seconds[row].cpu()[real].numpy()
            if not np.isfinite(predicted).all():
                raise KeyframeError(
                    f"the model gives {video} scores that are not numbers, in epoch {self.current_epoch}: lower "
                    "optimizer.lr, or correct the head, the loss or the labels."
                )
            rho = spearman(predicted, importance)
            self.predictions[video] = Prediction(video, seconds, predicted, importance, annotators, rho)
            if len(self.predictions) > self.drawn:
                del self.predictions[max(self.predictions)]
            self.metrics.update(int(batch.numbers[row]), predicted, importance, annotators)
            if batch.teacher_target is not None:
                teacher = batch.teacher_target[row, :, 0].cpu()[real].double().numpy()
                self.agreement.update(spearman(predicted, teacher))

    def _report(self, split: str) -> None:
        self.table = self.metrics.compute()
        metrics = epoch_metrics(self.table.values())
        monitored = {getattr(callback, "monitor", None) for callback in self.trainer.checkpoint_callbacks}
        if "spearman" not in metrics and f"{split}/spearman" in monitored:
            raise KeyframeError(
                f"the best checkpoint is unknown: none of the {len(self.table)} validation videos has a Spearman "
                "correlation, because all labels or all scores of a video are equal: correct the labels, or "
                "set callbacks.best.monitor=val/mse callbacks.best.mode=min."
            )
        for name, value in metrics.items():
            self.log(f"{split}/{name}", value, batch_size=1)
        if split == "val" and self.distillation is not None:
            self.log("val/teacher_spearman", self.agreement.compute(), batch_size=1)
            self.agreement.reset()
        self.metrics.reset()
