"""decord where it is known to be right, PyAV everywhere else.

decord 0.6 takes a key frame's place among the packets for its place among the frames, and counts frames instead of
looking at their time stamps: it may give wrong frames and no error. So the packet index decides beforehand what decord
may read, and decord's own list of frames must agree with it. That cannot show damage inside a packet that looks sound:
of 1000 randomly damaged files, 19 gave some frame that PyAV would not have given. Such files are for `PyAVReader`.

Both readers scale with FFmpeg's `bilinear`. Over 60 files their mean absolute difference was 0.0 to 1.0 levels of 255,
1.7 on rotated and 2.2 on interlaced video, because their versions of FFmpeg place chroma samples differently.
"""

import functools
import itertools
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from keyframe.data.packets import PacketIndex
from keyframe.data.picture import unbarred_size
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.reader import Image, Pieces, Size, Sizes, VideoReader, gather, key_frame_groups, why_not_seek
from keyframe.system import log_once
from keyframe.types import Frames, Int64Array

log = logging.getLogger(__name__)

_CODECS = {"h264", "vp8", "vp9"}  # in which it was tried
# decord reserves memory for as many frames as the header states: an absurd header would end the process.
_MOST_OVERSTATED = 10
# Over 10, 30 and 120 minutes of 720p (61, 182 and 730 MB) decord's memory reached 144, 283 and over 710 MB.
_MOST_FILE_BYTES = 128 << 20
_MOST_GROUP_BYTES = 256 << 20
# Of all widths from 16 to 420 decord raises at these, over the padding of FFmpeg's rows.
_IMPOSSIBLE_WIDTHS = frozenset({16, 24, 48, 72})


class DecordReader(VideoReader):
    """Reads frames with decord, checked against the packet index; see `VideoReader` for contract and arguments.

    A `PyAVReader` with the same settings reads the file, and a log line per file says why, if decord is not installed,
    may not read the file (`why_not_decord`), would fill the memory (`why_too_much_for_decord`), lists other frames than
    the index or fails; in the middle of a stream from the next piece on.
    """

    def _pieces(self, path: Path, wanted: Int64Array, sizes: Sizes, index: PacketIndex, chunk: int) -> Iterator[Pieces]:
        yield from zip(*(self._at_size(path, wanted, size, index, chunk) for size in sizes), strict=True)

    def _at_size(
        self, path: Path, wanted: Int64Array, size: Size | None, index: PacketIndex, chunk: int
    ) -> Iterator[Frames]:
        pyav = PyAVReader(self.threads, self.max_missing, deinterlace=self.deinterlace, tone_map=self.tone_map)
        decord = _import_decord()
        if decord is None or not len(wanted) or size is None:  # decord gives all frames one size
            yield from pyav.stream(path, wanted, size, index, chunk)
            return
        if (reason := why_not_decord(index) or why_too_much_for_decord(index, wanted, size)) is not None:
            _log_fallback(logging.INFO, path, reason)
            yield from pyav.stream(path, wanted, size, index, chunk)
            return
        n_given, latest = 0, None
        try:
            images = self._images(decord, path, np.unique(wanted), size, index)
            for frames in gather(images, wanted, index, chunk):
                latest = frames.pixels[-1].copy(), frames.indices[-1]
                n_given += 1
                yield frames
            return
        except _DisagreementError as error:
            _log_fallback(logging.WARNING, path, str(error))
        except Exception:  # decord raises its own class, RuntimeError, AssertionError, all with C++ text.
            log.debug("decord on %s", path, exc_info=True)
            _log_fallback(logging.WARNING, path, "decord fails on it")
        # From the start, so that as many frames may be missing as if PyAV had read them all.
        for frames in itertools.islice(pyav.stream(path, wanted, size, index, chunk), n_given, None):
            yield frames if latest is None else _not_before(*latest, frames, index)

    def _images(
        self, decord: ModuleType, path: Path, wanted: Int64Array, size: Size, index: PacketIndex
    ) -> Iterator[tuple[int, Image]]:
        """Distinct frames by decord, each with its number, after its list of frames was checked."""
        height, width = size
        video = decord.VideoReader(
            str(path.absolute()),
            ctx=decord.cpu(0),
            width=width,
            height=height,
            num_threads=self.threads,
            fault_tol=1e-9,  # Fail on the first frame that decord would fill with a neighbour.
        )
        if len(video) != index.n_frames:
            raise _DisagreementError(f"decord lists {len(video)} frames and its packets {index.n_frames}")
        starts = video.get_frame_timestamp(np.arange(index.n_frames))[:, 0].astype(np.float64)
        # decord's times are float32; half a millisecond is less than any frame lasts.
        apart = np.abs((starts - starts[0]) - (index.timestamps - index.timestamps[0])).max()
        if not apart < 5e-4 + 2e-7 * index.duration:
            raise _DisagreementError("decord's time stamps are not those of its packets")
        keys = video.get_key_indices()
        if not set(keys) <= set(np.flatnonzero(index.key_frames).tolist()):
            raise _DisagreementError("decord starts at frames that are not key frames")
        for group in key_frame_groups(wanted, np.array(keys, np.int64)):
            batch = video.get_batch(group)
            # Other code's `decord.bridge.set_bridge` may have made it a tensor.
            pixels = np.asarray(batch.asnumpy() if hasattr(batch, "asnumpy") else batch)
            # Without this decord goes on decoding into memory what it has read ahead.
            video.seek(0)
            yield from zip(group.tolist(), pixels, strict=True)


def _not_before(image: Image, number: int, frames: Frames, index: PacketIndex) -> Frames:
    """Frames, with the image shown last in place of those that would go back behind it."""
    late = frames.indices < number
    if not late.any():
        return frames
    pixels, shown = frames.pixels.copy(), frames.indices.copy()
    pixels[late], shown[late] = image, number
    return Frames(pixels, index.timestamps[shown], shown)


class _DisagreementError(Exception):
    """decord's list of frames is not the packet index's."""


def why_not_decord(index: PacketIndex) -> str | None:
    """Why decord may not read this video: of such files 0.6 gave wrong frames or none, or was not tried; else None."""
    rules = {
        f"its codec is {index.codec}": index.codec not in _CODECS,
        # Of 8 bits per channel are yuv420p and the like, and not yuv420p10le.
        f"its pixels are {index.pix_fmt or 'unknown'}": not re.fullmatch("gray|gbrp|yuvj?4[0-9]+p", index.pix_fmt),
        f"it has {index.n_video_streams} video streams": index.n_video_streams > 1,
        "its picture is mirrored": index.mirrored,
        "it is interlaced or its colours are beyond SDR": bool(index.corrections),
        "its first frame does not decode": index.rotation is None,
        "its header states no duration": index.stated_duration is None,
        "its header states a duration far from the true one": (index.stated_duration or 0)
        > _MOST_OVERSTATED * (index.duration + 1),
    }
    return why_not_seek(index) or next((reason for reason, holds in rules.items() if holds), None)


def why_too_much_for_decord(index: PacketIndex, wanted: Int64Array, size: Size) -> str | None:
    """Why decord would fail or fill the memory on a video that it reads rightly; None if it would not."""
    if index.path.stat().st_size > _MOST_FILE_BYTES:
        return f"it is larger than {_MOST_FILE_BYTES >> 20} MB, and decord holds most of a file in memory"
    if size[1] in _IMPOSSIBLE_WIDTHS:
        return f"decord cannot scale to a width of {size[1]} pixels"
    if unbarred_size(index.shown_size, size) != size:
        return f"its shape is too far from {size[1]}x{size[0]}, and decord puts no bars around it"
    largest = max(map(len, key_frame_groups(np.unique(wanted), np.flatnonzero(index.key_frames))))
    if largest * 3 * size[0] * size[1] > _MOST_GROUP_BYTES:
        return f"more than {_MOST_GROUP_BYTES >> 20} MB of frames are wanted between two key frames"
    return None


@functools.cache
def _import_decord() -> ModuleType | None:
    """The module with its own logging off; None after one warning if it cannot be imported."""
    try:
        import decord
    except (ImportError, OSError) as error:
        log.warning("decord is not available (%s): PyAV reads all videos", error)
        return None
    decord.logging.set_level(decord.logging.QUIET)
    return decord


def _log_fallback(level: int, path: Path, reason: str) -> None:
    log_once(log, level, (path, reason), "PyAV reads %s, because %s", path, reason)
