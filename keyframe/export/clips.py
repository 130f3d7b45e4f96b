"""Windows of labelled videos: what an exported file is checked and calibrated on."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from keyframe.data.datamodule import VideoDataModule
from keyframe.data.dataset import VideoDataset
from keyframe.errors import KeyframeError, VideoError
from keyframe.types import FloatArray

T = TypeVar("T")

# Of a model that sees any number of frames at once.
_MOST_FRAMES = 60


@dataclass(frozen=True)
class Clip:
    """What a model sees of one video at once.

    Attributes:
        video: id.
        frames: uint8 (T, 3, H, W).
        importance: the annotators' mean of each, (T,).
    """

    video: str
    frames: npt.NDArray[np.uint8]
    importance: FloatArray


def read_clips(
    data: VideoDataModule, split: str, most: int, bar: Callable[[Iterable[int], str, int], Iterator[int]]
) -> list[Clip]:
    """Decode a window of each video of a split, by the run's own sampling; what cannot be read is left out.

    Args:
        data: of the run.
        split: `train`, `val` or `test`.
        most: how many videos at most, spread evenly over the split.
        bar: shows progress.

    Raises:
        KeyframeError: none can be read.
    """
    data.prepare_data()
    videos = _spread(data.split_videos(split), most)
    dataset = VideoDataset(split, videos, data.reader, data.sampling, data.size)
    clips, reasons = [], []
    for number in bar(range(len(dataset)), f"Reading {split} videos", len(dataset)):
        try:
            sample = dataset.plain(number)
        except VideoError as error:
            reasons.append(str(error))
            continue
        shown = slice(0, _MOST_FRAMES if data.sampling.window is None else None)
        clips.append(Clip(sample.video, sample.inputs[shown].numpy(), sample.importance[shown].numpy()))
    if not clips:
        reason = "; ".join(reasons[:3]) or "it has none"
        raise KeyframeError(f"no video of the {split} split can be read ({reason}): say where they lie with data.root.")
    return clips


def _spread(items: Sequence[T], most: int) -> list[T]:
    """So many of them at most, spread evenly."""
    count = min(most, len(items))
    return [items[(2 * number + 1) * len(items) // (2 * count)] for number in range(count)]
