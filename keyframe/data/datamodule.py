"""One LightningDataModule over every source of labelled videos."""

import logging
from typing import Any

import torch
import torch.distributed as distributed
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from keyframe.data.augment import Augmentation
from keyframe.data.batch import collate
from keyframe.data.dataset import VideoDataset
from keyframe.data.readers import VideoReader
from keyframe.data.sampler import EpochSampler
from keyframe.data.sampling import Sampling
from keyframe.data.sources import Source
from keyframe.data.splits import Split, read_split_file, stratified_folds
from keyframe.errors import KeyframeError

log = logging.getLogger(__name__)


class VideoDataModule(LightningDataModule):
    """Train, validation and test batches from labelled videos.

    Args:
        source: gives the videos and their labels.
        reader: decodes frames.
        sampling: chooses the frames of a video.
        size: height and width of a frame in pixels.
        batch_size: videos a batch (a rank).
        folds: how many folds the videos are divided into.
        fold: which of them is tested, 0 to folds - 1.
        val_fraction: share of the remaining videos to choose checkpoints by.
        splits: a published split file to use instead of our own folds.
        augmentation: applied to training items; None leaves them as they are.
        seed: of the order and the augmentation of training items. Folds do not depend on it.
        strict: stop at a video that cannot be decoded, instead of leaving it out.
        hold: keep decoded frames in memory; without it every epoch decodes again.
        workers: processes that load batches; 0 loads in the training process, which is best for held frames.
    """

    def __init__(
        self,
        source: Source,
        reader: VideoReader,
        sampling: Sampling,
        size: int | tuple[int, int] = 224,
        batch_size: int = 4,
        folds: int = 5,
        fold: int = 0,
        val_fraction: float = 0.2,
        splits: str | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        strict: bool = False,
        hold: bool = True,
        workers: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise KeyframeError(f"data.batch_size={batch_size} must be at least 1.")
        self.source = source
        self.reader = reader
        self.sampling = sampling
        self.size = (size, size) if isinstance(size, int) else (size[0], size[1])
        self.batch_size = batch_size
        self.folds = folds
        self.fold = fold
        self.val_fraction = val_fraction
        self.splits = splits
        self.augmentation = augmentation
        self.seed = seed
        self.strict = strict
        self.hold = hold
        self.workers = workers
        self.datasets: dict[str, VideoDataset] = {}
        self.skipped: dict[str, str] = {}

    def prepare_data(self) -> None:
        """Make the data where it is made (one process a machine)."""
        self.source.prepare()

    def setup(self, stage: str | None = None) -> None:
        """Find, split and check the videos; the second call does nothing.

        Raises:
            KeyframeError: nothing to train, validate or test on, or labels that do not fit.
        """
        if self.datasets:
            return
        videos = {video.id: video for video in self.source.videos()}
        split = self._split(list(videos), [video.labels.category for video in videos.values()])
        datasets = {
            name: VideoDataset(
                name,
                [videos[id_] for id_ in ids],
                self.reader,
                self.sampling,
                self.size,
                self.augmentation if name == "train" else None,
                self.seed,
                self.hold,
            )
            for name, ids in (("train", split.train), ("val", split.val), ("test", split.test))
        }
        for name, dataset in datasets.items():
            self.skipped.update(dataset.check(self.strict))
            if not len(dataset):
                reasons = "; ".join(list(self.skipped.values())[:3])
                raise KeyframeError(f"No video of the {name} split can be decoded: {reasons}")
        for id_, reason in self.skipped.items():
            log.warning("Left out %s: %s", id_, reason)
        log.info("Videos: %s", ", ".join(f"{len(dataset)} {name}" for name, dataset in datasets.items()))
        self.datasets = datasets

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches in an order that is new every epoch."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Batches of the videos that checkpoints are chosen by."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Batches of the videos that are reported on."""
        return self._loader("test")

    def _split(self, ids: list[str], categories: list[str]) -> Split:
        if self.splits is not None:
            return read_split_file(self.splits, self.fold, ids, self.val_fraction, categories=categories)
        return stratified_folds(ids, categories, self.folds, self.fold, self.val_fraction)

    def _loader(self, name: str, shuffle: bool = False) -> DataLoader[Any]:
        dataset = self.datasets[name]
        rank, world = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
        if len(dataset) < world:
            raise KeyframeError(
                f"The {name} split has {len(dataset)} videos, fewer than the {world} processes: lower trainer.devices."
            )
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=EpochSampler(len(dataset), shuffle, self.seed, rank, world),
            collate_fn=collate,
            num_workers=self.workers,
            # a decoder that was opened before a fork may hang; spawned workers start clean
            multiprocessing_context="spawn" if self.workers else None,
            persistent_workers=self.workers > 0,
            # else every iterator draws from the global generator, and dropout differs after a resume
            generator=torch.Generator().manual_seed(self.seed),
        )
