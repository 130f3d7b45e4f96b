"""The model: pictures of a video in, one importance score a frame out."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from keyframe.models.backbone import Backbone
from keyframe.models.chunks import choose_chunk
from keyframe.models.head import TemporalHead
from keyframe.models.no_backbone import NoBackbone
from keyframe.models.standardizer import FeatureStandardizer
from keyframe.types import Stage

# Behind the prefix a frame is small, and a tail that trains touches all its weights once a chunk.
_MAPS_AT_ONCE = 64


class KeyframeDetector(nn.Module):
    """Scores every frame of a video: `encode_prefix`, `encode_tail`, `score`, in that order.

    Args:
        backbone: the frame encoder, or `NoBackbone` for a model that scores features.
        head: the temporal head; called with the feature width, e.g. a `functools.partial(TemporalHead, ...)`.
        chunk: frames encoded at once, so memory does not grow with the length of a video; `auto` chooses (see
            `keyframe.models.chunks`), None encodes all at once. Scores do not depend on it but for rounding.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        backbone: Backbone | NoBackbone,
        head: Callable[..., TemporalHead],
        chunk: int | Literal["auto"] | None = "auto",
    ) -> None:
        super().__init__()
        if not (chunk in ("auto", None) or (isinstance(chunk, int) and chunk >= 1)):
            raise ValueError(f"chunk must be auto or at least 1, not {chunk}")
        self.backbone = backbone
        self.standardizer = FeatureStandardizer(backbone.width)
        self.head: TemporalHead = head(features=backbone.width)
        self.chunk: int | Literal["auto"] | None = chunk
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
        if stage == "features":
            return values
        if stage == "prefix":
            return self.encode_tail(values)
        if torch.is_grad_enabled():
            return self.encode_tail(self.encode_prefix(values))  # the graph keeps every frame's maps in any case
        # prefix and tail a chunk at a time: the maps of a whole batch of videos are large
        return self._by_frame(
            lambda pictures: self.backbone.encode_tail(self.backbone.encode_prefix(self.normalize(pictures))),
            _checked(values),
            self._pictures_at_once(values),
        )

    def encode_prefix(self, frames: Tensor) -> Tensor:
        """Frames (B, T, 3, H, W), uint8 or float in [0, 1] -> maps (B, T, C, h, w) that never change in training."""
        with torch.no_grad():
            return self._by_frame(
                lambda pictures: self.backbone.encode_prefix(self.normalize(pictures)),
                _checked(frames),
                self._pictures_at_once(frames),
            )

    def encode_tail(self, maps: Tensor) -> Tensor:
        """Maps of `encode_prefix` (B, T, ...) -> backbone features (B, T, width)."""
        return self._by_frame(
            lambda chunk: self.backbone.encode_tail(chunk.to(self.pixel_mean.dtype)),
            maps,
            # without a prefix the maps are pictures still
            _MAPS_AT_ONCE if self.chunk == "auto" and self.backbone.is_cut else self._pictures_at_once(maps),
        )

    def score(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Backbone features (B, T, width) -> scores in [0, 1], (B, T)."""
        return self.head(self.standardizer(features), mask)

    def embed(self, features: Tensor) -> Tensor:
        """Backbone features (B, T, width) -> embeddings (B, T, W): each frame by itself, before the look along time."""
        return self.head.projection(self.standardizer(features))

    def normalize(self, frames: Tensor) -> Tensor:
        """Frames (N, 3, H, W), uint8 or float in [0, 1] -> floats with the backbone's mean and deviation taken out."""
        pictures = frames.to(self.pixel_mean.dtype, memory_format=torch.channels_last)
        if not frames.is_floating_point():
            pictures = pictures.div_(255)  # in place: it is a copy
        return torch.addcmul(-self.pixel_mean / self.pixel_std, pictures, 1 / self.pixel_std)

    def _pictures_at_once(self, frames: Tensor) -> int | None:
        if self.chunk == "auto":
            return choose_chunk(frames.shape[-2], frames.shape[-1], frames.device)
        return self.chunk

    def _by_frame(self, encode: Callable[[Tensor], Tensor], values: Tensor, chunk: int | None) -> Tensor:
        """Encode (B, T, ...) by so many frames at once, or all; without a batch's shape between the two."""
        frames = values.flatten(0, 1)
        encoded = encode(frames) if chunk is None else torch.cat([encode(part) for part in frames.split(chunk)])
        return encoded.unflatten(0, values.shape[:2])


def _checked(frames: Tensor) -> Tensor:
    if frames.ndim != 5 or frames.shape[2] != 3:
        raise ValueError(f"frames must be (B, T, 3, H, W), not {tuple(frames.shape)}")
    return frames
