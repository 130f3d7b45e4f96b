"""Where decoding may start: at key frames that are sure, and from which of them a frame is reached."""

import numpy as np
import numpy.typing as npt

from keyframe.data.packets import PacketIndex

CODECS = {"h264", "vp8", "vp9"}
CONTAINERS = {"mov", "mp4", "matroska", "webm"}


def why_not_seek(index: PacketIndex) -> str | None:
    """Why a reader is not to start at this video's key frames, None where it may.

    Each rule stands for files on which a seek was seen to give wrong pictures, or was not tried.
    """
    rules = {
        f"its codec is {index.codec}": index.codec not in CODECS,
        f"its container is {index.container}": CONTAINERS.isdisjoint(index.container.split(",")),
        "it stores no time stamps": index.pts is None,
        "two frames share a time stamp": index.pts is not None and bool(np.any(np.diff(index.pts) <= 0)),
        "some packets are not shown (edit list, or no key frame first)": index.n_packets != index.n_frames,
        "decoding cannot start at each key frame (open GOP or intra refresh)": not index.random_access,
        "some packets are damaged": not index.intact,
    }
    return next((reason for reason, holds in rules.items() if holds), None)


def groups(wanted: npt.NDArray[np.int64], keys: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Rising frame numbers, split into those that are reached from the same key frame."""
    needs = np.searchsorted(keys, wanted, side="right")
    return np.split(wanted, np.flatnonzero(np.diff(needs)) + 1)
