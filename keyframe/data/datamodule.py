"""LightningDataModules over labelled videos: batches of pixels from video files, or of features from feature files."""

import logging
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed as distributed
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Sampler

from keyframe.data.dataset import FeatureDataset, VideoDataset, collate
from keyframe.data.divided import DividedData, DividedFeatures, DividedVideos, Video
from keyframe.data.feature_file import FeatureVideo
from keyframe.data.splits import PARTS
from keyframe.system import shared_memory_bytes
from keyframe.types import KeyframeError, LabelledVideo

log = logging.getLogger(__name__)

_CHUNK = 64  # neighbours in a feature file that is read while training: 50 MB of 200 features of 1024 channels each
_LEAST_SHARED = 1 << 20  # shared memory that the locks of workers take at most, in bytes


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, number) in an order that is a function of (seed, epoch, rank); Lightning calls `set_epoch`.

    The epoch travels with the index because persistent workers keep the data set as it was when they started. With
    `shuffle` the order is new every epoch, and each of the `world` ranks gets the same number of samples, as DDP needs,
    some of them twice; otherwise each sample goes to exactly one rank. `chunk` is for samples that lie on a disk in
    their order: chunks of so many neighbours come in random order, and the samples of 16 chunks in random order.
    """

    def __init__(
        self, length: int, shuffle: bool, seed: int = 0, rank: int = 0, world: int = 1, chunk: int | None = None
    ) -> None:
        self.length, self.shuffle, self.seed, self.chunk = length, shuffle, seed, chunk
        self.rank, self.world = rank, world
        self.epoch = 0
        self.done = 0  # samples to leave out of the next iteration: they were seen before an interruption

    def set_epoch(self, epoch: int) -> None:
        """Use the order of that epoch from the next iteration on."""
        self.epoch = epoch

    def _numbers(self) -> list[int]:
        if not self.shuffle:
            return list(range(self.rank, self.length, self.world))
        rng = np.random.default_rng((self.seed, self.epoch))
        if self.chunk is None:
            order = rng.permutation(self.length)
        else:
            starts = rng.permutation(np.arange(0, self.length, self.chunk))
            order = np.concatenate([np.arange(start, min(start + self.chunk, self.length)) for start in starts])
            mixed = np.split(order, range(16 * self.chunk, self.length, 16 * self.chunk))
            order = np.concatenate([rng.permutation(one) for one in mixed])
        count = -(-self.length // self.world) * self.world
        return [int(n) for n in np.resize(order, count)[self.rank :: self.world]]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        first, self.done = self.done, 0
        return iter([(self.epoch, number) for number in self._numbers()[first:]])

    def __len__(self) -> int:
        return len(self._numbers())


class KeyframeDataModule(DividedData[Video], LightningDataModule):
    """Train, validation and test batches of divided data, whose arguments it has."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.datasets: dict[str, VideoDataset | FeatureDataset] = {}
        self.skipped: dict[str, str] = {}
        self._batches_done = 0

    def setup(self, stage: str | None = None) -> None:
        """Find, split and check the videos; the second call does nothing."""
        if self.datasets:
            return
        datasets = {name: self._dataset(name, self.split_videos(name)) for name in PARTS}
        for dataset in datasets.values():
            self._note_skipped(dataset, self._check(dataset))
        self.datasets = datasets
        self._log_counts()

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches in an order that is new every epoch; after a resume within an epoch, first the rest of that epoch."""
        loader = self._loader("train", shuffle=True)
        assert isinstance(loader.sampler, EpochSampler)
        loader.sampler.done = self._batches_done * self.batch_size
        if self.trainer is not None:
            # Lightning sets the epoch after workers have begun to load
            progress: Any = self.trainer.fit_loop.epoch_progress.current
            loader.sampler.set_epoch(progress.processed)
        self._batches_done = 0
        return loader

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader("test")

    def state_dict(self) -> dict[str, Any]:
        """The split, and how many batches of the epoch this rank has done (Lightning keeps it in checkpoints)."""
        assert self.trainer is not None
        loop = self.trainer.fit_loop
        done = loop.epoch_loop.batch_progress.current.ready
        return {"batches_done": done if done < loop.max_batches else 0, "split": self.split.to_plain()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._batches_done = int(state_dict["batches_done"])

    @abstractmethod
    def _dataset(self, name: str, videos: list[Video]) -> VideoDataset | FeatureDataset:
        """Samples of one split."""

    def _check(self, dataset: VideoDataset | FeatureDataset) -> dict[str, str]:
        """Leave out the dataset's bad videos, id -> why; a feature file that was read has none."""
        return {}

    def _note_skipped(self, dataset: VideoDataset | FeatureDataset, skipped: Mapping[str, str]) -> None:
        self.skipped.update(skipped)
        for id_, reason in skipped.items():
            log.warning("Left out %s: %s", id_, reason)
        if not len(dataset):
            reasons = "; ".join(list(self.skipped.values())[:3])
            raise KeyframeError(f"No video of the {dataset.name} split can be decoded: {reasons}")

    def _log_counts(self) -> None:
        log.info("Videos: %s", ", ".join(f"{len(dataset)} {name}" for name, dataset in self.datasets.items()))

    def _loader(self, name: str, shuffle: bool = False) -> DataLoader[Any]:
        dataset = self.datasets[name]
        rank, world = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
        if len(dataset) < world:
            raise KeyframeError(
                f"The {name} split has {len(dataset)} videos, fewer than the {world} processes: lower trainer.devices."
            )
        # a worker would only copy what is in memory
        workers = 0 if dataset.in_memory else self.workers
        chunk = None if dataset.in_memory or isinstance(dataset, VideoDataset) else _CHUNK
        if workers and (free := shared_memory_bytes()) is not None and free < _LEAST_SHARED:
            raise KeyframeError(
                f"data.workers={workers} needs shared memory, and /dev/shm has {free // 1024} KB left: give the "
                "container more (--shm-size=1g), or set data.workers=0."
            )
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=EpochSampler(len(dataset), shuffle, self.seed, rank, world, chunk),
            collate_fn=collate,
            num_workers=workers,
            # a decoder that was opened before a fork may hang; spawned workers start clean
            multiprocessing_context="spawn" if workers else None,
            persistent_workers=workers > 0,
            # else every iterator draws from the global generator, and dropout differs after a resume
            generator=torch.Generator().manual_seed(self.seed),
        )


class VideoDataModule(DividedVideos, KeyframeDataModule[LabelledVideo]):
    """Batches of pixels from labelled video files."""

    def leave_out(self, skipped: Mapping[str, str]) -> None:
        """Go on without videos that turned out to be bad after `setup`, id -> why."""
        if not skipped:
            return
        for dataset in self.datasets.values():
            assert isinstance(dataset, VideoDataset)
            bad = {video.id: skipped[video.id] for video in dataset.videos if video.id in skipped}
            dataset.leave_out(bad)
            self._note_skipped(dataset, bad)
        self._log_counts()

    def _dataset(self, name: str, videos: list[LabelledVideo]) -> VideoDataset:
        augmentation = self.augmentation if name == "train" else None
        return VideoDataset(name, videos, self.reader, self.sampling, self.size, augmentation, self.seed)

    def _check(self, dataset: VideoDataset | FeatureDataset) -> dict[str, str]:
        assert isinstance(dataset, VideoDataset)
        # filling the cache decodes all videos, and leaves out the bad ones then
        return dataset.check(self.strict, decode=self.cache is None)


class FeatureDataModule(DividedFeatures, KeyframeDataModule[FeatureVideo]):
    """Batches of features from eccv16-style files; no video file is needed."""

    def _dataset(self, name: str, videos: list[FeatureVideo]) -> FeatureDataset:
        if any(video.held is None for video in videos):
            place = {id_: number for number, id_ in enumerate(self._videos)}
            videos = sorted(videos, key=lambda video: place[video.id])  # as they lie in the file
        return FeatureDataset(name, videos)
