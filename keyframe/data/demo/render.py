"""Pictures for a story: a textured backdrop in the scene's colour, sometimes a large bright disc."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from keyframe.data.demo.story import FILLER, Story

STYLES = ("plain", "stripes", "checks", "clouds")

_RGB = np.array([(205, 40, 40), (40, 160, 55), (45, 70, 205), (205, 185, 40), (175, 50, 185), (40, 175, 185)])
_GREY = (105, 105, 105)


def pictures(
    rng: np.random.Generator, story: Story, style: str, size: tuple[int, int], frames_per_shot: list[int]
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the frames of a story, uint8 RGB (H, W, 3).

    Light, texture, camera drift and noise differ from shot to shot and mean nothing.

    Args:
        rng: source of chance.
        story: what happens.
        style: texture of the backdrops, one of `STYLES`.
        size: (height, width) in pixels.
        frames_per_shot: how many frames each shot lasts.
    """
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    for colour, disc, frames in zip(story.colours, story.discs, frames_per_shot, strict=True):
        base = np.array(_GREY if colour == FILLER else _RGB[colour], dtype=np.float32)
        light = rng.uniform(0.85, 1.1)
        canvas = light * base * _texture(rng, style, (2 * height, 2 * width))[..., None]
        backdrop = np.clip(canvas + rng.normal(0, 5, canvas.shape), 0, 255).astype(np.uint8)
        drift = rng.uniform(-1, 1, 2) * np.array(size) / 2 / max(frames, 1)
        centre, step = rng.uniform(0.35, 0.65, 2) * size, rng.uniform(-1, 1, 2)
        radius = rng.uniform(0.28, 0.34) * height
        for frame in range(frames):
            top, left = (np.array(size) / 2 + drift * frame).astype(int)
            picture = backdrop[top : top + height, left : left + width].copy()
            if disc:
                row, column = centre + step * frame
                picture[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = (250, 248, 235)
            yield picture


def _texture(rng: np.random.Generator, style: str, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Brightness around 1, shape `size`."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    period = rng.uniform(14, 30)
    if style == "stripes":
        angle = rng.uniform(0, np.pi)
        wave = np.sin(2 * np.pi * (rows * np.sin(angle) + columns * np.cos(angle)) / period)
        return (1 + 0.12 * wave).astype(np.float32)
    if style == "checks":
        return (1 + 0.1 * np.sign(np.sin(rows / period * 6.28) * np.sin(columns / period * 6.28))).astype(np.float32)
    if style == "clouds":
        coarse = rng.normal(0, 0.1, (size[0] // 16 + 1, size[1] // 16 + 1))
        return (1 + np.kron(coarse, np.ones((16, 16)))[: size[0], : size[1]]).astype(np.float32)
    return np.ones(size, dtype=np.float32)
