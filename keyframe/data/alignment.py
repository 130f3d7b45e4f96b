"""Look up the labels of chosen frames, also where re-encoding moved a video's frame count a little."""

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from keyframe.data.packets import PacketIndex
from keyframe.errors import KeyframeError
from keyframe.types import FloatArray, IntArray, Labels

_log = logging.getLogger(__name__)
_told: set[str] = set()

# Above this the file is another cut of the video, and a label would land on the wrong shot.
_TOLERANCE_PERCENT = 1


def label_positions(
    n_labels: int,
    n_frames: int,
    indices: IntArray,
    seconds: FloatArray,
    duration: float,
    video: str | Path,
) -> npt.NDArray[np.int64]:
    """Find the entry of the label track that belongs to each chosen frame.

    A track with one entry a frame is read by frame number. A track whose length differs by at most 1 % of
    its own length is read by time, entry floor(t / duration * n_labels), and that is logged once a video.

    Args:
        n_labels: L, the entries of the label track.
        n_frames: the frames of the video file.
        indices: numbers of the chosen frames in presentation order, shape (T,), in [0, n_frames).
        seconds: their timestamps minus the video's first timestamp, in seconds, shape (T,).
        duration: the video's duration in seconds, from the first frame's start to the last frame's end.
        video: the video file, for messages.

    Returns:
        Entries in [0, L), int64, shape (T,).

    Raises:
        KeyframeError: if the lengths differ by more than 1 %, or the track must be read by time and the
            file has no duration.
        ValueError: if `indices` and `seconds` have other shapes than (T,) or a frame number is outside the
            video.
    """
    if indices.ndim != 1 or indices.shape != seconds.shape:
        raise ValueError(f"indices and seconds must both be (T,), not {indices.shape} and {seconds.shape}")
    if indices.size and (indices.min() < 0 or indices.max() >= n_frames):
        raise ValueError(f"frame numbers must lie in [0, {n_frames}), not {indices.min()} ... {indices.max()}")
    if n_labels == n_frames:
        return indices.astype(np.int64)
    if 100 * abs(n_labels - n_frames) > _TOLERANCE_PERCENT * n_labels:
        raise KeyframeError(
            f"{video} has {n_frames} frames and its labels {n_labels}, over {_TOLERANCE_PERCENT} % apart: "
            "use the video file that was labelled, or labels made for this file"
        )
    if not (np.isfinite(duration) and duration > 0):
        raise KeyframeError(
            f"{video} has {n_frames} frames, its labels {n_labels}, and no duration to align them by: "
            "re-encode the file or label each of its frames"
        )
    if str(video) not in _told:
        _told.add(str(video))
        _log.warning("%s has %d frames and its labels %d: aligned by time", video, n_frames, n_labels)
    entries = np.floor(np.asarray(seconds, dtype=np.float64) / duration * n_labels)
    return np.clip(entries, 0, n_labels - 1).astype(np.int64)


def labelled_frames(n_labels: int, entries: IntArray, index: PacketIndex) -> npt.NDArray[np.int64]:
    """Find the frame that belongs to each chosen entry of the label track: the other way round.

    A track with one entry a frame is read by frame number; one of another length by time, the frame that is shown at
    entry / n_labels * duration.

    Args:
        n_labels: L, the entries of the label track.
        entries: chosen entries, not decreasing, (T,), in [0, L).
        index: of the video file.

    Returns:
        Frame numbers that do not decrease, int64, (T,).

    Raises:
        KeyframeError: as `label_positions` does.
    """
    label_positions(n_labels, index.n_frames, np.empty(0, np.int64), np.empty(0), index.duration, index.path)
    if n_labels == index.n_frames:
        return entries.astype(np.int64)
    times = index.timestamps[0] + entries / n_labels * index.duration
    frames = np.searchsorted(index.timestamps, times + 1e-6, side="right") - 1
    return np.clip(frames, 0, index.n_frames - 1).astype(np.int64)


def sample_labels(
    labels: Labels,
    n_frames: int,
    indices: IntArray,
    seconds: FloatArray,
    duration: float,
    video: str | Path,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Take the labels of the chosen frames; see `label_positions` for the arguments and what is raised.

    Returns:
        The importance, float32 (T,), and each annotator's scores, float32 (A, T), both in [0, 1].
    """
    entries = label_positions(len(labels), n_frames, indices, seconds, duration, video)
    return labels.importance[entries], labels.annotators[:, entries]
