"""Train, choose the best checkpoint, test it, and write what came of it."""

import logging
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from keyframe.data.datamodule import FeatureDataModule, KeyframeDataModule
from keyframe.errors import KeyframeError
from keyframe.evaluation.record import write_table
from keyframe.models.module import TRAIN_NUMBERS, KeyframeModule
from keyframe.models.no_backbone import NoBackbone
from keyframe.training.checkpoints import check_fits, read_checkpoint

log = logging.getLogger(__name__)


def train_and_test(
    trainer: Trainer,
    module: KeyframeModule,
    datamodule: KeyframeDataModule[Any],
    run_dir: Path,
    resume: Path | None = None,
) -> tuple[dict[str, float], Path]:
    """Run both stages, then measure the best checkpoint on validation and test videos.

    Writes `per_video.csv`, a row a test video, into `run_dir`.

    Returns:
        The metrics by name, e.g. `test/spearman`, and the best checkpoint.

    Raises:
        KeyframeError: a checkpoint that cannot be resumed from, a model that does not take what the data gives, or a
            training that left no checkpoint.
    """
    _check_fits_data(module, datamodule)
    metrics: dict[str, float] = {}
    if resume is not None:
        checkpoint = read_checkpoint(resume)
        check_fits(resume, checkpoint, module)
        log.info("Resuming from %s after epoch %d", resume, checkpoint["epoch"])
        metrics.update(checkpoint.get(TRAIN_NUMBERS, {}))
        del checkpoint
    # Lightning would do so after trackers have begun a run, which bad data should not leave behind.
    datamodule.prepare_data()
    datamodule.setup()
    trainer.fit(module, datamodule, ckpt_path=resume, weights_only=True)
    metrics.update(_numbers(trainer, "train/"))
    best = _best(trainer)
    for measure in (trainer.validate, trainer.test):
        measure(module, datamodule, ckpt_path=best, weights_only=True, verbose=False)
        metrics.update(_numbers(trainer, "val/", "test/"))
    if trainer.is_global_zero:
        _write_table(run_dir / "per_video.csv", module, datamodule)
    for name, dataset in datamodule.datasets.items():
        metrics[f"data/videos_{name}"] = len(dataset)
    metrics["data/videos_skipped"] = len(datamodule.skipped)
    return metrics, best


def _check_fits_data(module: KeyframeModule, datamodule: KeyframeDataModule[Any]) -> None:
    """Pictures need a backbone, and features another one has made need none."""
    backbone = module.detector.backbone
    if isinstance(datamodule, FeatureDataModule) and not isinstance(backbone, NoBackbone):
        raise KeyframeError(
            f"{datamodule.path} holds features, which {backbone.name} could not train on: leave backbone out."
        )
    if isinstance(backbone, NoBackbone) and not isinstance(datamodule, FeatureDataModule):
        raise KeyframeError("backbone=none cannot see videos: choose a backbone, or a feature file with data=h5.")


def _best(trainer: Trainer) -> Path:
    checkpoints = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    for callback in checkpoints:
        if callback.monitor is not None and callback.best_model_path:
            return Path(callback.best_model_path)
    for callback in checkpoints:
        if callback.best_model_path:
            log.warning("No checkpoint was best by its metric; the last one is measured.")
            return Path(callback.best_model_path)
    raise KeyframeError("Training left no checkpoint to measure: trainer.max_epochs must be at least 1.")


def _numbers(trainer: Trainer, *prefixes: str) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(prefixes)}


def _write_table(path: Path, module: KeyframeModule, datamodule: KeyframeDataModule[Any]) -> None:
    videos = datamodule.datasets["test"].videos
    rows = [{"video": videos[number].id, **row} for number, row in module.table.items()]
    write_table(path, rows)
