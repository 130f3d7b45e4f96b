"""Where decoding may start: at key frames that are sure, and from which of them a frame is reached.

A grid of frames, moved to I-frames near it: these decode without any other.

What every video reader offers, so that one can take another's place.

A reader that says how far it has come.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from keyframe.data.packets import PacketIndex, index_packets
from keyframe.types import Frames, IntArray, VideoError

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


logger = logging.getLogger(__name__)

Picture = npt.NDArray[np.uint8]


class VideoReader(Protocol):
    """Reads chosen frames of a video, resized.

    A reader keeps nothing between two calls: it opens and closes the file in each, can be pickled, and serves
    in any number of processes. Readers differ in speed; their pictures differ by about one level of 255 on
    average (see `keyframe.data.decord_reader`), their timestamps and indices not at all.

    Attributes:
        exact: whether a grid of frames is read as it is; False lets `grid` move it to I-frames. `stream` and `read`
            give the frames that they are asked for either way.
    """

    exact: bool

    def grid(self, wanted: IntArray, index: PacketIndex) -> npt.NDArray[np.int64]:
        """The frames to ask for where a sampling wants some: these, or without `exact` I-frames near them.

        Where frames move, a log line says once a file how many do not, and are decoded in full.

        Args:
            wanted: frame numbers in presentation order, not decreasing, (T,).
            index: of the video.

        Returns:
            Frame numbers in presentation order, int64, (T,): as many distinct ones as wanted. See `snapping.snap`.
        """
        if self.exact:
            return np.asarray(wanted, np.int64)
        snapped = snap(wanted, index)
        tell_once(logging.INFO, index.path, "grid", f"{index.path}: {_what_snapped(snapped)}")
        return snapped.indices

    def stream(
        self,
        path: Path,
        indices: IntArray,
        size: tuple[int, int] | None,
        index: PacketIndex | None = None,
        chunk: int = 64,
    ) -> Iterator[Frames]:
        """Read frames by their number, piece by piece, in one pass and in memory that no video outgrows.

        The file is open from the first piece to the last, or until the iterator is closed or dropped. A piece
        takes chunk x height x width x 3 bytes, and two live at a time: at full resolution ask for small ones.

        Args:
            path: a video file.
            indices: frame numbers in presentation order, from 0, not decreasing, shape (T,); a number may
                come several times.
            size: (height, width) of the answer in pixels, None for the video's own (`PacketIndex.upright_size`).
                The whole upright picture is resized, whatever its aspect ratio, bilinearly and with averaging
                where it shrinks (FFmpeg's `bilinear` scaler).
            index: what `index_packets(path)` gave, where the caller has it already.
            chunk: frames of a piece, at least 1; the last may have fewer.

        Yields:
            T frames in all, no piece where T is 0. A frame that does not decode is replaced by the nearest
            earlier one that does (else by the nearest later one), under the timestamp and the index of the
            picture that is really shown. The pieces do not depend on `chunk` but for where they are cut.

        Raises:
            ValueError: if indices are out of range, decrease or are no row of integers, or if size or chunk is
                not positive.
            VideoError: if the file cannot be opened, or before the first piece by which too many of the wanted
                frames do not decode.
        """
        ...

    def read(
        self, path: Path, indices: IntArray, size: tuple[int, int] | None, index: PacketIndex | None = None
    ) -> Frames:
        """Read frames by their number, all at once; arguments, result and errors as `stream` says."""
        index = index or index_packets(path)
        pieces = list(self.stream(path, indices, size, index, chunk=max(1, np.size(indices))))
        none = np.array([], np.int64)
        return (
            pieces[0]
            if pieces
            else Frames(np.empty((0, *(size or index.upright_size), 3), np.uint8), index.timestamps[none], none)
        )


def checked_indices(indices: IntArray, size: tuple[int, int], index: PacketIndex, chunk: int) -> npt.NDArray[np.int64]:
    """The wanted frame numbers as int64, after the checks that every reader owes its caller.

    Raises:
        ValueError: as `VideoReader.stream` says.
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
    if chunk < 1:
        raise ValueError(f"chunk must be 1 frame or more, not {chunk}")
    return wanted.astype(np.int64)


def gather(
    pictures: Iterator[tuple[int, Picture]],
    wanted: npt.NDArray[np.int64],
    size: tuple[int, int],
    index: PacketIndex,
    chunk: int,
    max_missing: float = 0.0,
) -> Iterator[Frames]:
    """Put single pictures together to the pieces of a stream.

    Args:
        pictures: for each distinct wanted number, in order, the picture shown for it, uint8 (height, width, 3),
            and the number that this picture bears; none at all where nothing decodes.
        wanted: as `checked_indices` gives it, shape (T,).
        size: (height, width) of the pictures in pixels.
        index: of the video.
        chunk: frames of a piece.
        max_missing: largest share of the distinct wanted numbers, in [0, 1], that may bear another.

    Raises:
        VideoError: before the first piece by which more are missing, or where there is no picture.
    """
    is_new = np.diff(wanted, prepend=-1) > 0
    allowed = max_missing * np.count_nonzero(is_new)
    number, picture = -1, np.empty((*size, 3), np.uint8)
    n_seen = n_missing = 0
    for start in range(0, len(wanted), chunk):
        piece = wanted[start : start + chunk]
        pixels = np.empty((len(piece), *size, 3), np.uint8)
        shown = np.empty(len(piece), np.int64)
        for row, asked in enumerate(piece):
            if is_new[start + row]:
                number, picture = next(pictures, (-1, picture))
                n_seen += 1
                n_missing += int(number != asked)
            pixels[row], shown[row] = picture, number
        if number < 0 or n_missing > allowed:
            if not index.steady:
                raise VideoError(
                    f"{index.path} has a clock that goes back, as where recordings were joined: convert it once, "
                    "ffmpeg -i FILE -c:v libx264 new.mp4."
                )
            raise VideoError(
                f"{index.path} is damaged, {n_missing} of {n_seen} wanted frames do not decode: copy or "
                f"convert it again, leave it out, or raise reader.max_missing (now {max_missing:g})."
            )
        yield Frames(pixels, index.timestamps[shown], shown)


def checked_settings(threads: int, max_missing: float, exact: bool) -> None:
    """Check a reader's settings.

    Raises:
        ValueError: if threads is negative, max_missing lies outside [0, 1] or exact is neither true nor false.
    """
    if not isinstance(exact, bool):
        raise ValueError(f"reader.exact must be true or false, not {exact!r}")
    if threads < 0:
        raise ValueError(f"threads must be 0 (one for each core) or more, not {threads}")
    if not 0 <= max_missing <= 1:
        raise ValueError(f"max_missing must be a share in [0, 1], not {max_missing}")


def _what_snapped(snapped: Snapped) -> str:
    total = snapped.n_keys + snapped.n_decoded
    if snapped.reason is not None:
        return f"all {total} frames read exactly in spite of reader.exact=false, for {snapped.reason}"
    told = f"{total} frames, {snapped.n_keys} of them I-frames near the grid"
    return f"{told}, {snapped.n_decoded} read exactly for want of one near" if snapped.n_decoded else told


# What has been told: a video, and what it was about.
_told: set[tuple[Path, str]] = set()


def tell_once(level: int, path: Path, topic: str, sentence: str) -> None:
    """Log what is to be known of a video: of each topic the first sentence, once in a process."""
    if (path, topic) not in _told:
        _told.add((path, topic))
        logger.log(level, "%s", sentence)


# The file, the seconds of it that are behind, and how many there are to the last wanted frame.
Tell = Callable[[Path, float, float], None]


class WatchedReader(VideoReader):
    """Reads as another reader does, and tells at the start of a stream, after each piece and at the end how far it is.

    Pickled it is that other reader: in another process nobody looks on.

    Args:
        reader: decodes frames.
        tell: is told; seconds run from 0 to the time of the last wanted frame.
    """

    def __init__(self, reader: VideoReader, tell: Tell) -> None:
        self.reader = reader
        self.exact = reader.exact
        self._tell = tell

    def __reduce__(self) -> tuple[Callable[[VideoReader], VideoReader], tuple[Any, ...]]:
        return _itself, (self.reader,)

    def stream(
        self,
        path: Path,
        indices: IntArray,
        size: tuple[int, int] | None,
        index: PacketIndex | None = None,
        chunk: int = 64,
    ) -> Iterator[Frames]:
        """Read frames by their number, piece by piece; arguments, pieces and errors as `VideoReader.stream` says."""
        index = index or index_packets(path)
        wanted = checked_indices(indices, size or index.upright_size, index, chunk)
        if not len(wanted):
            return
        first = index.timestamps[0]
        whole = float(index.timestamps[wanted[-1]] - first)
        self._tell(path, 0.0, whole)
        for piece in self.reader.stream(path, wanted, size, index, chunk):
            yield piece
            # Asked for more: what was made of the piece is done.
            self._tell(path, float(piece.timestamps[-1] - first), whole)
        self._tell(path, whole, whole)


def _itself(reader: VideoReader) -> VideoReader:
    return reader


def described_reader(reader: VideoReader) -> dict[str, Any]:
    """A reader by what its pictures depend on, so without the number of threads."""
    if isinstance(reader, WatchedReader):
        reader = reader.reader
    settings = {name: value for name, value in vars(reader).items() if name != "threads"}
    return {"kind": type(reader).__name__, **settings}
