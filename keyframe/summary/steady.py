"""The calmest, sharpest frame near a chosen one: looks are half a second apart, and a camera shakes faster."""

from collections.abc import Iterator

import numpy as np

from keyframe.data.packets import PacketIndex
from keyframe.data.reader import VideoReader
from keyframe.summary.describe import DESCRIPTOR_SIZE, describe_frames, luma_cells
from keyframe.types import FloatArray, Frames, Int64Array, IntArray, UInt8Array

# Seconds that a keyframe may move back and forth, and between the frames that are tried. Frames before the chosen one
# are mostly decoded for it anyway; half a second after it takes a sixth of an extraction (VP8, a keyframe in 6 s).
BACK, FORTH, _STEP = 0.5, 0.3, 0.1

# Frames less alike than this are another picture. Mean change of luma from one tried frame to the next, in levels of
# 255, that halves the worth of a frame. A frame must be worth so many times more to be taken.
_ALIKE, _HALF_CALM, _BETTER = 0.97, 8.0, 1.1


def steady_frames(index: PacketIndex, frames: IntArray, spans: FloatArray, reader: VideoReader) -> Iterator[Frames]:
    """For each chosen frame the one near it that is worth most, at full resolution: sharpness, less what moves.

    A frame's worth is the deviation of its Laplacian / (1 + change of luma to the frames beside it / 8 levels). The
    chosen frame stays unless another is worth a tenth more.

    Args:
        index: the packets of the video.
        frames: numbers in presentation order, increasing, (k,).
        spans: earliest and latest second, on the clock of `index.timestamps`, that a frame may come from, (k, 2); of
            two frames they do not overlap. Where they are equal, the frame stays.
        reader: decodes frames.

    Yields:
        One frame each, in order.
    """
    tried = [_near(index.timestamps, int(frame), *span) for frame, span in zip(frames, spans.tolist(), strict=True)]
    for place in range(1, len(tried)):  # Spans may touch.
        tried[place] = tried[place][tried[place] > tried[place - 1][-1]]
    own = iter([int(np.searchsorted(near, frame)) for near, frame in zip(tried, frames, strict=True) if len(near) > 1])
    yield from reader.stream_best(tried, DESCRIPTOR_SIZE, lambda images: _best(images, next(own)), index)


def _best(images: UInt8Array, own: int) -> int:
    """The place of the frame worth most of RGB images (n, H, W, 3), of which one is the chosen one."""
    seen, luma = describe_frames(images), luma_cells(images).astype(np.float32)
    steps = np.abs(np.diff(luma, axis=0)).mean(axis=(1, 2))
    moved = np.maximum(np.append(0, steps), np.append(steps, 0))
    worth = np.sqrt(seen.sharpness) / (1 + moved / _HALF_CALM)
    worth[seen.descriptors @ seen.descriptors[own] < _ALIKE] = 0
    best = int(worth.argmax())
    return best if worth[best] > _BETTER * worth[own] else own


def _near(timestamps: FloatArray, frame: int, earliest: float, latest: float) -> Int64Array:
    """A frame and others of a span, a tenth of a second apart at least, increasing."""
    first, end = np.searchsorted(timestamps, (earliest, latest + 1e-6))
    numbers = np.union1d(np.arange(first, end), frame)
    since = np.floor((timestamps[numbers] - timestamps[frame]) / _STEP + 1e-6)
    return numbers[np.append(True, np.diff(since) > 0) | (numbers == frame)].astype(np.int64)
