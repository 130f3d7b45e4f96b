"""Score any number of frames with a model that was trained on windows of a fixed number of them.

A model that saw T frames spread evenly over each training video is shown the same here: all frames are dealt into
interleaved windows of T, each spread evenly over the whole video, so that every frame is in one at least. A video
longer than `SPAN` frames is first cut into sections that overlap by half. What several windows say of a frame is
averaged, with weights that fall linearly from the middle of a section to its ends. A video of exactly one window gives
the model's own scores.
"""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from keyframe.types import FloatArray

# Ten minutes at two frames a second, about TVSum's longest video: one section.
SPAN = 1200


def windows(
    count: int, length: int | None = None, span: int = SPAN
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
    """Deal frames into windows.

    Args:
        count: frames of the video, at least 1.
        length: T, the frames a window holds; a section shorter than that is spread over one window, some frames twice.
            None for a model that takes any length: each section is one window.
        span: most frames of a section.

    Yields:
        The frames of a window, rising, (length,), and their weights in (0, 1]. The first frame of a window is never
        before that of the window before it.

    Raises:
        ValueError: if a number is below 1.
    """
    if count < 1 or span < 1 or (length is not None and length < 1):
        raise ValueError(f"count, length and span must be at least 1, not {count}, {length} and {span}")
    sections = 1 if count <= span else -(-2 * count // span) - 1
    size = min(count, span)
    for start in np.linspace(0, count - size, sections).round().astype(np.int64):
        steps = length or size
        combs = -(-size // steps)
        # Places of a grid of combs * steps points over the section: comb j takes each combs-th one, from j on.
        for comb in range(combs):
            places = (2 * (np.arange(steps) * combs + comb) + 1) * size // (2 * combs * steps)
            yield start + places, 1 - np.abs(2 * places + 1 - size) / (size + 1)


def average_windows(
    score: Callable[[npt.NDArray[np.int64]], FloatArray],
    count: int,
    length: int | None = None,
    span: int = SPAN,
    batch: int = 1,
) -> npt.NDArray[np.float32]:
    """A score for every frame: the windows' scores, averaged by weight.

    Args:
        score: the frames of some windows, by number, (B, T) -> their scores in [0, 1], (B, T).
        count: frames of the video, at least 1.
        length: as of `windows`.
        span: as of `windows`.
        batch: windows scored at once, B.

    Returns:
        Scores in [0, 1], float32 (count,).
    """
    total, weight = np.zeros(count), np.zeros(count)
    dealt = list(windows(count, length, span))
    for first in range(0, len(dealt), batch):
        group = dealt[first : first + batch]
        scores = score(np.stack([frames for frames, _ in group]))
        for (frames, weights), row in zip(group, scores, strict=True):
            np.add.at(total, frames, row * weights)
            np.add.at(weight, frames, weights)
    return (total / weight).astype(np.float32).clip(0, 1)
