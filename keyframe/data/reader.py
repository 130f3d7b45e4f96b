"""What every video reader offers, and what readers share: checks, where decoding may start, I-frames near a grid."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np

from keyframe.data.packets import PacketIndex, index_packets
from keyframe.data.picture import fitted
from keyframe.files import unchanged
from keyframe.system import log_once
from keyframe.types import Frames, Int64Array, IntArray, KeyframeError, Region, UInt8Array, VideoError

log = logging.getLogger(__name__)

Image = UInt8Array
Painted = Iterator[tuple[int, list[Image]]]  # frames by number, each at several sizes
# Height and width in pixels; None in their place for each frame's own.
Size = tuple[int, int]
Sizes = Sequence[Size | None]

# Takes the file, its seconds that are read, and the seconds up to the last wanted frame.
Progress = Callable[[Path, float, float], None]
Pieces = tuple[Frames, ...]  # of one stretch of frames, one per size

# Codecs and containers in which a seek to a key frame was tried.
_SEEKABLE_CODECS = {"h264", "hevc", "vp8", "vp9", "av1"}
_SEEKABLE_CONTAINERS = {"mov", "mp4", "matroska", "webm"}
_ROUNDING_S = 1e-6
_MOST_THREADS = 1024  # FFmpeg and decord allocate for each
_FULL_FRAMES = 4  # at a time, of which a region is cut out


class VideoReader(ABC):
    """Reads chosen frames of a video, resized.

    A reader keeps nothing between two calls and can be pickled. Images of two readers differ by about one level of 255
    on average (see `keyframe.data.decord_reader`), timestamps and indices not at all.

    Args:
        threads: decoding threads, 0 for one per core.
        max_missing: largest share of the wanted frames, in [0, 1], that may be lost because they do not decode: that
            `grid` has to leave out, or that are replaced by a neighbour if a reader finds damage that the index does
            not show. A frame whose damage the decoder has patched counts as decoded.
        exact: whether a grid of frames is read as it is; False lets `grid`, and nothing else, move it to I-frames.
        deinterlace: whether interlaced frames are deinterlaced.
        tone_map: whether HDR and BT.2020 colours are brought to SDR; see `keyframe.data.picture`.

    Attributes:
        progress: called at the start of each stream, after each piece and at the end; it is not pickled.
    """

    progress: Progress | None = None

    def __init__(
        self,
        threads: int = 1,
        max_missing: float = 0.05,
        exact: bool = True,
        deinterlace: bool = True,
        tone_map: bool = True,
    ) -> None:
        for name, value in (("exact", exact), ("deinterlace", deinterlace), ("tone_map", tone_map)):
            if not isinstance(value, bool):
                raise ValueError(f"reader.{name} must be true or false, not {value!r}")
        if not 0 <= threads <= _MOST_THREADS:
            raise ValueError(f"threads must be 0 (one per core) to {_MOST_THREADS}, not {threads}")
        if not 0 <= max_missing <= 1:
            raise ValueError(f"max_missing must be a share in [0, 1], not {max_missing}")
        self.threads, self.max_missing = threads, max_missing
        self.exact, self.deinterlace, self.tone_map = exact, deinterlace, tone_map

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "progress"}

    def roughly(self) -> "VideoReader":
        """A reader for frames that are compared and not shown: a faster one with almost the same images, or itself."""
        return self

    def grid(self, wanted: IntArray, index: PacketIndex) -> Int64Array:
        """The frames to ask for in place of wanted ones, (T,): the same, or without `exact` those of `snap`, logged.

        The wanted ones are a grid, at equal steps of time or of frames. `VideoError` if it has lost too many of them,
        `lost_of_grid`.
        """
        n_lost = lost_of_grid(wanted, index)
        n_all = n_lost + len(np.unique(wanted))
        if n_lost > self.max_missing * n_all:
            raise _damaged(index, n_lost, n_all, self.max_missing)
        if self.exact:
            return np.asarray(wanted, np.int64)
        snapped = snap(wanted, index)
        log_once(log, logging.INFO, (index.path, "grid"), "%s: %s", index.path, snapped.in_words)
        return snapped.indices

    def stream(
        self, path: Path, indices: IntArray, size: Size | None, index: PacketIndex | None = None, chunk: int = 64
    ) -> Iterator[Frames]:
        """Read frames by number, piece by piece, in one pass and in memory that no video outgrows.

        A piece takes chunk x height x width x 3 bytes, and two live at a time: at full resolution ask for small ones.

        Args:
            path: a video file.
            indices: frame numbers in presentation order, not decreasing, shape (T,); a number may come several times.
            size: (height, width) of the images in pixels: the whole upright frame is stretched to it, but by no more
                than 2.5 : 1, with black bars for the rest. None for each frame's own as a player shows it: a piece ends
                where that changes. FFmpeg's `bilinear` scaler resizes.
            index: the packet index of the file, if the caller has it.
            chunk: frames per piece, at least 1; the last may have fewer.

        Yields:
            T frames in all, no piece if T is 0. A frame that does not decode is replaced by the nearest earlier one
            that does (else by the nearest later one), under the timestamp and the index of the frame that is shown.

        Raises:
            VideoError: the file cannot be opened, too many of the wanted frames do not decode (before that piece), or
                the file has changed since it was indexed (before the first piece or after the last).
        """
        for (piece,) in self.stream_sizes(path, indices, (size,), index, chunk):
            yield piece

    def stream_sizes(
        self, path: Path, indices: IntArray, sizes: Sizes, index: PacketIndex | None = None, chunk: int = 64
    ) -> Iterator[Pieces]:
        """As `stream`, at several sizes at once: the same frames in each; None is a size only by itself."""
        index = index or index_packets(path)
        wanted = _checked(indices, sizes, index, chunk)
        if index.whole is not None:
            for pieces in self.stream_sizes(path, wanted + index.first, sizes, index.whole, chunk):
                # A neighbour in place of a frame that does not decode may lie before the part.
                shown = np.maximum(pieces[0].indices - index.first, 0)
                yield tuple(Frames(piece.pixels, piece.timestamps, shown) for piece in pieces)
            return
        if index.region is not None:
            yield from self._of_region(path, wanted, sizes, index, index.region, chunk)
            return
        with unchanged(index.path, index.state, VideoError):
            yield from self._watched(self._pieces(path, wanted, sizes, index, chunk), wanted, index)

    def stream_best(
        self, groups: Sequence[Int64Array], size: Size, best: Callable[[UInt8Array], int], index: PacketIndex
    ) -> Iterator[Frames]:
        """Read the best frame of each group at full resolution, one after the other, chosen by small images of all.

        Groups are frame numbers, at least one each, increasing within a group and from group to group. `best` gives the
        place of the best one of small images of `size`, uint8 (g, height, width, 3), g >= 2.
        """
        several = [group for group in groups if len(group) > 1]
        images = self.read(index.path, np.concatenate([np.zeros(0, np.int64), *several]), size, index).pixels
        own = iter(np.split(images, np.cumsum([len(group) for group in several])))
        chosen = [int(group[best(next(own))]) if len(group) > 1 else int(group[0]) for group in groups]
        yield from self.stream(index.path, np.array(chosen, np.int64), None, index, chunk=1)

    def _watched(self, pieces: Iterator[Pieces], wanted: Int64Array, index: PacketIndex) -> Iterator[Pieces]:
        """The pieces of a stream of wanted frames; `progress` is told of them."""
        if self.progress is None or not len(wanted):
            yield from pieces
            return
        first = index.timestamps[0]
        whole = float(index.timestamps[wanted[-1]] - first)
        self.progress(index.path, 0.0, whole)
        for piece in pieces:
            yield piece
            # The caller asks for more, so it has finished with this piece.
            self.progress(index.path, float(piece[0].timestamps[-1] - first), whole)
        self.progress(index.path, whole, whole)

    def read(self, path: Path, indices: IntArray, size: Size | None, index: PacketIndex | None = None) -> Frames:
        """Read frames by number, all at once; as `stream`, but without `size` all have that of the first."""
        index = index or index_packets(path)
        size = size or index.shown_size
        try:
            pieces = list(self.stream(path, indices, size, index, chunk=max(1, np.size(indices))))
        except MemoryError as error:
            raise VideoError(
                f"{path} needs more memory than is free: take fewer or smaller frames of it, or leave it out."
            ) from error
        none = np.array([], np.int64)
        return pieces[0] if pieces else Frames(np.empty((0, *size, 3), np.uint8), index.timestamps[none], none)

    def _of_region(
        self, path: Path, wanted: Int64Array, sizes: Sizes, index: PacketIndex, region: Region, chunk: int
    ) -> Iterator[Pieces]:
        """The pieces of a stream of a region: cut out of whole frames at full resolution, then resized."""
        whole = self.stream(path, np.unique(wanted), None, replace(index, region=None), min(chunk, _FULL_FRAMES))
        cut = (
            (int(number), [part if size is None else fitted(part, size) for size in sizes])
            for frames in whole
            for number, part in zip(frames.indices, map(region.of, frames.pixels), strict=True)
        )
        yield from gather_sizes(cut, len(sizes), wanted, index, chunk, max_missing=1.0)

    @abstractmethod
    def _pieces(self, path: Path, wanted: Int64Array, sizes: Sizes, index: PacketIndex, chunk: int) -> Iterator[Pieces]:
        """The pieces of `stream_sizes`, whose arguments are checked."""


def check_reader(reader: object) -> None:
    """Refuse what is no `VideoReader`."""
    if not isinstance(reader, VideoReader):
        raise KeyframeError(
            f"reader: {type(reader).__name__} is not a reader: derive it from keyframe.data.reader.VideoReader."
        )


def _checked(indices: IntArray, sizes: Sizes, index: PacketIndex, chunk: int) -> Int64Array:
    """The wanted frame numbers as int64, after the checks of `VideoReader.stream_sizes`."""
    wanted = np.asarray(indices)
    if wanted.ndim != 1 or (wanted.size and not np.issubdtype(wanted.dtype, np.integer)):
        raise ValueError(f"indices must be a row of integers, not {wanted.dtype} {wanted.shape}")
    if wanted.size and (wanted.min() < 0 or wanted.max() >= index.n_frames):
        raise ValueError(f"indices {wanted.min()} to {wanted.max()} leave the {index.n_frames} frames of {index.path}")
    if np.any(wanted[1:] < wanted[:-1]):
        raise ValueError("indices must not decrease")
    if list(sizes) != [None] and (not sizes or any(size is None or min(size) < 1 for size in sizes)):
        raise ValueError(f"sizes must be positive (height, width), or None alone, not {sizes}")
    if chunk < 1:
        raise ValueError(f"chunk must be 1 frame or more, not {chunk}")
    return wanted.astype(np.int64)


def gather(
    images: Iterator[tuple[int, Image]], wanted: Int64Array, index: PacketIndex, chunk: int, max_missing: float = 0.0
) -> Iterator[Frames]:
    """Put single images together to the pieces of a stream; arguments as of `VideoReader.stream`.

    `images` has, for each distinct wanted number in order, the number of the frame that is shown for it and its image,
    uint8 (height, width, 3). A `VideoError` comes before the first piece by which too many differ, or without an image.
    """
    is_new = np.diff(wanted, prepend=-1) > 0
    allowed = max_missing * np.count_nonzero(is_new)
    number, image = -1, np.empty((0, 0, 3), np.uint8)
    n_seen = n_missing = 0
    pixels = image[None]
    shown: list[int] = []

    def piece() -> Frames:
        if number < 0 or n_missing > allowed:
            raise _damaged(index, n_missing, n_seen, max_missing)
        numbers = np.array(shown, np.int64)
        return Frames(pixels[: len(shown)], index.timestamps[numbers], numbers)

    for place, asked in enumerate(wanted.tolist()):
        if is_new[place]:
            number, image = next(images, (-1, image))
            n_seen += 1
            n_missing += int(number != asked)
        if shown and image.shape != pixels.shape[1:]:
            yield piece()
            shown = []
        if not shown:
            pixels = np.empty((min(chunk, len(wanted) - place), *image.shape), np.uint8)
        pixels[len(shown)] = image
        shown.append(number)
        if len(shown) == len(pixels):
            yield piece()
            shown = []


def gather_sizes(
    images: Painted, n_sizes: int, wanted: Int64Array, index: PacketIndex, chunk: int, max_missing: float
) -> Iterator[Pieces]:
    """As `gather`, of several images of each frame, one per size."""

    def of_size(turn: Painted, place: int) -> Iterator[tuple[int, Image]]:
        return ((number, sizes[place]) for number, sizes in turn)

    # The sizes take turns, so no more images wait than a piece has.
    turns = [of_size(turn, place) for place, turn in enumerate(tee(images, n_sizes))]
    yield from zip(*(gather(turn, wanted, index, chunk, max_missing) for turn in turns), strict=True)


def lost_of_grid(wanted: IntArray, index: PacketIndex) -> int:
    """How many more frames a grid at equal steps would have if all frames of the video decoded.

    One is lost for each whole step of lost frames in a row, not where a neighbour within the step stands for it.
    """
    frames = np.unique(wanted)
    holes = np.bincount(np.searchsorted(index.timestamps[frames], index.lost), minlength=len(frames) + 1)
    steps = np.diff(frames) + holes[1:-1]
    return int((holes // np.median(steps)).sum()) if len(steps) else 0


def _damaged(index: PacketIndex, n_lost: int, n_wanted: int, max_missing: float) -> VideoError:
    """The error of a video of which too many wanted frames do not decode."""
    if not index.steady:
        return VideoError(
            f"{index.path} has a clock that goes backwards, as in joined recordings: convert it, "
            "ffmpeg -i FILE -c:v libx264 new.mp4."
        )
    return VideoError(
        f"{index.path} is damaged, {n_lost} of {n_wanted} wanted frames do not decode: copy or convert it again, leave "
        f"it out, or raise reader.max_missing (now {max_missing:g})."
    )


def why_not_seek(index: PacketIndex) -> str | None:
    """Why a reader may not start at key frames: of such files a seek gave wrong frames, or was not tried; else None."""
    rules = {
        f"its codec is {index.codec}": index.codec not in _SEEKABLE_CODECS,
        f"its container is {index.container}": _SEEKABLE_CONTAINERS.isdisjoint(index.container.split(",")),
        "it stores no time stamps": index.pts is None,
        "two frames share a time stamp": index.pts is not None and bool(np.any(np.diff(index.pts) <= 0)),
        "some packets are not shown (edit list, or no key frame first)": index.n_packets != index.n_frames,
        "decoding cannot start at each key frame (open GOP or intra refresh)": not index.random_access,
        "some packets are damaged": not index.intact,
    }
    return next((reason for reason, holds in rules.items() if holds), None)


def key_frame_groups(wanted: Int64Array, keys: Int64Array) -> list[Int64Array]:
    """Rising frame numbers, split into those that are reached from the same key frame."""
    needs = np.searchsorted(keys, wanted, side="right")
    return np.split(wanted, np.flatnonzero(np.diff(needs)) + 1)


@dataclass(frozen=True)
class Snapped:
    """A grid after `snap`."""

    indices: Int64Array  # frame numbers, not decreasing, (T,): distinct where the wanted ones are
    n_keys: int  # how many distinct ones are I-frames
    n_decoded: int  # how many distinct ones are the wanted frames themselves, with no I-frame nearby
    reason: str | None = None  # why no frame was moved; None if frames may be

    @property
    def in_words(self) -> str:
        """The counts in words."""
        total = self.n_keys + self.n_decoded
        if self.reason is not None:
            return f"all {total} frames decoded exactly despite reader.exact=false, because {self.reason}"
        rest = f", {self.n_decoded} decoded exactly (no I-frame nearby)" if self.n_decoded else ""
        return f"{total} frames, {self.n_keys} of them I-frames near the grid{rest}"


def snap(wanted: IntArray, index: PacketIndex) -> Snapped:
    """Put the nearest I-frame in place of each wanted frame, if it is nearer to this than to any other of the grid.

    Frames stay distinct and in order, and none moves by more than half the time to a neighbour; if decoding may not
    start at key frames, nothing moves. `wanted` are frame numbers, not decreasing, (T,); a number may come again.
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
