"""One process of a training encodes videos, and the others read what it has kept.

Fit the feature standardizer on the training videos, once.

Train on what the frozen part of the model makes of the videos, instead of making it again every epoch.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Set
from datetime import timedelta
from functools import partial
from typing import Any, Literal

import torch
import torch.distributed as distributed
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from keyframe.data.cache import CachedVideo, VideoCache
from keyframe.data.datamodule import KeyframeDataModule, VideoDataModule
from keyframe.data.dataset import Address, Schedule, VideoDataset, collate
from keyframe.training.encode import Encoder, Wanted
from keyframe.training.module import KeyframeModule
from keyframe.training.stages import TwoStage
from keyframe.types import InputKind, KeyframeError

# Ranks wait for the first one as long as it takes: a process group's own limit may be ten minutes.
_NO_LIMIT = timedelta(days=365)

Encode = Callable[[], tuple[dict[Address, CachedVideo], dict[str, str]]]


def rank_zero_first(
    first: bool, data: VideoDataModule, cache: VideoCache, encode: Encode, find: Encode
) -> dict[Address, CachedVideo]:
    """Have the first rank encode; the others leave out the same videos, and then find all the rest.

    On another machine, with another disk, finding is encoding too, of videos that the first rank could read.

    Args:
        first: whether this is the first rank.
        data: it goes on without videos that do not decode.
        cache: that `encode` and `find` use. What the first rank keeps in memory is sent to the others.
        encode: gives entries and the videos that do not decode, id -> why; called on the first rank.
        find: the same, called on the others.

    Raises:
        KeyframeError: on every rank, what the first one raises.
    """
    group = distributed.new_group(backend="gloo", timeout=_NO_LIMIT)
    assert isinstance(group, distributed.ProcessGroup)
    entries: dict[Address, CachedVideo] = {}
    told: list[Any] = [None, {}, []]  # an error, what was skipped, and which keys are new and only in memory
    if first:
        before = set(cache.in_memory)  # the others have them: they came by here
        try:
            entries, told[1] = encode()
        except KeyframeError as problem:
            told[0] = problem
        told[2] = sorted(cache.in_memory.keys() - before)
    distributed.broadcast_object_list(told, src=0, group=group)
    error, skipped, keys = told
    if error is not None:
        raise error
    for key in keys:
        entry: list[Any] = [cache.in_memory.get(key)]
        distributed.broadcast_object_list(entry, src=0, group=group)
        cache.in_memory[key] = entry[0]
    distributed.destroy_process_group(group)
    data.leave_out(skipped)
    return entries if first else find()[0]


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
                features = detector.encode(batch.kind, batch.inputs)[0].double().cpu()
            count, total, squares = (
                count + len(features),
                total + features.sum(0),
                squares + features.square().sum(0),
            )
        detector.train(training)
        mean = total / count
        return torch.stack([mean, (squares / count - mean.square()).clamp(min=0).sqrt()])


Split = Literal["train", "val", "test"]


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
        last = train.kind(epochs[-1])
        if last == "pixels":
            log.info("%s is not cut into prefix and tail: stage 2 runs all of it, on kept pictures.", backbone.name)
        wanted: dict[Split, set[tuple[InputKind, int | None]]] = {
            "train": {(train.kind(epoch), train.view(epoch)) for epoch in epochs},
            "val": {(train.kind(epoch), None) for epoch in epochs},
            "test": {(last, None)},
        }
        if not pl_module.detector.standardizer.fitted:
            wanted["train"].add((train.kind(epochs[0]), None))
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
        wanted: Mapping[Split, Set[tuple[InputKind, int | None]]],
        schedules: Mapping[Split, Schedule],
    ) -> None:
        """Get all that is wanted of each split, on the first rank and then on the others; serve it from now on."""
        assert data.cache is not None
        data.cache.processes = trainer.num_devices
        precision, fitting = trainer.precision_plugin, trainer.state.fn == TrainerFn.FITTING
        encoder = Encoder(module.detector, data.cache, str(precision.precision), precision.forward_context)
        quiet = not (trainer.is_global_zero and fitting)
        strict = data.strict or not fitting  # by then it is known which videos are good

        def encode(strict: bool) -> tuple[dict[Address, CachedVideo], dict[str, str]]:
            views = [view for split in wanted for view in _views_of(_videos(data, split), wanted[split])]
            return encoder.encode(views, strict, quiet)

        if trainer.world_size == 1:
            entries, skipped = encode(strict)
            data.leave_out(skipped)
        else:
            entries = rank_zero_first(
                trainer.is_global_zero, data, data.cache, partial(encode, strict), partial(encode, True)
            )
        for split in wanted:
            _videos(data, split).serve(schedules[split], entries)


def _videos(data: VideoDataModule, split: Split) -> VideoDataset:
    dataset = data.datasets[split]
    assert isinstance(dataset, VideoDataset)
    return dataset


def _views_of(dataset: VideoDataset, wanted: Set[tuple[InputKind, int | None]]) -> Iterator[Wanted]:
    """For each video, each view with all stages that are wanted of it."""
    views: dict[int | None, list[InputKind]] = {}
    for kind, view in sorted(wanted, key=str):
        views.setdefault(view, []).append(kind)
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


def _always(kind: InputKind) -> Schedule:
    return Schedule(kind, kind, None)
