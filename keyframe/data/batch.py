"""One video ready for the model, and several of them padded to one length."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from keyframe.types import Stage


@dataclass(frozen=True)
class Sample:
    """T frames of one video, and their labels.

    Attributes:
        video: id of the video.
        number: its place in the data set; two samples of one video have the same.
        stage: what `inputs` holds: pixels, the backbone prefix's maps, or backbone features.
        inputs: (T, ...); pixels are uint8 (T, 3, H, W).
        seconds: time of each frame since the first frame of the video, (T,).
        importance: the reference score of each frame in [0, 1], (T,).
        annotators: each annotator's score in [0, 1], (A, T); A may be 0.
        visible: bool (T,), False where augmentation hides a frame.
        lesson: what a teacher says of each frame, (T, 1 + W): its score, then its embedding; None without a teacher.
    """

    video: str
    number: int
    stage: Stage
    inputs: Tensor
    seconds: Tensor
    importance: Tensor
    annotators: Tensor
    visible: Tensor
    lesson: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """B videos padded to the longest.

    Attributes:
        videos: ids.
        numbers: int64 (B,), places in the data set.
        stage: what `inputs` holds.
        inputs: (B, T, ...), padded with zeros.
        mask: bool (B, T), True where a frame is real and visible.
        seconds: (B, T), padded with zeros.
        importance: (B, T), padded with zeros.
        annotators: (B, A, T), padded with NaN where a video has fewer annotators or frames.
        lesson: what a teacher says, (B, T, 1 + W), padded with zeros; None without a teacher.
    """

    videos: tuple[str, ...]
    numbers: Tensor
    stage: Stage
    inputs: Tensor
    mask: Tensor
    seconds: Tensor
    importance: Tensor
    annotators: Tensor
    lesson: Tensor | None = None

    def to(self, *args: Any, **kwargs: Any) -> "Batch":
        """The batch with its tensors on another device (Lightning calls this)."""
        return self._map(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self) -> "Batch":
        """The batch in page-locked memory (the DataLoader calls this)."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        changed: dict[str, Any] = {
            name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **changed)


def collate(samples: Sequence[Sample]) -> Batch:
    """Pad samples to the longest and stack them.

    Raises:
        ValueError: if samples hold different things.
    """
    if len({sample.stage for sample in samples}) != 1:
        raise ValueError("a batch holds either pixels, prefix maps or features, not several of them")
    length = max(len(sample.inputs) for sample in samples)
    people = max(len(sample.annotators) for sample in samples)
    annotators = torch.full((len(samples), people, length), float("nan"))
    for row, sample in zip(annotators, samples, strict=True):
        row[: sample.annotators.shape[0], : sample.annotators.shape[1]] = sample.annotators

    def padded(name: str) -> Tensor:
        return torch.nn.utils.rnn.pad_sequence([getattr(sample, name) for sample in samples], batch_first=True)

    return Batch(
        videos=tuple(sample.video for sample in samples),
        numbers=torch.tensor([sample.number for sample in samples]),
        stage=samples[0].stage,
        inputs=padded("inputs"),
        mask=padded("visible"),
        seconds=padded("seconds"),
        importance=padded("importance"),
        annotators=annotators,
        lesson=None if samples[0].lesson is None else padded("lesson"),
    )
