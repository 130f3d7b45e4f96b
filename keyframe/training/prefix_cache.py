"""Training on cached outputs of the frozen backbone, instead of computing them in every epoch."""

import logging
from collections.abc import Iterator, Mapping, Set
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from keyframe.data.datamodule import KeyframeDataModule, VideoDataModule
from keyframe.data.dataset import Schedule, VideoDataset, collate
from keyframe.training.callbacks import find_two_stage
from keyframe.training.encode import Encoded, Encoder, Request, eval_mode, rank_zero_first
from keyframe.training.module import KeyframeModule
from keyframe.types import InputKind

log = logging.getLogger(__name__)

# The inputs that epochs need of a split: their kinds, each of an augmented view or (None) of the frames as they are.
Wanted = Set[tuple[InputKind, int | None]]


class PrefixCache(Callback):
    """Fills the data module's cache, if it has one, at the start of training, and has the data sets serve from it.

    In stage 1 the whole backbone is frozen: samples hold its features. In stage 2 its prefix still is: samples hold the
    prefix's maps, or frames if the backbone is not cut. So both stages give the numbers of training on pixels, and no
    epoch decodes. If training frames are augmented, `cache.views` draws of each video are kept and used in turn.
    """

    def __init__(self) -> None:
        self._first_epoch = 0

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note where training resumes: what only earlier epochs need is not encoded again."""
        self._first_epoch = int(checkpoint["epoch"])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, VideoDataModule):
            return  # a feature file holds features already
        if data.cache is None:
            log.info("Cache off (cache=off): every epoch decodes the videos and runs the whole backbone.")
            return
        assert isinstance(pl_module, KeyframeModule)
        backbone = pl_module.detector.backbone
        two_stage = find_two_stage(trainer)
        switch = two_stage.switch_epoch if two_stage is not None else 0  # without the callback the tail always trains
        augmented = data.augmentation is not None and data.augmentation.changes_pixels
        plain = Schedule("features", "prefix" if backbone.is_cut else "pixels", switch)
        train = Schedule(plain.before, plain.after, switch, data.cache.views if augmented else None)
        epochs = _epochs(trainer, self._first_epoch, train)
        last = train.kind(epochs[-1])
        if last == "pixels":
            log.info("%s is not cut into prefix and tail: stage 2 runs all of it, on cached frames.", backbone.name)
        wanted: dict[str, set[tuple[InputKind, int | None]]] = {
            "train": {(train.kind(epoch), train.view(epoch)) for epoch in epochs},
            "val": {(plain.kind(epoch), None) for epoch in epochs},
            "test": {(last, None)},
        }
        if not pl_module.detector.standardizer.fitted:
            wanted["train"].add((train.kind(epochs[0]), None))
        self._fill(trainer, pl_module, data, wanted, {"train": train, "val": plain, "test": Schedule(last, last, None)})

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Outside training, serve what fits the checkpoint that is measured."""
        if trainer.state.fn != TrainerFn.FITTING:
            self._serve_measured(trainer, pl_module, "val")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._serve_measured(trainer, pl_module, "test")

    def _serve_measured(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        """Serve a split in the kind of the last epoch; features are those of the backbone as it is now."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, VideoDataModule) or (schedule := _dataset(data, "test").schedule) is None:
            return
        assert isinstance(module, KeyframeModule)
        last = schedule.before
        self._fill(trainer, module, data, {split: {(last, None)}}, {split: Schedule(last, last, None)})

    def _fill(
        self,
        trainer: Trainer,
        module: KeyframeModule,
        data: VideoDataModule,
        wanted: Mapping[str, Wanted],
        schedules: Mapping[str, Schedule],
    ) -> None:
        """Get what is wanted of each split, on the first rank and then on the others; serve it from now on."""
        assert data.cache is not None
        data.cache.processes = trainer.num_devices
        precision, fitting = trainer.precision_plugin, trainer.state.fn == TrainerFn.FITTING
        encoder = Encoder(module.detector, data.cache, str(precision.precision), precision.forward_context)
        quiet = not (trainer.is_global_zero and fitting)

        def encode(strict: bool) -> Encoded:
            requests = [request for split in wanted for request in _requests(_dataset(data, split), wanted[split])]
            return encoder.encode(requests, strict, quiet)

        # after training it is known which videos are good
        entries = rank_zero_first(trainer, data, data.cache, encode, data.strict or not fitting)
        for split in wanted:
            _dataset(data, split).serve(schedules[split], entries)


class FeatureStatistics(Callback):
    """Sets the mean and deviation that `FeatureStandardizer` takes out of features; stands behind `PrefixCache`.

    They are of the training videos without augmentation; computed on rank 0, sent to all, and in the checkpoint.
    """

    @torch.no_grad()
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
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
        """Mean of each channel over all frames and one deviation for all channels, (2, width), float64."""
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(datamodule, KeyframeDataModule)
        dataset = datamodule.datasets["train"]
        count, total, squares = 0, torch.zeros(1), torch.zeros(1)
        with eval_mode(module.detector):
            for number in range(len(dataset)):
                batch = collate([dataset.plain(number)]).to(module.device)
                with trainer.precision_plugin.forward_context():
                    features = module.detector.encode(batch.kind, batch.inputs)[0].double().cpu()
                count += len(features)
                total = total + features.sum(0)
                squares = squares + features.square().sum(0)
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=0)
        # a deviation per channel would make the noise of channels that hardly vary as loud as the rest
        return torch.stack([mean, variance.mean().sqrt().expand_as(mean)])


def _dataset(data: VideoDataModule, split: str) -> VideoDataset:
    dataset = data.datasets[split]
    assert isinstance(dataset, VideoDataset)
    return dataset


def _requests(dataset: VideoDataset, wanted: Wanted) -> Iterator[Request]:
    kinds: dict[int | None, list[InputKind]] = {}
    for kind, view in sorted(wanted, key=str):
        kinds.setdefault(view, []).append(kind)
    for number in range(len(dataset)):
        for view in kinds:
            yield Request(dataset, number, view, tuple(kinds[view]))


def _epochs(trainer: Trainer, first: int, schedule: Schedule) -> range:
    """The coming epochs; of endless training, enough of them to see every kind and view."""
    end = trainer.max_epochs
    if end is None or end < 0:
        end = max(first, schedule.switch_epoch or 0) + (schedule.views or 1)
    return range(first, max(first + 1, end))
