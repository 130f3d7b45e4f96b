"""Train on what the frozen part of the model makes of the videos, instead of making it again every epoch."""

import logging
from collections.abc import Callable, Iterator, Mapping, Set
from datetime import timedelta
from functools import partial
from typing import Any, Literal

import torch.distributed as distributed
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from keyframe.data.datamodule import VideoDataModule
from keyframe.data.dataset import Address, VideoDataset
from keyframe.data.encoded import Encoded
from keyframe.data.schedule import Schedule
from keyframe.errors import KeyframeError
from keyframe.models.module import KeyframeModule
from keyframe.training.encode import Encoder, Wanted
from keyframe.training.two_stage import TwoStage
from keyframe.types import Stage

log = logging.getLogger(__name__)

Split = Literal["train", "val", "test"]

# Ranks wait for the first one as long as it takes: a process group's own limit may be ten minutes.
_NO_LIMIT = timedelta(days=365)


class PrefixCache(Callback):
    """Fills the data module's cache at the start of training, and has the data sets serve from it.

    In stage 1 the whole backbone is frozen: samples hold its features. In stage 2 its prefix still is: samples hold
    the prefix's maps, or pictures where the backbone is not cut. So both stages give the numbers of training on
    pixels, and no epoch decodes. Where training pictures are augmented, `cache.views` draws of each video are kept
    and taken in turn. The first rank decodes and encodes; the others read.

    It does nothing where the data module has no cache.
    """

    def __init__(self) -> None:
        self._first_epoch = 0
        self._sent: set[str] = set()  # keys of entries in memory that all ranks have

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note where training goes on: what only earlier epochs need is not encoded again."""
        self._first_epoch = int(checkpoint["epoch"])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Encode the videos of all splits, as far as the epochs to come need them."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, VideoDataModule):
            return  # what lies behind the backbone is kept already
        if data.cache is None:
            log.info("Cache off (cache=off): every epoch decodes the videos and runs the whole backbone.")
            return
        assert isinstance(pl_module, KeyframeModule)
        backbone = pl_module.detector.backbone
        switch = _switch_epoch(trainer)
        train = Schedule("features", "prefix" if backbone.is_cut else "pixels", switch, _draws(data))
        epochs = _epochs(trainer, self._first_epoch, train)
        last = train.stage(epochs[-1])
        if last == "pixels":
            log.info("%s is not cut into prefix and tail: stage 2 runs all of it, on kept pictures.", backbone.name)
        wanted: dict[Split, set[tuple[Stage, int | None]]] = {
            "train": {(train.stage(epoch), train.view(epoch)) for epoch in epochs},
            "val": {(train.stage(epoch), None) for epoch in epochs},
            "test": {(last, None)},
        }
        if not pl_module.detector.standardizer.fitted:
            wanted["train"].add((train.stage(epochs[0]), None))
        plain = Schedule(train.before, train.after, switch)
        self._fill(trainer, pl_module, data, wanted, {"train": train, "val": plain, "test": _always(last)})

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Outside training, serve what fits the checkpoint that is measured."""
        if trainer.state.fn != TrainerFn.FITTING:
            self._measure(trainer, pl_module, "val")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Serve what fits the checkpoint that is measured."""
        self._measure(trainer, pl_module, "test")

    def _measure(self, trainer: Trainer, module: LightningModule, split: Split) -> None:
        """Serve a split as training has ended; features are those of the backbone as it is now."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, VideoDataModule) or (schedule := _videos(data, "test").schedule) is None:
            return
        assert isinstance(module, KeyframeModule)
        last = schedule.before
        self._fill(trainer, module, data, {split: {(last, None)}}, {split: _always(last)})

    def _fill(
        self,
        trainer: Trainer,
        module: KeyframeModule,
        data: VideoDataModule,
        wanted: Mapping[Split, Set[tuple[Stage, int | None]]],
        schedules: Mapping[Split, Schedule],
    ) -> None:
        """Get all that is wanted of each split, on the first rank and then on the others; serve it from now on."""
        assert data.cache is not None
        data.cache.processes = trainer.num_devices
        precision, fitting = trainer.precision_plugin, trainer.state.fn == TrainerFn.FITTING
        encoder = Encoder(module.detector, data.cache, str(precision.precision), precision.forward_context)
        quiet = not (trainer.is_global_zero and fitting)
        strict = data.strict or not fitting  # by then it is known which videos are good

        def encode(strict: bool) -> tuple[dict[Address, Encoded], dict[str, str]]:
            views = [view for split in wanted for view in _views_of(_videos(data, split), wanted[split])]
            return encoder.encode(views, strict, quiet)

        if trainer.world_size == 1:
            entries, skipped = encode(strict)
            data.leave_out(skipped)
        else:
            entries = self._first_rank_first(
                trainer.is_global_zero, data, partial(encode, strict), partial(encode, True)
            )
        for split in wanted:
            _videos(data, split).serve(schedules[split], entries)

    def _first_rank_first(
        self,
        first: bool,
        data: VideoDataModule,
        encode: Callable[[], tuple[dict[Address, Encoded], dict[str, str]]],
        find: Callable[[], tuple[dict[Address, Encoded], dict[str, str]]],
    ) -> dict[Address, Encoded]:
        """One process encodes; the others leave out the same videos, and then find all the rest.

        On another machine, with another disk, finding is encoding too, of videos that the first rank could read.
        """
        assert data.cache is not None
        group = distributed.new_group(backend="gloo", timeout=_NO_LIMIT)
        assert isinstance(group, distributed.ProcessGroup)
        entries: dict[Address, Encoded] = {}
        told: list[Any] = [None, {}, []]  # an error, what was skipped, and which keys are only in memory
        if first:
            try:
                entries, told[1] = encode()
            except KeyframeError as problem:
                told[0] = problem
            told[2] = sorted(data.cache.in_memory.keys() - self._sent)
        distributed.broadcast_object_list(told, src=0, group=group)
        error, skipped, keys = told
        if error is not None:
            raise error
        for key in keys:
            entry: list[Any] = [data.cache.in_memory.get(key)]
            distributed.broadcast_object_list(entry, src=0, group=group)
            data.cache.in_memory[key] = entry[0]
        self._sent.update(keys)
        distributed.destroy_process_group(group)
        data.leave_out(skipped)
        return entries if first else find()[0]


def _videos(data: VideoDataModule, split: Split) -> VideoDataset:
    dataset = data.datasets[split]
    assert isinstance(dataset, VideoDataset)
    return dataset


def _views_of(dataset: VideoDataset, wanted: Set[tuple[Stage, int | None]]) -> Iterator[Wanted]:
    """For each video, each view with all stages that are wanted of it."""
    views: dict[int | None, list[Stage]] = {}
    for stage, view in sorted(wanted, key=str):
        views.setdefault(view, []).append(stage)
    for number in range(len(dataset)):
        for view, stages in views.items():
            yield Wanted(dataset, number, view, tuple(stages))


def _switch_epoch(trainer: Trainer) -> int | None:
    """The epoch from which on the tail trains, by the callback that makes it train; without one it always does."""
    callbacks = [callback for callback in trainer.callbacks if isinstance(callback, TwoStage)]  # type: ignore[attr-defined]
    return callbacks[0].switch_epoch if callbacks else 0


def _draws(data: VideoDataModule) -> int | None:
    """How many views of a training video are needed; None where its pictures are always the same."""
    assert data.cache is not None
    changes = data.augmentation is not None and data.augmentation.changes_pixels
    return data.cache.views if changes else None


def _epochs(trainer: Trainer, first: int, schedule: Schedule) -> range:
    """The epochs to come; of endless training, enough of them to see every stage and view."""
    end = trainer.max_epochs
    if end is None or end < 0:
        end = max(first, schedule.switch_epoch or 0) + (schedule.views or 1)
    return range(first, max(first + 1, end))


def _always(stage: Stage) -> Schedule:
    return Schedule(stage, stage, None)
