"""Videos of one split as samples: decoded once and held, or decoded anew each time."""

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from keyframe.data.alignment import sample_labels
from keyframe.data.augment import Augmentation
from keyframe.data.batch import Sample
from keyframe.data.packets import PacketIndex, index_packets
from keyframe.data.readers import VideoReader
from keyframe.data.sampling import Sampling
from keyframe.errors import VideoError
from keyframe.types import IntArray, LabelledVideo, Stage

log = logging.getLogger(__name__)


class VideoDataset(Dataset[Sample]):
    """Labelled videos as samples.

    An item is asked for by `(epoch, number)`, as `EpochSampler` gives it, so that augmentation is a function of
    (seed, epoch, video) in whatever process it runs; a plain `number` means epoch 0.

    Args:
        name: of the split, for messages.
        videos: the videos.
        reader: decodes frames.
        sampling: chooses frames.
        size: (height, width) of a frame in pixels.
        augmentation: applied to every item; None leaves items as they are.
        seed: of the augmentation.
        hold: keep the decoded frames in memory. Without it (and always where augmentation needs other frames) each
            item is decoded when asked for.
    """

    def __init__(
        self,
        name: str,
        videos: Sequence[LabelledVideo],
        reader: VideoReader,
        sampling: Sampling,
        size: tuple[int, int],
        augmentation: Augmentation | None = None,
        seed: int = 0,
        hold: bool = True,
    ) -> None:
        self.name = name
        self.videos = list(videos)
        self.reader = reader
        self.sampling = sampling
        self.size = size
        self.augmentation = augmentation
        self.seed = seed
        self.hold = hold and not (augmentation is not None and augmentation.changes_frames)
        self.held: list[Sample] = []

    def __len__(self) -> int:
        return len(self.videos)

    def check(self, strict: bool = False) -> dict[str, str]:
        """Decode every video once; keep the frames where they are to be held; leave out what does not decode.

        Args:
            strict: raise at the first bad video instead of leaving it out.

        Returns:
            The videos left out, id -> why.

        Raises:
            VideoError: a bad video, if `strict`.
            KeyframeError: whatever is wrong with the data set rather than with one file.
        """
        skipped: dict[str, str] = {}
        held: list[Sample] = []
        good: list[LabelledVideo] = []

        def attempt(video: LabelledVideo) -> Sample | VideoError:
            try:
                return self._decode(video)
            except VideoError as error:
                return error

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            outcomes = pool.map(attempt, self.videos)
            bar = tqdm(outcomes, f"Decoding {self.name}", len(self.videos), unit="video", disable=None)
            for video, outcome in zip(self.videos, bar, strict=True):
                if isinstance(outcome, VideoError):
                    if strict:
                        raise outcome
                    skipped[video.id] = str(outcome)
                    continue
                if self.hold:
                    held.append(replace(outcome, number=len(good)))
                good.append(video)
        self.videos, self.held = good, held
        return skipped

    def replace_inputs(self, stage: Stage, change: Callable[[Tensor], Tensor]) -> None:
        """Put something further down the line in place of the held pixels: `change` maps (T, 3, H, W) to (T, ...)."""
        bar = tqdm(self.held, f"Encoding {self.name}", unit="video", disable=None)
        self.held = [replace(sample, stage=stage, inputs=change(sample.inputs)) for sample in bar]

    def plain(self, number: int) -> Sample:
        """A sample without augmentation."""
        return self.held[number] if self.held else self._decode(self.videos[number], number)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        epoch, number = key if isinstance(key, tuple) else (0, key)
        if self.augmentation is None:
            return self.plain(number)
        rng = np.random.default_rng((self.seed, epoch, number))
        if self.held:
            sample = self.held[number]
        else:
            augmentation = self.augmentation
            sample = self._decode(
                self.videos[number], number, lambda indices, count: augmentation.move(indices, count, rng)
            )
        if sample.stage == "pixels":
            sample = replace(sample, inputs=self.augmentation.paint(sample.inputs, rng))
        return replace(sample, visible=torch.from_numpy(self.augmentation.keep(len(sample.inputs), rng)))

    def _decode(
        self,
        video: LabelledVideo,
        number: int = 0,
        move: Callable[[IntArray, int], IntArray] = lambda indices, count: indices,
    ) -> Sample:
        index: PacketIndex = index_packets(video.path)
        indices = self.reader.grid(move(self.sampling.indices(index), index.n_frames), index)
        frames = self.reader.read(video.path, indices, self.size, index)
        seconds = frames.timestamps - index.timestamps[0]
        importance, annotators = sample_labels(
            video.labels, index.n_frames, frames.indices, seconds, index.duration, video.path
        )
        return Sample(
            video=video.id,
            number=number,
            stage="pixels",
            inputs=torch.from_numpy(frames.pixels).permute(0, 3, 1, 2).contiguous(),
            seconds=torch.from_numpy(seconds).float(),
            importance=torch.from_numpy(importance),
            annotators=torch.from_numpy(annotators),
            visible=torch.ones(len(frames), dtype=torch.bool),
        )
