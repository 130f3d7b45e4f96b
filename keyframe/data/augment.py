"""Augmentation of a clip in training: one draw a video and epoch, the same for all its frames."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from keyframe.types import IntArray


class Augmentation:
    """Temporal jitter, frame dropout, and colour and flip that are consistent over a clip.

    Each part is off at 0. Draws come from the generator given, so that a clip is a function of (seed, epoch, video).

    Args:
        jitter: shift each sampled frame by up to this share of the spacing between samples, 0 to 0.5; labels follow.
        drop: share of the frames hidden from the model and the loss, 0 to below 1; at least two always stay.
        colour: strength of brightness, contrast and saturation changes, 0 to 1; factors lie in 1 +- strength.
        flip: probability of mirroring the whole clip left to right.

    Raises:
        ValueError: a value outside its range.
    """

    def __init__(self, jitter: float = 0.0, drop: float = 0.0, colour: float = 0.0, flip: float = 0.0) -> None:
        for name, value, top in (
            ("jitter", jitter, 0.5),
            ("drop", drop, 0.95),
            ("colour", colour, 1.0),
            ("flip", flip, 1.0),
        ):
            if not 0 <= value <= top:
                raise ValueError(f"{name} must lie in [0, {top}], not {value}")
        self.jitter = jitter
        self.drop = drop
        self.colour = colour
        self.flip = flip

    @property
    def changes_pixels(self) -> bool:
        """Whether pictures change, so that what was computed from them once does not hold."""
        return self.jitter > 0 or self.colour > 0 or self.flip > 0

    def move(self, indices: IntArray, n_frames: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Jittered frame numbers (T,), still in order and within [0, n_frames)."""
        if not self.jitter or len(indices) < 2:
            return indices.astype(np.int64)
        spacing = np.diff(indices).mean()
        shift = rng.uniform(-self.jitter, self.jitter, len(indices)) * spacing
        moved = np.clip(np.round(indices + shift), 0, n_frames - 1).astype(np.int64)
        return np.maximum.accumulate(moved)

    def keep(self, length: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
        """Which frames stay visible, bool (T,)."""
        stays = rng.random(length) >= self.drop
        if stays.sum() < min(2, length):
            stays[rng.choice(length, min(2, length), replace=False)] = True
        return stays

    def paint(self, frames: Tensor, rng: np.random.Generator) -> Tensor:
        """Frames uint8 (T, 3, H, W) -> the same shape, one change for all."""
        if self.flip and rng.random() < self.flip:
            frames = frames.flip(-1)
        if self.colour:
            brightness, contrast, saturation = 1 + rng.uniform(-self.colour, self.colour, 3)
            pictures = frames.float() * brightness
            pictures = (pictures - pictures.mean()) * contrast + pictures.mean()
            grey = pictures.mean(1, keepdim=True)
            frames = ((pictures - grey) * saturation + grey).round().clamp(0, 255).to(torch.uint8)
        return frames
