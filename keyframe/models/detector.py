"""The model: pictures of a video in, one importance score a frame out."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from keyframe.models.backbone import Backbone
from keyframe.models.head import TemporalHead
from keyframe.models.no_backbone import NoBackbone
from keyframe.models.standardizer import FeatureStandardizer
from keyframe.types import Stage


class KeyframeDetector(nn.Module):
    """Scores every frame of a video: `encode_prefix`, `encode_tail`, `score`, in that order.

    Args:
        backbone: the frame encoder, or `NoBackbone` for a model that scores features.
        head: the temporal head; called with the feature width, e.g. a `functools.partial(TemporalHead, ...)`.
        chunk: frames encoded at once, so memory does not grow with the length of a video.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, backbone: Backbone | NoBackbone, head: Callable[..., TemporalHead], chunk: int = 64) -> None:
        super().__init__()
        if chunk < 1:
            raise ValueError(f"chunk must be at least 1, not {chunk}")
        self.backbone = backbone
        self.standardizer = FeatureStandardizer(backbone.width)
        self.head: TemporalHead = head(features=backbone.width)
        self.chunk = chunk
        self.register_buffer("pixel_mean", torch.tensor(backbone.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(backbone.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """Score frames.

        Args:
            frames: (B, T, 3, H, W), uint8, or float in [0, 1]; any T. Normalised in here.
            mask: bool (B, T), True where a frame is real; None means all are.

        Returns:
            Scores in [0, 1], float32 (B, T); 0 where the mask is False.
        """
        return self.enter("pixels", frames, mask)

    def enter(self, stage: Stage, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scores (B, T) from what a batch holds: pixels, the prefix's maps, or features."""
        return self.score(self.encode(stage, values), mask)

    def encode(self, stage: Stage, values: Tensor) -> Tensor:
        """Backbone features (B, T, width) from what a batch holds: the part of the line that is still ahead."""
        if stage == "pixels":
            _check_frames(values)
            # prefix and tail a chunk at a time: the maps of a whole batch of videos are large
            chunks = values.flatten(0, 1).split(self.chunk)
            features = torch.cat([self.encode_tail(self.encode_prefix(chunk[None]))[0] for chunk in chunks])
            return features.unflatten(0, values.shape[:2])
        return self.encode_tail(values) if stage == "prefix" else values

    def encode_prefix(self, frames: Tensor) -> Tensor:
        """Frames (B, T, 3, H, W), uint8 or float in [0, 1] -> maps (B, T, C, h, w) that never change in training."""
        _check_frames(frames)
        with torch.no_grad():
            return self._by_frame(lambda chunk: self.backbone.encode_prefix(self.normalize(chunk)), frames)

    def encode_tail(self, maps: Tensor) -> Tensor:
        """Maps of `encode_prefix` (B, T, ...) -> backbone features (B, T, width)."""
        return self._by_frame(lambda chunk: self.backbone.encode_tail(chunk.to(self.pixel_mean.dtype)), maps)

    def score(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Backbone features (B, T, width) -> scores in [0, 1], (B, T)."""
        return self.head(self.standardizer(features), mask)

    def normalize(self, frames: Tensor) -> Tensor:
        """Frames (N, 3, H, W), uint8 or float in [0, 1] -> floats with the backbone's mean and deviation taken out."""
        pictures = frames.to(self.pixel_mean.dtype)
        if not frames.is_floating_point():
            pictures = pictures / 255
        return (pictures - self.pixel_mean) / self.pixel_std

    def _by_frame(self, encode: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
        batch, length = values.shape[:2]
        encoded = torch.cat([encode(chunk) for chunk in values.flatten(0, 1).split(self.chunk)])
        return encoded.unflatten(0, (batch, length))


def _check_frames(frames: Tensor) -> None:
    if frames.ndim != 5 or frames.shape[2] != 3:
        raise ValueError(f"frames must be (B, T, 3, H, W), not {tuple(frames.shape)}")
