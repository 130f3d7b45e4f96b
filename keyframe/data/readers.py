"""What every video reader offers, so that one can take another's place."""

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from keyframe.data.packets import PacketIndex
from keyframe.types import Frames, IntArray


class VideoReader(Protocol):
    """Reads chosen frames of a video, resized.

    A reader keeps nothing between two calls: it opens and closes the file in each, can be pickled, and serves
    in any number of processes. Readers differ in speed; their pictures differ by about one level of 255 on
    average (see `keyframe.data.decord_reader`), their timestamps and indices not at all.
    """

    def read(self, path: Path, indices: IntArray, size: tuple[int, int], index: PacketIndex | None = None) -> Frames:
        """Read frames by their number.

        Args:
            path: a video file.
            indices: frame numbers in presentation order, from 0, not decreasing, shape (T,); a number may
                come several times.
            size: (height, width) of the answer in pixels. The whole upright picture is resized, whatever its
                aspect ratio, bilinearly and with averaging where it shrinks (FFmpeg's `bilinear` scaler).
            index: what `index_packets(path)` gave, where the caller has it already.

        Returns:
            T frames. A frame that does not decode is replaced by the nearest earlier one that does (else by
            the nearest later one), under the timestamp and the index of the picture that is really shown.

        Raises:
            ValueError: if indices are out of range, decrease or are no row of integers, or if size is not
                positive.
            VideoError: if the file cannot be opened or too many of the wanted frames do not decode.
        """
        ...


def checked_indices(indices: IntArray, size: tuple[int, int], index: PacketIndex) -> npt.NDArray[np.int64]:
    """The wanted frame numbers as int64, after the checks that every reader owes its caller.

    Raises:
        ValueError: as `VideoReader.read` says.
    """
    wanted = np.asarray(indices)
    if wanted.ndim != 1 or (wanted.size and not np.issubdtype(wanted.dtype, np.integer)):
        raise ValueError(f"indices must be a row of integers, not {wanted.dtype} {wanted.shape}")
    if wanted.size and (wanted.min() < 0 or wanted.max() >= index.n_frames):
        raise ValueError(f"indices {wanted.min()} to {wanted.max()} leave the {index.n_frames} frames of {index.path}")
    if np.any(wanted[1:] < wanted[:-1]):
        raise ValueError("indices must not decrease")
    if min(size) < 1:
        raise ValueError(f"size must be a positive (height, width), not {size}")
    return wanted.astype(np.int64)


def checked_settings(threads: int, max_missing: float) -> None:
    """Check a reader's settings.

    Raises:
        ValueError: if threads is negative or max_missing lies outside [0, 1].
    """
    if threads < 0:
        raise ValueError(f"threads must be 0 (one for each core) or more, not {threads}")
    if not 0 <= max_missing <= 1:
        raise ValueError(f"max_missing must be a share in [0, 1], not {max_missing}")
