"""Importance curves of a few videos, drawn while training goes on."""

from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

from keyframe.drawing.curves import draw_curves
from keyframe.models.module import KeyframeModule


class CurvePictures(Callback):
    """Draws the model's curves over the annotators' into a folder, and into W&B and TensorBoard where they are on.

    Args:
        directory: where the PNG files go.
        every: epochs from one picture of validation videos to the next; the last epoch is always drawn.
        videos: how many videos a picture shows.
    """

    def __init__(self, directory: str, every: int = 5, videos: int = 2) -> None:
        self.directory = Path(directory)
        self.every = every
        self.videos = videos

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw validation videos when it is time."""
        epoch = trainer.current_epoch
        last = epoch + 1 == trainer.max_epochs
        if not trainer.sanity_checking and ((epoch + 1) % self.every == 0 or last):
            self._draw(trainer, pl_module, "val", f"val-epoch{epoch:03d}", f"validation videos after epoch {epoch}")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw test videos."""
        self._draw(trainer, pl_module, "test", "test", "held-out test videos")

    def _draw(self, trainer: Trainer, module: LightningModule, split: str, name: str, title: str) -> None:
        assert isinstance(module, KeyframeModule)
        if not trainer.is_global_zero:
            return
        figure = draw_curves([p for _, p in sorted(module.predictions.items())[: self.videos]], title)
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"{name}.png"
        figure.savefig(path, dpi=110)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image(f"{split}/curves", [str(path)])
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.add_figure(f"{split}/curves", figure, trainer.global_step)
