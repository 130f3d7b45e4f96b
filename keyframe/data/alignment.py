"""Which label belongs to which frame: label tracks and labels in seconds against the frames of a video."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from keyframe.data.container import open_video
from keyframe.data.label_tables import TimedLabels, of_annotators
from keyframe.data.packets import PacketIndex, index_packets
from keyframe.system import log_once
from keyframe.types import (
    Float32Array,
    FloatArray,
    Int64Array,
    IntArray,
    KeyframeError,
    Labels,
    VideoError,
)

log = logging.getLogger(__name__)

# Above this the file is another cut of the video, and a label would land on the wrong shot.
_TOLERANCE_PERCENT = 1

_LONGEST_STEP = 10  # whole seconds that one score may stand for


def frame_labels(labels: Labels | TimedLabels, path: Path, index: PacketIndex | None = None) -> Labels:
    """The labels of a video as one per frame: of times, and of scores that stand for some whole seconds each.

    A track whose length is that of the frames, within 1 %, stays as it is. If it has one score per second, or one per 2
    to 10 seconds of equal shots, a score holds for that time, which is logged. Other tracks stay as they are, for
    `check_alignment` to refuse; so do those of a video that cannot be read, which is left out later with its reason.
    `index` is of the video at `path`, if it is there. A time after the video's end is a KeyframeError.
    """
    try:
        if index is None:
            if isinstance(labels, Labels) and _may_be_per_frame(len(labels), path):
                return labels
            index = index_packets(path)
    except VideoError:
        if isinstance(labels, Labels):
            return labels
        return of_annotators(np.zeros((1, 1), np.float32), labels.category)
    seconds = index.timestamps - index.timestamps[0]
    if isinstance(labels, TimedLabels):
        return _of_times(labels, seconds, index.duration, path)
    if 100 * abs(len(labels) - index.n_frames) <= _TOLERANCE_PERCENT * len(labels):
        return labels
    steps = np.arange(1, _LONGEST_STEP + 1)
    off = np.abs(index.duration / steps - len(labels))
    if len(labels) < 2 or not off.min() < 1:
        return labels
    step = int(steps[np.argmin(off)])
    each = "second" if step == 1 else f"shot of {step} seconds"
    message = "%s has %d frames, %.1f s, and %d labels: taken as one per %s"
    log_once(log, logging.INFO, (str(path), "step"), message, path, index.n_frames, index.duration, len(labels), each)
    entries = np.minimum((seconds / step).astype(np.int64), len(labels) - 1)
    return replace(labels, importance=labels.importance[entries], annotators=labels.annotators[:, entries])


def _may_be_per_frame(n_labels: int, path: Path) -> bool:
    """Whether the header of a video speaks of about as many frames: its packets need not be read to find out."""
    with open_video(path) as (container, stream):
        seconds = (container.duration or 0) / 1e6
        return n_labels > (stream.frames or seconds * float(stream.average_rate or 0)) / 2 > 0


def _of_times(labels: TimedLabels, seconds: FloatArray, duration: float, path: Path) -> Labels:
    """The score of each frame, by the seconds since the first."""
    late = labels.ends.max() if not labels.of_keyframes else labels.starts.max()
    if late > duration * (1 + _TOLERANCE_PERCENT / 100) + 1:
        raise KeyframeError(
            f"{labels.where} goes to {late:g} s, and {path} lasts {duration:g} s: times are seconds from the start of "
            "the video, correct them, or use the file that was labelled"
        )
    tracks = np.zeros((int(labels.annotators.max()) + 1, len(seconds)), np.float32)
    first, last = np.searchsorted(seconds, labels.starts), np.searchsorted(seconds, labels.ends)
    for annotator, begin, end, score in zip(labels.annotators, first, last, labels.scores, strict=True):
        tracks[annotator, begin:end] = score
    return of_annotators(tracks, labels.category, labels.selections)


def check_alignment(n_labels: int, n_frames: int, duration: float, video: str | Path) -> None:
    """Check that a label track fits a video of that many frames and seconds: one entry per frame, within 1 %."""
    if n_labels == n_frames:
        return
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
    message = "%s has %d frames and its labels %d: aligned by time"
    log_once(log, logging.WARNING, (str(video), "labels"), message, video, n_frames, n_labels)


def label_positions(
    n_labels: int, n_frames: int, indices: IntArray, seconds: FloatArray, duration: float, video: str | Path
) -> Int64Array:
    """Find the entry of the label track, in [0, L), that belongs to each chosen frame, int64 (T,).

    A track with one entry per frame is read by frame number. Another one that passes `check_alignment` is read by time,
    entry floor(t / duration * n_labels), which is logged once per video. The chosen frames are given by their numbers
    `indices`, (T,), and by `seconds`, (T,), their timestamps minus the video's first.
    """
    check_alignment(n_labels, n_frames, duration, video)
    if n_labels == n_frames:
        return indices.astype(np.int64)
    entries = np.floor(np.asarray(seconds, dtype=np.float64) / duration * n_labels)
    return np.clip(entries, 0, n_labels - 1).astype(np.int64)


def labelled_frames(n_labels: int, entries: IntArray, index: PacketIndex) -> Int64Array:
    """Find the frame of each chosen entry of a label track, int64 (T,): the inverse of `label_positions`.

    A track with one entry per frame is read by frame number; another one by time, the frame that is shown at
    entry / n_labels * duration. Entries are (T,), in [0, n_labels).
    """
    check_alignment(n_labels, index.n_frames, index.duration, index.path)
    if n_labels == index.n_frames:
        return entries.astype(np.int64)
    times = index.timestamps[0] + entries / n_labels * index.duration
    frames = np.searchsorted(index.timestamps, times + 1e-6, side="right") - 1
    return np.clip(frames, 0, index.n_frames - 1).astype(np.int64)


def sample_labels(
    labels: Labels, n_frames: int, indices: IntArray, seconds: FloatArray, duration: float, video: str | Path
) -> tuple[Float32Array, Float32Array]:
    """The importance, float32 (T,), and each annotator's scores, float32 (A, T), in [0, 1] at `label_positions`."""
    entries = label_positions(len(labels), n_frames, indices, seconds, duration, video)
    return labels.importance[entries], labels.annotators[:, entries]
