"""The calmest, sharpest frame near a chosen one: looks are half a second apart, and a camera shakes faster."""

import numpy as np

from keyframe.data.packets import PacketIndex
from keyframe.data.reader import VideoReader
from keyframe.summary.describe import DESCRIPTOR_SIZE, Appearance, describe_frames, luma_cells
from keyframe.types import FloatArray, Int64Array, IntArray

# Seconds that a keyframe may move, and between the frames that are tried.
REACH, _STEP = 0.5, 0.1

# Frames less alike than this are another picture. Mean change of luma from one tried frame to the next, in levels of
# 255, that halves the worth of a frame. A frame must be worth so many times more to be taken.
_ALIKE, _HALF_CALM, _BETTER = 0.97, 8.0, 1.1


def steady_frames(index: PacketIndex, frames: IntArray, spans: FloatArray, reader: VideoReader) -> Int64Array:
    """For each chosen frame the one near it that is worth most: sharpness, less what moves.

    A frame's worth is the deviation of its Laplacian / (1 + change of luma to the frames beside it / 8 levels).

    Args:
        index: the packets of the video.
        frames: numbers in presentation order, increasing, (k,).
        spans: earliest and latest second, on the clock of `index.timestamps`, that a frame may come from, (k, 2); of
            two frames they do not overlap. Where they are equal, the frame stays.
        reader: decodes frames.

    Returns:
        Numbers, increasing, (k,): a frame stays unless another is worth a tenth more.
    """
    tried = [_near(index.timestamps, int(frame), *span) for frame, span in zip(frames, spans.tolist(), strict=True)]
    tried = [near if len(near) > 1 else near[:0] for near in tried]
    wanted = np.concatenate(tried) if tried else np.zeros(0, dtype=np.int64)
    steady = np.array(frames, dtype=np.int64)
    if not len(wanted):
        return steady
    looks, cells = [], []
    for piece in reader.stream(index.path, wanted, DESCRIPTOR_SIZE, index):
        looks.append(describe_frames(piece.pixels))
        cells.append(luma_cells(piece.pixels))
    seen, luma = Appearance.join(looks), np.concatenate(cells).astype(np.float32)
    end = 0
    for place, near in enumerate(tried):
        first, end = end, end + len(near)
        if not len(near):
            continue
        steps = np.abs(np.diff(luma[first:end], axis=0)).mean(axis=(1, 2))
        moved = np.maximum(np.append(0, steps), np.append(steps, 0))
        worth = np.sqrt(seen.sharpness[first:end]) / (1 + moved / _HALF_CALM)
        own = int(np.searchsorted(near, frames[place]))
        worth[seen.descriptors[first:end] @ seen.descriptors[first + own] < _ALIKE] = 0
        best = int(worth.argmax())
        if worth[best] > _BETTER * worth[own]:
            steady[place] = near[best]
    return steady


def _near(timestamps: FloatArray, frame: int, earliest: float, latest: float) -> Int64Array:
    """A frame and others of a span, a tenth of a second apart at least, increasing."""
    first, end = np.searchsorted(timestamps, (earliest, latest + 1e-6))
    numbers = np.union1d(np.arange(first, end), frame)
    since = np.floor((timestamps[numbers] - timestamps[frame]) / _STEP + 1e-6)
    return numbers[np.append(True, np.diff(since) > 0) | (numbers == frame)].astype(np.int64)
