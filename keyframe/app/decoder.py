"""A process that looks into videos for the page: stills, facts of files, and previews for browsers.

A damaged file may crash or stall a decoder; here that costs one request, never the server. The process imports little,
so that it starts fast.
"""

import io
import multiprocessing
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from functools import lru_cache, partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from PIL import Image

from keyframe.data.container import open_video
from keyframe.data.packets import PacketIndex, index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.files import one_line
from keyframe.summary.skim import write_skim
from keyframe.system import ctrl_c_blocked, follow_parent, in_child
from keyframe.types import KeyframeError, VideoError

_PATIENCE = 60.0  # seconds that a still may take
_REPORT_EVERY = 0.2  # seconds between two reports of how far a preview is
_PREVIEW_HEIGHT = 360
# What browsers play: FFmpeg's names of containers and codecs; 10-bit H.264 they do not.
_PLAYED = {
    "mov,mp4,m4a,3gp,3g2,mj2": ("h264", "vp9", "av1"),
    "matroska,webm": ("vp8", "vp9", "av1"),
}
_PLAYED_SUFFIXES = (".mp4", ".m4v", ".mov", ".webm")
_PLAYED_PIXELS = ("yuv420p", "yuvj420p")


class Decoder:
    """A process that looks into videos, one request at a time; it is replaced if it crashes or stalls."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: Any = None
        self._connection: Connection | None = None

    def facts(self, path: Path) -> dict[str, Any]:
        """Length and size of a video, and whether a browser plays the file; `VideoError` if it cannot be read."""
        found: dict[str, Any] = self.call(path, _facts, path)
        return found

    def still(self, path: Path, seconds: float, height: int) -> bytes:
        """A JPEG of that height at most, of the frame at a time on a player's clock; may raise `VideoError`."""
        found: bytes = self.call(path, _still, path, seconds, height)
        return found

    def call(self, path: Path, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function of a module gives, which looks into the video at `path`; its KeyframeError is raised here."""
        with self._lock:
            if self._process is None or not self._process.is_alive():
                self._start()
            assert self._connection is not None
            try:
                self._connection.send((path, function, arguments))
                answer = self._connection.recv() if self._connection.poll(_PATIENCE) else None
            except (EOFError, OSError):
                answer = None
            if answer is None:
                self._stop()
                raise VideoError(f"{path} crashed or stalled the decoder: convert it to H.264.")
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._stop()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        with ctrl_c_blocked():
            self._process.start()
        theirs.close()

    def _stop(self) -> None:
        if self._process is not None and self._connection is not None:
            self._connection.close()
            self._process.kill()
            self._process.join()
            self._process = None


def _serve(connection: Connection) -> None:
    follow_parent()
    with suppress(EOFError, OSError):
        while True:
            path, function, arguments = connection.recv()
            try:
                answer = function(*arguments)
            except KeyframeError as error:
                answer = error
            except Exception as error:
                answer = VideoError(f"{path} cannot be shown ({one_line(f'{type(error).__name__}: {error}')}).")
            connection.send(answer)


def _facts(path: Path) -> dict[str, Any]:
    with open_video(path) as (container, stream):
        context = stream.codec_context
        length = container.duration / 1e6 if container.duration else 0.0
        if stream.duration and stream.time_base:
            length = float(stream.duration * stream.time_base)
        plays = context.name in _PLAYED.get(container.format.name, ()) and context.pix_fmt in _PLAYED_PIXELS
        return {
            "seconds": round(length, 3),
            "height": context.height,
            "width": context.width,
            "codec": context.name,
            "plays": plays and path.suffix.lower() in _PLAYED_SUFFIXES,
        }


@lru_cache(maxsize=4)
def _index(path: Path, state: tuple[int, int]) -> PacketIndex:
    return index_packets(path)


def _still(path: Path, seconds: float, height: int) -> bytes:
    found = path.stat()
    index = _index(path, (found.st_size, found.st_mtime_ns))
    starts = index.timestamps - index.zero
    number = max(0, int(starts.searchsorted(seconds + 1e-6, side="right")) - 1)
    (frame,) = PyAVReader(threads=1).stream(path, [number], None, index, chunk=1)  # type: ignore[arg-type]
    image = Image.fromarray(frame.pixels[0])
    image.thumbnail((16 * height, height), Image.Resampling.BILINEAR)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return out.getvalue()


def preview(path: Path, out: Path) -> Generator[float]:
    """Make a small copy of a video on the same clock, an MP4 or WebM file, for browsers that do not play its own."""
    return in_child(partial(_preview, path, out), str(path))


def _preview(path: Path, out: Path) -> Generator[float]:
    index = index_packets(path)
    reader = PyAVReader(threads=1)
    done = 0.0

    def progress(path: Path, seconds: float, of: float) -> None:
        nonlocal done
        done = seconds / of if of else 0.0

    reader.progress = progress
    out.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write_skim, index, [(0.0, index.duration)], out, reader, _PREVIEW_HEIGHT)
        while not wait([writing], _REPORT_EVERY).done:
            yield done
        writing.result()
