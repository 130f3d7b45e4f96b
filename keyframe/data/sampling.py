"""Which frames of a video a model sees, in training and in windows over all frames, and which label each frame has."""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from keyframe.data.container import open_video
from keyframe.data.label_tables import TimedLabels, of_annotators
from keyframe.data.packets import PacketIndex, index_packets
from keyframe.system import log_once
from keyframe.types import (
    Float32Array,
    Float64Array,
    FloatArray,
    Int64Array,
    IntArray,
    KeyframeError,
    Labels,
    VideoError,
    check_number,
)

log = logging.getLogger(__name__)

_TOLERANCE_S = 1e-3  # Matroska stores whole milliseconds: a frame due at 33.3 ms is stamped 33 or 34
_MOST_STEPS = 10_000_000  # a day at 100 per second: more is a typing error, or a file with absurd times
_LONGEST_WINDOW = 100_000  # frames of a window: a section of a video has fewer
SPAN = 1200  # ten minutes at two frames per second, about TVSum's longest video: one section
# Above this the file is another cut of the video, and a label would land on the wrong shot.
_TOLERANCE_PERCENT = 1
_LONGEST_STEP = 10  # whole seconds that one score may stand for


@runtime_checkable
class Sampling(Protocol):
    """Chooses the frames of a video that the model sees."""

    @property
    def window(self) -> int | None:
        """How many frames the model sees at once; None if that depends on the video."""

    def indices(self, index: PacketIndex) -> Int64Array:
        """Frame numbers in presentation order, not decreasing, at least one, int64 (T,)."""


def check_sampling(sampling: object) -> None:
    """Refuse what is no `Sampling`."""
    name = type(sampling).__name__
    if not isinstance(sampling, Sampling):
        raise KeyframeError(
            f"sampling: {name} is not a sampling: one has window and indices(index), like "
            "keyframe.data.sampling.Sampling."
        )
    check_number(f"sampling: window of {name}", sampling.window, 1, _LONGEST_WINDOW, optional=True)


def chosen_frames(sampling: Sampling, index: PacketIndex) -> Int64Array:
    """The frame numbers that a sampling chooses, int64 (T,), checked."""
    who = f"sampling: indices() of {type(sampling).__name__}"
    return own_frame_numbers(sampling.indices(index), index, sampling.window, who)


def own_frame_numbers(given: object, index: PacketIndex, count: int | None, who: str) -> Int64Array:
    """Frame numbers that a user's own code may have made, as int64 (T,), T being `count` unless it is None."""
    try:
        numbers = np.asarray(given)
        found = f"{numbers.dtype} {numbers.shape}"
    except (TypeError, ValueError):
        numbers, found = np.empty(0), f"a {type(given).__name__}"
    good = numbers.dtype.kind in "iu" and numbers.ndim == 1 and 0 < len(numbers) == (count or len(numbers))
    if good and (numbers.min() < 0 or numbers.max() >= index.n_frames):
        good, found = False, f"frames {numbers.min()} to {numbers.max()}"
    if good and (numbers[1:] < numbers[:-1]).any():
        good, found = False, "frames that go back"
    if not good:
        raise KeyframeError(
            f"{who} gives {found} for {index.path}: it must give {count or 'one or more'} whole numbers from 0 to "
            f"{index.n_frames - 1} that do not decrease, (T,)."
        )
    return numbers.astype(np.int64)


@dataclass(frozen=True)
class UniformSampling:
    """A fixed number of frames T, spread evenly over the presentation."""

    frames: int = 60

    def __post_init__(self) -> None:
        check_number("sampling.frames", self.frames, 1, _LONGEST_WINDOW)

    @property
    def window(self) -> int:
        """T."""
        return self.frames

    def indices(self, index: PacketIndex) -> Int64Array:
        """Rising frame numbers (T,) at the centres of T equal spans of the N frames: floor((i + 0.5) N / T)."""
        if self.frames > index.n_frames:
            raise VideoError(
                f"{index.path} has {index.n_frames} frames, fewer than sampling.frames={self.frames}: lower "
                "that, use sampling=fps, or leave the video out."
            )
        # (2 i + 1) N // 2 T: in whole numbers, so that no rounding moves a frame.
        return (2 * np.arange(self.frames, dtype=np.int64) + 1) * index.n_frames // (2 * self.frames)


@dataclass(frozen=True)
class FpsSampling:
    """The frames shown at equal steps of time, `rate` per second of video."""

    rate: float = 2.0

    def __post_init__(self) -> None:
        check_number("sampling.rate", self.rate, 0, whole=False, above=True)

    @property
    def window(self) -> None:
        """The whole video."""
        return None

    def indices(self, index: PacketIndex) -> Int64Array:
        """The frame on screen at each time t0 + k / rate before the video's end; at a higher rate one comes again."""
        n_steps = max(1, math.ceil((index.duration - _TOLERANCE_S) * self.rate))
        if n_steps > _MOST_STEPS:
            raise KeyframeError(
                f"a rate of {self.rate:g} asks for {n_steps} frames of {index.path} ({index.duration:.0f} s): lower it."
            )
        times = index.timestamps[0] + np.arange(n_steps) / self.rate
        return np.searchsorted(index.timestamps, times + _TOLERANCE_S, side="right").astype(np.int64) - 1


def windows(count: int, length: int | None = None, span: int = SPAN) -> Iterator[tuple[Int64Array, Float64Array]]:
    """Deal the frames of a video into windows, for a model that was trained on a fixed number of frames.

    All frames are dealt into interleaved windows of T, each spread evenly over the whole video, so that every frame is
    in at least one. A video longer than `span` frames is first cut into sections that overlap by half. A window has
    `length` frames; a shorter section is spread over one window, some frames twice. None is for a model that takes any
    length: each section is one window.

    Yields:
        The frames of a window, rising, (length,), and their weights in (0, 1], which fall linearly from the middle of a
        section to its ends. The first frame of a window is never before that of the previous window.
    """
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
    score: Callable[[Int64Array], FloatArray], count: int, length: int | None = None, span: int = SPAN, batch: int = 1
) -> Float32Array:
    """Scores in [0, 1] of all frames, float32 (count,): those of `windows`, averaged by weight.

    `score` takes the frame numbers of up to `batch` windows, (B, T), and gives their scores in [0, 1], (B, T).
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


def check_alignment(n_labels: int, n_frames: int, video: str | Path) -> None:
    """Check that a label track fits a video of that many frames: one entry per frame, within 1 %, which is logged."""
    if 100 * abs(n_labels - n_frames) > _TOLERANCE_PERCENT * n_labels:
        raise KeyframeError(
            f"{video} has {n_frames} frames and its labels {n_labels}, over {_TOLERANCE_PERCENT} % apart: "
            "use the video file that was labelled, or labels made for this file"
        )
    if n_labels != n_frames:
        message = "%s has %d frames and its labels %d: aligned by time"
        log_once(log, logging.WARNING, (str(video), "labels"), message, video, n_frames, n_labels)


def label_positions(
    n_labels: int, n_frames: int, indices: IntArray, seconds: FloatArray, duration: float, video: str | Path
) -> Int64Array:
    """Find the entry of the label track, in [0, L), that belongs to each chosen frame, int64 (T,).

    A track with one entry per frame is read by frame number, another one that passes `check_alignment` by time, entry
    floor(t / duration * n_labels). The chosen frames are given by their numbers `indices`, (T,), and by `seconds`,
    (T,), their timestamps minus the video's first.
    """
    check_alignment(n_labels, n_frames, video)
    if n_labels == n_frames:
        return indices.astype(np.int64)
    entries = np.floor(np.asarray(seconds, dtype=np.float64) / duration * n_labels)
    return np.clip(entries, 0, n_labels - 1).astype(np.int64)


def labelled_frames(n_labels: int, entries: IntArray, index: PacketIndex) -> Int64Array:
    """Find the frame of each chosen entry of a label track, int64 (T,): the inverse of `label_positions`.

    A track with one entry per frame is read by frame number; another one by time, the frame that is shown at
    entry / n_labels * duration. Entries are (T,), in [0, n_labels).
    """
    check_alignment(n_labels, index.n_frames, index.path)
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
