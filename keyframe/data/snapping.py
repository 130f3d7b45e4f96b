"""A grid of frames, moved to I-frames near it: these decode without any other."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from keyframe.data.packets import PacketIndex
from keyframe.data.seeking import why_not_seek
from keyframe.types import IntArray

_ROUNDING_S = 1e-6


@dataclass(frozen=True)
class Snapped:
    """What became of a grid.

    Attributes:
        indices: frame numbers, not decreasing, int64 (T,): distinct where the wanted ones are.
        n_keys: how many distinct ones are I-frames.
        n_decoded: how many distinct ones are the wanted frames themselves, with no I-frame near.
        reason: why no frame was moved, None where frames may be.
    """

    indices: npt.NDArray[np.int64]
    n_keys: int
    n_decoded: int
    reason: str | None = None


def snap(wanted: IntArray, index: PacketIndex) -> Snapped:
    """Put the nearest I-frame in place of each wanted frame, if it is nearer to this than to any other of the grid.

    So frames stay distinct and in order, and none moves by more than half the time to a neighbour; where I-frames are
    sparser than the grid, the frames between them stay. Time is presentation time, whatever the frame rate.

    Args:
        wanted: frame numbers in presentation order, not decreasing, (T,); a number may come several times.
        index: of the video. Where decoding cannot be trusted to start at its key frames, nothing moves.
    """
    reason = why_not_seek(index)
    frames, places = np.unique(np.asarray(wanted, np.int64), return_inverse=True)
    if reason is not None or not len(frames):
        return Snapped(frames[places], 0, len(frames), reason)
    keys = np.flatnonzero(index.key_frames)
    times, key_times = index.timestamps[frames], index.timestamps[keys]
    middles = (times[1:] + times[:-1]) / 2
    # The outer frames move as far outwards as inwards; a frame alone may go anywhere.
    first = 2 * times[0] - middles[0] if len(middles) else -np.inf
    last = 2 * times[-1] - middles[-1] if len(middles) else np.inf
    inside = (key_times >= first - _ROUNDING_S) & (key_times <= last + _ROUNDING_S)
    keys, key_times = keys[inside], key_times[inside]
    nearest = np.searchsorted(middles, key_times)
    best_first = np.lexsort((np.abs(key_times - times[nearest]), nearest))
    moved, best = np.unique(nearest[best_first], return_index=True)
    frames[moved] = keys[best_first][best]
    return Snapped(frames[places], len(moved), len(frames) - len(moved))
