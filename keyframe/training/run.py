"""A training run: train, test the best checkpoint, find a batch size, resume from and write checkpoints."""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil, log2
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.strategies import ParallelStrategy
from pytorch_lightning.tuner import Tuner
from torch import nn

from keyframe.data.datamodule import FeatureDataModule, KeyframeDataModule, VideoDataModule
from keyframe.data.dataset import VideoDataset
from keyframe.data.folder import few
from keyframe.files import errors_name, one_line, write_table
from keyframe.models.backbone import Backbone, NoBackbone
from keyframe.models.weights import read_checkpoint
from keyframe.training.module import TRAIN_NUMBERS, KeyframeModule, logged_numbers
from keyframe.trust import check_plain, current_name
from keyframe.types import KeyframeError, check_number

log = logging.getLogger(__name__)

# Parts of a checkpoint that Lightning needs beside the weights to resume, and their types.
_STATE = {"epoch": int, "global_step": int, "loops": dict, "callbacks": dict, "optimizer_states": list}

# Keys of one start alone: where it writes and who follows it.
_OF_A_START = ("run_dir", "ckpt_path", "sweep", "trust", "name", "group", "tags", "logger", "tune")
# Keys that count from the epoch that the run resumes at. All others stay what they were: the model, the videos and
# their split, the frames seen of them, the loss, the seed, and the class of the optimizer.
_CHANGEABLE = (
    *("trainer", "callbacks", "scheduler", "finetune.lr_factor", "deterministic", "compile", "model.chunk"),
    *("data.root", "data.path", "data.labels", "data.allow_missing", "data.strict", "data.workers"),  # may have moved
    *("cache", "reader._target_", "reader.threads", "teacher"),
)
_NUMBERS = "optimizer"  # of it, numbers may change; a switch such as amsgrad needs a state that was not kept
_BEFORE_THE_SWITCH = "finetune.switch_epoch"

_ABSENT = object()
_REFERENCE = re.compile(r"\$\{[\w.]+\}")


@dataclass(frozen=True)
class Resume:
    """A checkpoint that a training goes on from."""

    path: Path  # of the checkpoint
    epoch: int = 0  # the first that is trained now, from 0; maybe the rest of it
    # of the training that wrote the checkpoint, plain nested values; empty if it is not known
    config: Mapping[str, Any] = field(default_factory=dict)
    # key -> (value until then, value from `epoch` on), as texts
    changes: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        """A sentence per change."""
        return [f"{key} is now {now}, was {was}, from epoch {self.epoch}" for key, (was, now) in self.changes.items()]

    @property
    def history(self) -> list[dict[str, Any]]:
        """The changes of this and of all earlier resumes: `epoch`, and `changes`, key -> [was, now]."""
        earlier = self.config.get("resumed")
        changes = {key: list(values) for key, values in self.changes.items()}
        now = [{"epoch": self.epoch, "changes": changes}] if changes else []
        return [*(earlier if isinstance(earlier, list) else []), *now]


def plan_resume(path: Path, checkpoint: Mapping[str, Any], config: Mapping[str, Any], written: Any) -> Resume:
    """Compare a checkpoint's configuration with the one to go on with; a KeyframeError names what cannot change.

    `config` is the configuration now, plain nested values; `written` the same with its references as they are written.
    """
    before = checkpoint.get("hyper_parameters")
    if not isinstance(before, dict) or not before:
        return Resume(path)
    check_plain(before, path)
    switched = nested(checkpoint, "callbacks", "TwoStage", "switched") is True
    changes: dict[str, tuple[str, str]] = {}
    refused = []
    for key, was, now in _changed_keys(before, config, written):
        if _is_below(key, *_OF_A_START):
            continue
        name, values = key.removesuffix("._target_"), (_shown(key, was), _shown(key, now))
        if _may_change(key, was, now, switched):
            changes[name] = values
        elif _is_below(key, _NUMBERS) or _ABSENT not in (was, now):  # else another version of keyframe has no such key
            was, now = (text if len(text) <= 40 else f"{text[:37]}..." for text in values)
            refused.append(f"{name}={was}, now {now}")
    if refused:
        more = f", and {len(refused) - 3} more" if len(refused) > 3 else ""
        raise KeyframeError(
            f"{path} was trained with {'; '.join(refused[:3])}{more}: a resumed run keeps these, give them as they "
            "were, or start a new run without ckpt_path."
        )
    epoch = nested(checkpoint, "loops", "fit_loop", "epoch_progress", "current", "processed")
    resume = Resume(path, epoch if isinstance(epoch, int) else 0, before, changes)
    epochs = nested(config, "trainer", "max_epochs")
    if isinstance(epochs, int) and epochs < resume.epoch:
        raise KeyframeError(f"{path} has trained {resume.epoch} epochs: trainer.max_epochs={epochs} is too low.")
    return resume


def _may_change(key: str, was: Any, now: Any, switched: bool) -> bool:
    if key == _BEFORE_THE_SWITCH:
        return not switched
    if _is_below(key, _NUMBERS):
        return key != _NUMBERS and all(value is _ABSENT or _is_number(value) for value in (was, now))
    return _is_below(key, *_CHANGEABLE)


def _is_below(key: str, *parents: str) -> bool:
    return any(key == parent or key.startswith(f"{parent}.") for parent in parents)


def _is_number(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_number, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def _changed_keys(was: Any, now: Any, written: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each key whose value differs, the value before and now."""
    if isinstance(written, str) and _REFERENCE.search(written):
        return  # the key that it refers to is compared
    if isinstance(was, dict) and isinstance(now, dict) and isinstance(written, dict):
        for name in now if not key else {**now, **was}:
            child = f"{key}.{name}" if key else name
            before, after, text = (part.get(name, _ABSENT) for part in (was, now, written))
            yield from _changed_keys(before, after, text, child)
    elif was != now and not (isinstance(was, str) and current_name(was) == now):
        yield key, was, now


def _shown(key: str, value: Any) -> str:
    if value is _ABSENT:
        return "not set"
    if isinstance(value, dict):
        key, value = "_target_", value.get("_target_", "set")
    if key.endswith("_target_"):
        return str(value).rpartition(".")[2]
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else one_line(str(value))[:100]


def nested(value: Any, *names: str) -> Any:
    """A value in nested dicts that may be anything; None if it is not there."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def train_and_test(
    trainer: Trainer,
    module: KeyframeModule,
    datamodule: KeyframeDataModule[Any],
    run_dir: Path,
    resume: Resume | None = None,
) -> tuple[dict[str, float], Path]:
    """Run both stages, then measure the best checkpoint on validation and test videos.

    Writes `split.json`, a split file, and `per_video.csv`, a row per test video, into `run_dir`. Returns the metrics by
    name, e.g. `test/spearman`, and the best checkpoint.
    """
    backbone = module.detector.backbone
    if isinstance(datamodule, FeatureDataModule) and not isinstance(backbone, NoBackbone):
        raise KeyframeError(f"{datamodule.paths[0]} holds features: leave backbone={backbone.name} out.")
    if isinstance(backbone, NoBackbone) and not isinstance(datamodule, FeatureDataModule):
        raise KeyframeError("backbone=none cannot see videos: choose a backbone, or a feature file with data=h5.")
    if isinstance(datamodule, VideoDataModule) and isinstance(backbone, Backbone) and trainer.is_global_zero:
        backbone.check_size(datamodule.size, "data.size")
    metrics: dict[str, float] = {}
    if resume is not None:
        checkpoint = read_checkpoint(resume.path)
        check_fits(resume.path, checkpoint, module)
        log.info("Resuming from %s after epoch %d", resume.path, checkpoint["epoch"])
        for line in resume.lines:
            log.info("%s", line)
        numbers = checkpoint.get(TRAIN_NUMBERS)
        if isinstance(numbers, dict):
            metrics.update({name: value for name, value in numbers.items() if isinstance(value, float)})
        del checkpoint
    # Lightning would do so after trackers have started a run, which bad data must not leave behind.
    datamodule.prepare_data()
    datamodule.setup()
    if trainer.is_global_zero:
        datamodule.split.write(run_dir / "split.json", datamodule.origins)
    try:
        trainer.fit(module, datamodule, ckpt_path=resume.path if resume else None, weights_only=True)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        if resume is None or logged_numbers(trainer, "val/"):
            raise
        # Lightning and optimizers take any state, and fail where they first use it, within an epoch
        raise KeyframeError(
            f"{resume.path} cannot be resumed from ({type(error).__name__}: {one_line(str(error))[:200]}): if another "
            "checkpoint can, this one is damaged; HYDRA_FULL_ERROR=1 shows where it fails."
        ) from error
    metrics.update(logged_numbers(trainer, "train/"))
    best = _best_checkpoint(trainer)
    for measure in (trainer.validate, trainer.test):
        measure(module, datamodule, ckpt_path=best, weights_only=True, verbose=False)
        metrics.update(logged_numbers(trainer, "val/", "test/"))
    if trainer.is_global_zero:
        videos = datamodule.datasets["test"].videos
        rows = [{"video": videos[number].id, **row} for number, row in module.table.items()]
        write_table(run_dir / "per_video.csv", rows)
    for name, dataset in datamodule.datasets.items():
        metrics[f"data/videos_{name}"] = len(dataset)
    metrics["data/videos_skipped"] = len(datamodule.skipped)
    return metrics, best


def resume_split(datamodule: KeyframeDataModule[Any], resume: Path) -> None:
    """Divide the videos as the run of a checkpoint did: new ones are left out and named, missing ones are refused."""
    datamodule.keep_split(read_checkpoint(resume), resume)
    datamodule.prepare_data()
    if datamodule.kept_split is not None and (gone := datamodule.gone):
        raise KeyframeError(
            f"{resume} cannot be resumed: {len(gone)} of the {len(datamodule.split.by_id())} videos of its split no "
            f"longer exist ({few(gone)}): put them back, or train a new run."
        )
    for note in datamodule.split_notes(str(resume)):
        log.warning("%s", note)


def _best_checkpoint(trainer: Trainer) -> Path:
    """The checkpoint that is best by its metric, else the last one."""
    savers = [one for one in trainer.checkpoint_callbacks if isinstance(one, ModelCheckpoint) and one.best_model_path]
    if not savers:
        raise KeyframeError("Training wrote no checkpoint to test: trainer.max_epochs must be at least 1.")
    best = next((one for one in savers if one.monitor is not None), None)
    if best is None:
        log.warning("No checkpoint has a value of the monitored metric; the last one is tested.")
    return Path((best or savers[0]).best_model_path)


def find_batch_size(
    trainer: Trainer, module: KeyframeModule, datamodule: KeyframeDataModule[Any], largest: int | None = None
) -> int:
    """Double the batch from one video on, three steps each, until memory runs out or it holds all training videos.

    Returns a power of two, or `largest`, or the number of training videos. The module is tried as it comes (with the
    backbone's tail unfrozen it needs the memory of stage 2), and on pixels, which take more memory than cached maps. If
    sampling gives long videos more frames, a batch of the longest may need more than was tried: set `largest` lower.
    Trainer (of one device, without loggers, checkpoints or other callbacks) and module are for this alone.
    """
    check_number("tune.max_batch_size", largest, 1, optional=True)
    if isinstance(trainer.strategy, ParallelStrategy):
        raise KeyframeError("tune.batch_size=true is for one device: use trainer=auto, then set data.batch_size.")
    datamodule.prepare_data()
    datamodule.setup()
    train = datamodule.datasets["train"]
    if isinstance(datamodule, VideoDataModule) and isinstance(train, VideoDataset) and datamodule.cache is not None:
        datamodule.leave_out(train.check(datamodule.strict))  # so far only their packets were looked at
    videos = len(train)
    limit = min(videos, largest or videos)
    before, datamodule.batch_size = datamodule.batch_size, 1
    try:
        found = Tuner(trainer).scale_batch_size(
            module, datamodule=datamodule, init_val=1, max_trials=ceil(log2(limit)) + 1
        )
    except ValueError as error:
        if datamodule.batch_size >= 1:
            raise
        raise KeyframeError("tune.batch_size: no video fits in memory: lower data.size or sampling.frames.") from error
    finally:
        datamodule.batch_size = before
    assert found is not None
    size = min(found, limit)
    why = "memory" if found < limit else "tune.max_batch_size" if limit < videos else "all training videos"
    log.info("Batch size %d (%s)", size, why)
    return size


def find_checkpoint(ckpt_path: str, run_dir: Path) -> Path | None:
    """The checkpoint of `ckpt_path=`: a file, or the last of a run directory.

    `last` is that of `run_dir`, the directory of the run that resumes; `auto` the same, or None if there is none yet.
    """
    path = run_dir if ckpt_path in ("last", "auto") else Path(ckpt_path).expanduser()
    if path.is_dir():
        path = path / "checkpoints" / "last.ckpt"
    if ckpt_path == "auto" and not path.exists():
        return None
    if not path.is_file():
        raise KeyframeError(f"ckpt_path={ckpt_path}: there is no checkpoint {path}; give one, or a run directory.")
    return path


def check_fits(path: Path, checkpoint: dict[str, Any], module: nn.Module) -> None:
    """Refuse to resume from a checkpoint of another architecture or without training state, before loading it."""
    theirs, ours = checkpoint["state_dict"], module.state_dict()
    wrong = sorted(theirs.keys() ^ ours.keys()) + sorted(
        name for name in theirs.keys() & ours.keys() if theirs[name].shape != ours[name].shape
    )
    if wrong:
        name = nested(checkpoint, "hyper_parameters", "model", "backbone", "name")
        was = f" It was trained with backbone.name={name}." if name else ""
        raise KeyframeError(
            f"{path} is a checkpoint of another architecture ({len(wrong)} weights differ, first {wrong[0]}): "
            f"resume with the backbone and head it was trained with.{was}"
        )
    missing = [name for name, kind in _STATE.items() if not isinstance(checkpoint.get(name), kind)]
    if missing:
        raise KeyframeError(
            f"{path} holds weights but not the state of a training run (no {missing[0]}): resume from a checkpoint "
            "that keyframe-train wrote."
        )


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it.

    Lightning's own moves it from the system's temporary folder: onto another disk, that is a copy, and a process killed
    meanwhile leaves half a checkpoint.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write a checkpoint; after an error the file that was there is still whole."""
        path = Path(path)
        # always the same name, so that the next attempt replaces what a killed process has left
        draft = path.with_name(f".{path.name}.part")
        with errors_name(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.unlink(missing_ok=True)  # a link would lead elsewhere
            try:
                with draft.open("wb") as file:
                    torch.save(checkpoint, file)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
