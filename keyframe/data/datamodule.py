"""LightningDataModules over labelled videos: pixels from video files, or features from a feature file."""

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
import torch.distributed as distributed
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Sampler

from keyframe.data.cache import VideoCache
from keyframe.data.dataset import Augmentation, FeatureDataset, VideoDataset, collate
from keyframe.data.feature_file import FeatureVideo, read_feature_files
from keyframe.data.folder import Source, few
from keyframe.data.hdf5 import checked_id
from keyframe.data.reader import VideoReader, check_reader
from keyframe.data.sampling import Sampling, check_sampling
from keyframe.data.splits import PARTS, Split, read_split_file, stratified_folds
from keyframe.system import shared_memory_bytes
from keyframe.types import KeyframeError, LabelledVideo, check_number

log = logging.getLogger(__name__)

# Of a frame, in pixels, and of the frames that a model sees of a video at once, in GB.
_LARGEST_SIZE = 8192
_LARGEST_WINDOW = 16.0
_CHUNK = 64  # neighbours in a feature file that is read while training: 50 MB of 200 features of 1024 channels each
_LEAST_SHARED = 1 << 20  # shared memory that the locks of workers take at most, in bytes

Video = TypeVar("Video", LabelledVideo, FeatureVideo)


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


class KeyframeDataModule(LightningDataModule, ABC, Generic[Video]):
    """Train, validation and test batches of videos.

    Args:
        batch_size: videos per batch and rank.
        folds, fold: how many folds the videos are divided into, and which of them is tested, from 0.
        val_fraction: share of the remaining videos to choose checkpoints by.
        splits: a published split file, in place of `folds`.
        seed: of the order and the augmentation of training items. Folds do not depend on it.
        strict: stop at a video that cannot be read, instead of leaving it out.
        workers: processes that load batches if videos are decoded or features read for them; 0 for none.
    """

    def __init__(
        self,
        batch_size: int = 4,
        folds: int = 5,
        fold: int = 0,
        val_fraction: float = 0.2,
        splits: str | None = None,
        seed: int = 0,
        strict: bool = False,
        workers: int = 0,
    ) -> None:
        super().__init__()
        numbers = {"batch_size": (batch_size, 1), "folds": (folds, 2), "fold": (fold, 0), "workers": (workers, 0)}
        for name, (value, lowest) in numbers.items():
            check_number(f"data.{name}", value, lowest)
        check_number("data.val_fraction", val_fraction, 0, whole=False, above=True)
        self.batch_size, self.seed = batch_size, seed
        self.folds, self.fold, self.val_fraction, self.splits = folds, fold, val_fraction, splits
        self.strict, self.workers = strict, workers
        self.datasets: dict[str, VideoDataset | FeatureDataset] = {}
        self.skipped: dict[str, str] = {}
        self.kept_split: Split | None = None  # of a run, used instead of folds; None divides the videos there are
        self._batches_done = 0

    @cached_property
    def _videos(self) -> dict[str, Video]:
        return {video.id: video for video in self._find()}

    @cached_property
    def split(self) -> Split:
        """The ids of each part, also of videos that are not there any more."""
        return self.kept_split or self._split(self._videos)

    @cached_property
    def parts(self) -> dict[str, str]:
        """Id -> `train`, `val`, `test`, or `new` if the video is in none of these."""
        known = self.split.by_id()
        return {id_: known.get(id_, "new") for id_ in self._videos}

    @property
    def gone(self) -> dict[str, str]:
        """Videos of the split that are not there any more, id -> part."""
        return {id_: part for id_, part in self.split.by_id().items() if id_ not in self._videos}

    @property
    def origins(self) -> dict[str, str]:
        """Id -> the folder or feature file that the video is of, if the data set has several."""
        return {id_: video.folder for id_, video in self._videos.items() if video.folder}

    @property
    def other_set(self) -> bool:
        """Whether the videos are another data set: none is in the run's split. A video is known by its id."""
        return self.kept_split is not None and set(self.parts.values()) == {"new"}

    def split_videos(self, name: str) -> list[Video]:
        """The videos of `train`, `val`, `test`, `new` (in none of these) or `all`, as found: some may be bad."""
        parts = self.parts  # raises what is wrong with the split
        ids = getattr(self.split, name) if name in PARTS else self._videos
        return [self._videos[id_] for id_ in ids if id_ in parts and name in ("all", parts[id_])]

    def split_notes(self, run: str) -> list[str]:
        """What a reader of numbers should know of the split of a run, and of the videos that are here."""
        if self.kept_split is None:
            return [
                f"{run} is from an older version and does not record which videos it was trained on: its split is made "
                f"anew of the {len(self.parts)} videos there are now, and if videos were added or removed since, it "
                "may have been trained on videos that it is tested on here."
            ]
        if self.other_set:
            return [f"None of these {len(self.parts)} videos is in the split of {run}: they are another data set."]
        lists = {
            f"Videos in no part of the split of {run}": [id_ for id_, part in self.parts.items() if part == "new"],
            f"Videos of the split of {run} that no longer exist": [f"{i} ({p})" for i, p in self.gone.items()],
        }
        return [f"{what}: {len(ids)} ({few(ids, 10)})." for what, ids in lists.items() if ids]

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

    def keep_split(self, checkpoint: Mapping[str, Any], path: Path) -> None:
        """Divide the videos as the run of the checkpoint at `path` did, if it has stored how; see `state_dict`."""
        state = checkpoint.get(type(self).__qualname__)
        if isinstance(state, dict) and "split" in state:
            self.kept_split = Split.from_plain(state["split"], path)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._batches_done = int(state_dict["batches_done"])

    @abstractmethod
    def _find(self) -> list[Video]:
        """All videos."""

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

    def _split(self, videos: dict[str, Video]) -> Split:
        categories = {id_: video.category for id_, video in videos.items()}
        if self.splits is None:
            return stratified_folds(categories, self.folds, self.fold, self.val_fraction)
        in_files = [video for video in videos.values() if isinstance(video, FeatureVideo)]
        addresses = {f"{video.path.name}/{video.key}": video.id for video in in_files}
        return read_split_file(self.splits, self.fold, categories, self.val_fraction, addresses)

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


class VideoDataModule(KeyframeDataModule[LabelledVideo]):
    """Batches of pixels from labelled video files.

    Args:
        source, reader, sampling: give the videos and their labels, decode frames, and choose those of a video.
        size: height and width of a frame in pixels.
        augmentation: applied to training items; None leaves them as they are.
        cache: keeps what training computes of each video; None decodes each item on access.
        **common: see `KeyframeDataModule`.
    """

    def __init__(
        self,
        source: Source,
        reader: VideoReader,
        sampling: Sampling,
        size: int | tuple[int, int] = 224,
        augmentation: Augmentation | None = None,
        cache: VideoCache | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if not isinstance(source, Source):
            raise KeyframeError(
                f"data.source: {type(source).__name__} is not a data source: one has prepare() and videos(), as "
                "keyframe.data.folder.Source says."
            )
        check_reader(reader)
        check_sampling(sampling)
        for key, part, base in (("augmentation", augmentation, Augmentation), ("cache", cache, VideoCache)):
            if part is not None and not isinstance(part, base):
                raise KeyframeError(
                    f"{key}: {type(part).__name__} is not a {key}: derive it from "
                    f"{base.__module__}.{base.__qualname__}."
                )
        self.source, self.reader, self.sampling = source, reader, sampling
        for pixels in size if isinstance(size, tuple | list) else (size,):
            check_number("data.size", pixels, 1, _LARGEST_SIZE)
        self.size = (size, size) if isinstance(size, int) else (size[0], size[1])
        gigabytes = 3e-9 * self.size[0] * self.size[1] * (sampling.window or 1)
        if gigabytes > _LARGEST_WINDOW:
            raise KeyframeError(
                f"data.size={list(self.size)} and sampling.frames={sampling.window} take {gigabytes:.0f} GB per video: "
                "lower one of them."
            )
        self.augmentation = augmentation
        self.cache = cache

    def prepare_data(self) -> None:
        self.source.prepare()

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

    def _find(self) -> list[LabelledVideo]:
        videos = self.source.videos()
        name = type(self.source).__name__
        if not isinstance(videos, list) or not videos or not all(isinstance(video, LabelledVideo) for video in videos):
            raise KeyframeError(f"data.source: videos() of {name} gives no list of keyframe.types.LabelledVideo.")
        twice = Counter(checked_id(video.id, f"data.source: {name}") for video in videos).most_common(1)[0]
        if twice[1] > 1:
            raise KeyframeError(f"data.source: {name} gives {twice[1]} videos with the id {twice[0]}: name each once.")
        # Of two folders that had the same id the run may see one now.
        known = self.kept_split.by_id() if self.kept_split is not None else {}
        return [replace(one, id=longer) if (longer := f"{one.folder}/{one.id}") in known else one for one in videos]

    def _dataset(self, name: str, videos: list[LabelledVideo]) -> VideoDataset:
        augmentation = self.augmentation if name == "train" else None
        return VideoDataset(name, videos, self.reader, self.sampling, self.size, augmentation, self.seed)

    def _check(self, dataset: VideoDataset | FeatureDataset) -> dict[str, str]:
        assert isinstance(dataset, VideoDataset)
        # filling the cache decodes all videos, and leaves out the bad ones then
        return dataset.check(self.strict, decode=self.cache is None)


class FeatureDataModule(KeyframeDataModule[FeatureVideo]):
    """Batches of features from eccv16-style files; no video file is needed.

    Args:
        path: the file, or several of one width.
        labels: the .mat or .tsv with each annotator's scores; None goes without annotators.
        width: channels of a feature, as the model expects.
        augmentation: must be None: it changes images.
        **common: see `KeyframeDataModule`.
    """

    def __init__(
        self,
        path: str | Sequence[str],
        labels: str | None = None,
        width: int = 1024,
        augmentation: Augmentation | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if augmentation is not None:
            raise KeyframeError("Augmentation changes images, and a feature file has none: leave augmentation out.")
        self.several = not isinstance(path, str)
        self.paths = [Path(one).expanduser() for one in ([path] if isinstance(path, str) else path)]
        self.labels = Path(labels).expanduser() if labels is not None else None
        self.width = width

    def _find(self) -> list[FeatureVideo]:
        videos = list(read_feature_files(self.paths if self.several else self.paths[0], self.labels).values())
        if (width := videos[0].width) != self.width:
            raise KeyframeError(f"{self.paths[0]} has features {width} wide, not {self.width}: set data.width={width}.")
        return videos

    def _dataset(self, name: str, videos: list[FeatureVideo]) -> FeatureDataset:
        if any(video.held is None for video in videos):
            place = {id_: number for number, id_ in enumerate(self._videos)}
            videos = sorted(videos, key=lambda video: place[video.id])  # as they lie in the file
        return FeatureDataset(name, videos)
