"""keyframe-train: from videos to a two-stage-trained keyframe model."""

import copy
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.loggers import Logger

from keyframe.cli.arguments import RANKS_IN_SWEEP, is_first_process, starts_ranks
from keyframe.cli.main import train as main
from keyframe.cli.terminal import from_here, result_lines
from keyframe.config import build_all, plain, save_config
from keyframe.data.datamodule import KeyframeDataModule
from keyframe.export.model import require_checkpoint
from keyframe.files import write_metrics
from keyframe.models.detector import KeyframeDetector, compile_detector, count_parameters, parameter_table
from keyframe.models.weights import read_checkpoint
from keyframe.runs import load_run
from keyframe.training.callbacks import quiet_lightning
from keyframe.training.losses import TeacherTargets, check_teacher
from keyframe.training.module import KeyframeModule
from keyframe.training.run import (
    Resume,
    find_batch_size,
    find_checkpoint,
    nested,
    plan_resume,
    resume_split,
    train_and_test,
)
from keyframe.training.trackers import finish, log_artifact
from keyframe.types import KeyframeError

log = logging.getLogger(__name__)


def train(config: DictConfig) -> None:
    """Build everything from YAML, train and test, and report where the results are."""
    run_dir = Path(config.run_dir)
    _place_in_sweep(config, run_dir)
    resume = _resume(config, run_dir)
    torch.manual_seed(config.seed)
    detector = instantiate(config.model, _convert_="all")
    counts = count_parameters(detector, two_stages=config.finetune.switch_epoch is not None)
    torch.set_float32_matmul_precision("high")
    quiet_lightning()
    if not is_first_process():
        logging.getLogger("keyframe").setLevel(logging.WARNING)  # one voice, not one per rank
    datamodule = instantiate(config.datamodule, _convert_="all")
    if resume is not None:
        resume_split(datamodule, resume.path)
    targets = _teacher_targets(config, datamodule, run_dir)
    if config.tune.batch_size and resume is None:
        config.data.batch_size = datamodule.batch_size = _batch_size(config, detector, datamodule)
    seed_everything(config.seed, workers=True, verbose=False)
    module = KeyframeModule(
        detector=detector,
        loss=instantiate(config.loss, _convert_="all"),
        optimizer=instantiate(config.optimizer),
        config={**plain(config), "params": counts},
        distillation=instantiate(config.distillation, _convert_="all"),
    )
    loggers = build_all("logger", config.logger, Logger)
    # without a logger Lightning's monitor of learning rates refuses to work
    wanted = {name: entry for name, entry in config.callbacks.items() if loggers or name != "learning_rate"}
    callbacks = build_all("callbacks", wanted, Callback)
    if targets is not None:
        callbacks.append(targets)
    bar = config.trainer.get("enable_progress_bar", "auto")
    trainer: Trainer = instantiate(
        config.trainer,
        logger=loggers,
        callbacks=callbacks,
        enable_progress_bar=sys.stderr.isatty() if bar == "auto" else bar,
        _convert_="all",
    )
    _check_trainer(trainer, config)
    log.info("%s on %s, precision %s", from_here(run_dir), trainer.strategy.root_device, trainer.precision)
    log.info(f"\n{parameter_table(detector.backbone.name, counts)}")
    if config.compile:
        compile_detector(detector)
    if trainer.is_global_zero:
        save_config(config, run_dir)
    try:
        metrics, best = train_and_test(trainer, module, datamodule, run_dir, resume)
        log_artifact(loggers, best)
    finally:
        finish(loggers)
    metrics.update({f"model/params_{name}": count for name, count in counts.items()})
    if trainer.is_global_zero:
        write_metrics(run_dir / "metrics.json", metrics)
        log.info(result_lines(metrics, datamodule.skipped, run_dir, best))


def _place_in_sweep(config: DictConfig, run_dir: Path) -> None:
    """Let a job of a sweep go on from its own last checkpoint; trackers group jobs by the sweep's directory."""
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        config.group = config.group or os.environ.get("WANDB_RUN_GROUP") or Path(hydra.sweep.dir).name
        config.name = config.name or os.environ.get("WANDB_NAME") or f"job {hydra.job.num}"
        if (run_dir / "checkpoints" / "last.ckpt").is_file():
            config.ckpt_path = "last"


def _resume(config: DictConfig, run_dir: Path) -> Resume | None:
    """What to resume from, if anything; `config` gets the list of what was `resumed`, and with which changes."""
    named = any(override.startswith("hydra.run.dir=") for override in HydraConfig.get().overrides.hydra)
    if config.ckpt_path == "auto" and not named:
        raise KeyframeError("ckpt_path=auto resumes the run of a directory: add hydra.run.dir=DIR to the command.")
    path = find_checkpoint(config.ckpt_path, run_dir) if config.ckpt_path else None
    if path is None:
        return None
    checkpoint = read_checkpoint(path)
    if config.tune.batch_size:  # the one that was found at first
        found = nested(checkpoint, "hyper_parameters", "data", "batch_size")
        config.data.batch_size = found or config.data.batch_size
    resume = plan_resume(path, checkpoint, plain(config), OmegaConf.to_container(config))
    if resume.history:
        OmegaConf.update(config, "resumed", resume.history, force_add=True)
    return resume


def _teacher_targets(config: DictConfig, datamodule: KeyframeDataModule[Any], run_dir: Path) -> TeacherTargets | None:
    if config.distillation is None and config.teacher is None:
        return None
    if config.distillation is None:
        raise KeyframeError(f"teacher={config.teacher} is for distillation: add experiment=distill, or leave it out.")
    if config.teacher is None:
        raise KeyframeError("distillation needs a teacher: add teacher=RUN, a run directory or a checkpoint.")

    require_checkpoint(config.teacher)
    teacher = load_run(config.teacher, key="teacher", trust=config.trust)
    if teacher.directory.resolve() == run_dir.resolve():
        raise KeyframeError(f"teacher={config.teacher} is the run to train: name another one.")
    datamodule.prepare_data()
    check_teacher(config.teacher, teacher.data, datamodule)
    return TeacherTargets(teacher.detector, teacher.trained_model.description["checkpoint_sha256"])


def _batch_size(config: DictConfig, detector: KeyframeDetector, datamodule: KeyframeDataModule[Any]) -> int:
    """The largest batch that fits, tried on a copy of the model."""
    module = KeyframeModule(
        copy.deepcopy(detector), instantiate(config.loss, _convert_="all"), instantiate(config.optimizer)
    )
    module.detector.backbone.train_tail(config.finetune.switch_epoch is not None)
    with tempfile.TemporaryDirectory() as scratch:
        settings = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "callbacks": []}
        trainer = instantiate(config.trainer, **settings, default_root_dir=scratch, _convert_="all")
        _check_trainer(trainer, config)
        return find_batch_size(trainer, module, datamodule, config.tune.max_batch_size)


def _check_trainer(trainer: Trainer, config: DictConfig) -> None:
    """Refuse what Lightning would do differently from what was asked."""
    if str(trainer.precision).startswith("16") and trainer.strategy.root_device.type == "cpu":
        raise KeyframeError("trainer.precision=16-mixed needs a GPU: on a CPU use bf16-mixed or 32-true.")
    if config.compile and trainer.world_size > 1:
        raise KeyframeError("compile=true is for one device: leave it out, or set trainer.devices=1.")
    if config.finetune.norm == "sync" and trainer.world_size > 1 and trainer.strategy.root_device.type == "cpu":
        raise KeyframeError("finetune.norm=sync needs GPUs: on CPUs use finetune.norm=frozen or train.")
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN and trainer.world_size > 1 and not starts_ranks(hydra):
        raise KeyframeError(RANKS_IN_SWEEP)


if __name__ == "__main__":  # torchrun -m keyframe.cli.train
    main()
