"""decord where it is known to be right, PyAV everywhere else.

decord 0.6 seeks, so it decodes less than a whole file; but it takes a key frame's place among the packets for
its place among the frames, and counts frames instead of looking at their time stamps. Where the two differ it
answers with wrong pictures and no error. So the packet index decides beforehand what decord may read, and
decord's own list of frames must agree with it. What that cannot show is damage inside a packet that looks sound
from the outside: of 1000 randomly damaged H.264, VP8 and VP9 files, 19 gave some picture that PyAV would not have
given. Files that may be damaged are for `PyAVReader`.

Pictures: both readers scale with FFmpeg's `bilinear`, of which decord leaves no choice. Over 60 files (H.264,
VP8, VP9; BT.601, BT.709 and BT.2020; limited and full range; upright and rotated) the mean absolute
difference between the two was 0.0 to 1.0 levels of 255, 1.7 on rotated and 2.2 on interlaced video. What
differs is where their versions of FFmpeg place the chroma samples; colours and range agree.
"""

import functools
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt

from keyframe.data.packets import PacketIndex, index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.reader import (
    Picture,
    VideoReader,
    checked_indices,
    checked_settings,
    gather,
    groups,
    tell_once,
    why_not_seek,
)
from keyframe.types import Frames, IntArray

logger = logging.getLogger(__name__)

# decord reserves memory for as many frames as the header states: a header gone mad would end the process.
_MOST_OVERSTATED = 10
# Over 10, 30 and 120 minutes of 720p (61, 182 and 730 MB) decord's memory reached 144, 283 and over 710 MB.
_MOST_FILE_BYTES = 128 << 20
_MOST_GROUP_BYTES = 256 << 20

# Of all widths from 16 to 420 decord raises at these, over the padding of FFmpeg's rows.
_IMPOSSIBLE_WIDTHS = frozenset({16, 24, 48, 72})


class DecordReader(VideoReader):
    """Reads frames with decord, checked against the packet index; see `VideoReader` for the contract.

    Where decord is not installed, is not to be trusted with a file (`why_not_decord`), would fill the memory
    (`why_too_much_for_decord`), lists other frames than the index or fails, a `PyAVReader` with the same settings
    reads the file, and a log line says why, once a file. Where decord fails in the middle of a stream, PyAV takes
    over from the next piece on: there alone the cut decides which of the two gives a picture.

    Args:
        threads: decoding threads, 0 for one a core.
        max_missing: as for `PyAVReader`; decord itself never replaces a frame here.
        exact: as for `VideoReader`.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(self, threads: int = 1, max_missing: float = 0.05, exact: bool = True) -> None:
        checked_settings(threads, max_missing, exact)
        self.threads = threads
        self.max_missing = max_missing
        self.exact = exact

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
        size = size or index.upright_size
        wanted = checked_indices(indices, size, index, chunk)
        pyav = PyAVReader(self.threads, self.max_missing)
        decord = _import_decord()
        if decord is None or not len(wanted):
            yield from pyav.stream(path, wanted, size, index, chunk)
            return
        reason = why_not_decord(index) or why_too_much_for_decord(index, wanted, size)
        if reason is not None:
            _tell(logging.INFO, path, reason)
            yield from pyav.stream(path, wanted, size, index, chunk)
            return
        n_given, latest = 0, None
        try:
            pictures = self._pictures(decord, path, np.unique(wanted), size, index)
            for frames in gather(pictures, wanted, size, index, chunk):
                latest = frames.pixels[-1].copy(), frames.indices[-1]
                n_given += 1
                yield frames
            return
        except _DisagreementError as error:
            _tell(logging.WARNING, path, str(error))
        except Exception:  # decord raises its own class, RuntimeError, AssertionError, all with C++ text.
            logger.debug("decord on %s", path, exc_info=True)
            _tell(logging.WARNING, path, "decord fails on it")
        # From the start, so that as many frames may be missing as if PyAV had read them all.
        for frames in itertools.islice(pyav.stream(path, wanted, size, index, chunk), n_given, None):
            yield frames if latest is None else _not_before(*latest, frames, index)

    def _pictures(
        self,
        decord: ModuleType,
        path: Path,
        wanted: npt.NDArray[np.int64],
        size: tuple[int, int],
        index: PacketIndex,
    ) -> Iterator[tuple[int, Picture]]:
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
            raise _DisagreementError("decord starts at frames that are no key frames")
        for group in groups(wanted, np.array(keys, np.int64)):
            batch = video.get_batch(group)
            # Someone else's `decord.bridge.set_bridge` may have made it a tensor.
            pixels = np.asarray(batch.asnumpy() if hasattr(batch, "asnumpy") else batch)
            # decord would go on decoding what it has read ahead, into memory, for as long as nobody asks for
            # more. The next group starts with a seek anyway.
            video.seek(0)
            yield from zip(group.tolist(), pixels, strict=True)


def _not_before(picture: Picture, number: int, frames: Frames, index: PacketIndex) -> Frames:
    """Frames, with the picture shown last in place of those that would go back behind it."""
    late = frames.indices < number
    if not late.any():
        return frames
    pixels, shown = frames.pixels.copy(), frames.indices.copy()
    pixels[late], shown[late] = picture, number
    return Frames(pixels, index.timestamps[shown], shown)


class _DisagreementError(Exception):
    """decord's list of frames is not the packet index's."""


def why_not_decord(index: PacketIndex) -> str | None:
    """Why decord is not to read this video, None where it may.

    Each rule stands for files on which decord 0.6 was seen to give wrong pictures, to fail, or was not tried.
    """
    rules = {
        f"its pixels are {index.pix_fmt or 'unknown'}": not _eight_bits(index.pix_fmt),
        f"it has {index.n_video_streams} video streams": index.n_video_streams > 1,
        "its picture is mirrored": index.mirrored,
        "its first frame does not decode": index.rotation is None,
        "its header states no duration": index.stated_duration is None,
        "its header states a duration far from the true one": (index.stated_duration or 0)
        > _MOST_OVERSTATED * (index.duration + 1),
    }
    return why_not_seek(index) or next((reason for reason, holds in rules.items() if holds), None)


def why_too_much_for_decord(index: PacketIndex, wanted: npt.NDArray[np.int64], size: tuple[int, int]) -> str | None:
    """Why decord would fail on frames of a video that it reads rightly, or fill the memory; None where it does not.

    It reads packets to the end of the file while it waits for a picture, and answers with a group of pictures
    at a time.
    """
    if index.path.stat().st_size > _MOST_FILE_BYTES:
        return f"it is larger than {_MOST_FILE_BYTES >> 20} MB, and decord holds most of a file in memory"
    if size[1] in _IMPOSSIBLE_WIDTHS:
        return f"decord cannot scale to a width of {size[1]} pixels"
    largest = max(map(len, groups(np.unique(wanted), np.flatnonzero(index.key_frames))))
    if largest * 3 * size[0] * size[1] > _MOST_GROUP_BYTES:
        return f"more than {_MOST_GROUP_BYTES >> 20} MB of pictures are wanted between two key frames"
    return None


def _eight_bits(pix_fmt: str) -> bool:
    """Whether FFmpeg's name of a pixel format is one of 8 bits a channel ("yuv420p", not "yuv420p10le")."""
    return pix_fmt in {"gray", "gbrp"} or (pix_fmt.startswith(("yuv4", "yuvj4")) and pix_fmt.endswith("p"))


@functools.cache
def _import_decord() -> ModuleType | None:
    """The module with its own logging off; None where there is none, told once a process."""
    try:
        import decord
    except (ImportError, OSError) as error:
        logger.warning("decord is not to be had here (%s): PyAV reads all videos", error)
        return None
    decord.logging.set_level(decord.logging.QUIET)
    return decord


def _tell(level: int, path: Path, reason: str) -> None:
    tell_once(level, path, reason, f"PyAV reads {path}, for {reason}")
