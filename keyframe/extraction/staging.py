"""What inputs name and no reader opens, made into files: standard input, addresses, playlists, images in a row."""

import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urljoin

import av
import av.error
from av.video.frame import VideoFrame
from PIL import Image

from keyframe.extraction.download import PLAYLIST, Download, beside, is_playlist, join_playlist, shown_address
from keyframe.extraction.folder import folder_name
from keyframe.files import make_folder
from keyframe.types import KeyframeError, check_number

log = logging.getLogger(__name__)

# FFmpeg's patterns of numbered files, such as frames/%05d.png.
NUMBERED = re.compile(r"%(\d*)d")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_USUAL_RATE = Fraction(25)
_USUAL_MS = 100  # milliseconds of an image of an animation that states none, as browsers show it


@dataclass(frozen=True)
class Refused:
    """An input that leads to no video, and a sentence that says why."""

    path: Path
    reason: str


class Staging:
    """Makes files, each in a folder of its own below `folder`, which is made if it is needed.

    `image_rate` is images per second, above 0; None is 25, and a folder of images is none of videos. `names` is what
    the user has named, for each file, whether it could be made or not.
    """

    def __init__(self, folder: Path, image_rate: float | None = None) -> None:
        check_number("image_rate", image_rate, 0, 1000, whole=False, above=True, optional=True)
        self.folder = folder
        self.rate = None if image_rate is None else Fraction(image_rate).limit_denominator(1001)
        self.names: dict[Path, str] = {}
        self._made: dict[str, Path | Refused] = {}

    def shown(self, text: str) -> str:
        """A text with what the user has named in place of our files."""
        for file, name in self.names.items():
            text = text.replace(str(file), name)
        return text

    def rename(self, record: logging.LogRecord) -> bool:
        """The same for a line of the log, as a filter of it."""
        record.msg, record.args = self.shown(record.getMessage()), ()
        return True

    def standard_input(self) -> Path | Refused:
        """A copy of standard input."""
        return self._make("-", "standard input", "stdin", _copy_stdin)

    def address(self, address: str) -> Path | Refused:
        """What is at an http(s) address, of a playlist with its segments; other addresses are refused."""
        name = Path(unquote(re.split("[?#]", address, maxsplit=1)[0].rpartition("/")[2]))
        suffix = name.suffix if re.fullmatch(r"\.\w{1,8}", name.suffix) else ""
        return self._make(address, shown_address(address), f"{folder_name(name)}{suffix}", partial(_download, address))

    def images(self, path: Path, images: Sequence[Path]) -> Path | Refused:
        """A QuickTime file that holds images of one folder as they are; the same images give the same file."""
        name = images[0].parent.resolve().name or "images"
        return self._make(str(path), str(path), f"{name}.mov", lambda out: _join(images, out, self.rate or _USUAL_RATE))

    def numbered(self, path: Path) -> Path | Refused:
        """The images of a pattern such as frames/%05d.png, in the order of their numbers."""
        before, digits, after = NUMBERED.split(path.name, maxsplit=1)
        name = re.compile(rf"{re.escape(before)}(\d{{{int(digits or 1)},}}){re.escape(after)}")
        found = [(match, image) for image in files_in(path.parent) if (match := name.fullmatch(image.name))]
        if not found:
            return Refused(path, f"{path} matches no image: check the pattern.")
        return self.images(path, [image for _, image in sorted(found, key=lambda pair: int(pair[0][1]))])

    def file(self, path: Path) -> Path | Refused:
        """A file itself, unless it is a playlist or an animated WebP."""
        head = _head(path)
        if is_playlist(head):
            write = partial(join_playlist, path, str(path), beside(path))
        elif is_animated_webp(head):
            write = partial(_convert_webp, path)
        else:
            return path
        return self._make(os.path.realpath(path), str(path), path.name, write)

    def _make(self, key: str, shown: str, name: str, write: Callable[[Path], None]) -> Path | Refused:
        """The file that `write` makes, once for each key."""
        if key not in self._made:
            out = self.folder / str(len(self._made) + 1) / name
            make_folder(out.parent)
            self.names[out] = shown
            self._made[key] = out
            try:
                write(out)
            except KeyframeError as error:
                self._made[key] = Refused(out, self.shown(str(error)))
        return self._made[key]


@contextmanager
def staged(folder: Path, image_rate: float | None) -> Iterator[Staging]:
    """A staging in a folder, which is removed at the end; a KeyframeError and the log name what the user has named."""
    staging = Staging(folder, image_rate)
    handlers = list(logging.getLogger().handlers)
    for handler in handlers:
        handler.addFilter(staging.rename)
    try:
        yield staging
    except KeyframeError as error:
        error.args = (staging.shown(str(error)),)
        raise
    finally:
        for handler in handlers:
            handler.removeFilter(staging.rename)
        shutil.rmtree(folder, ignore_errors=True)


def files_in(folder: Path) -> list[Path]:
    """The files of a folder, without hidden ones; none if it is no folder, or may not be read."""
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file()]
    except (OSError, ValueError):
        return []


def makes_video(path: Path) -> bool:
    """Whether a file found in a folder is a playlist or an animated WebP."""
    suffix = path.suffix.lower()
    return suffix == PLAYLIST or (suffix == ".webp" and is_animated_webp(_head(path)))


def is_animated_webp(head: bytes) -> bool:
    """Whether a file begins as an animated WebP does, by the flag in its extended header (RFC 9649, 2.7)."""
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & 2)


def _head(path: Path) -> bytes:
    try:
        if not path.is_file():  # opening a pipe would wait for its writer
            return b""
        with path.open("rb") as file:
            return file.read(32)
    except (OSError, ValueError):
        return b""


def _copy_stdin(out: Path) -> None:
    if sys.stdin is None or sys.stdin.isatty():
        raise KeyframeError("standard input is not a file or pipe: write cat FILE | keyframe-extract -, for instance.")
    with out.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
    if not out.stat().st_size:
        raise KeyframeError("standard input is empty (0 bytes): check the command before the pipe.")
    _convert_animation(out)


def _download(address: str, out: Path) -> None:
    download = Download(address)
    place = download.save(address, out)
    if not is_playlist(_head(out)):
        _convert_animation(out)
        return
    playlist, parts = out.with_name("playlist"), out.with_name("parts")
    out.rename(playlist)
    parts.mkdir()
    found: dict[str, tuple[str, Path]] = {}

    def find(entry: str, place: str) -> tuple[str, Path]:
        whole = urljoin(place, entry)
        if whole not in found:
            part = parts / str(len(found))
            found[whole] = download.save(whole, part), part
        return found[whole]

    try:
        join_playlist(playlist, place, find, out)
    except KeyframeError as error:
        raise KeyframeError(str(error).replace(str(playlist), str(out))) from error
    finally:
        shutil.rmtree(parts)


def _convert_animation(out: Path) -> None:
    """Convert a file in its place if it is an animated WebP."""
    if is_animated_webp(_head(out)):
        _convert_webp(out.rename(out.with_name("animation")), out)


def _convert_webp(path: Path, out: Path) -> None:
    """The images of an animated WebP, which FFmpeg does not read, at their times in a QuickTime file."""
    try:
        with Image.open(path) as images, av.open(str(out), "w", format="mov", options={"fflags": "+bitexact"}) as film:
            stream = film.add_stream("png", rate=1000)
            stream.width, stream.height, stream.pix_fmt = *images.size, "rgb24"
            stream.codec_context.thread_count = 1  # with more, packets come later than their frames
            at = 0
            for number in range(getattr(images, "n_frames", 1)):
                images.seek(number)
                frame = VideoFrame.from_image(images.convert("RGB"))
                frame.pts, frame.time_base = at, Fraction(1, 1000)
                lasts = images.info.get("duration") or _USUAL_MS
                for packet in stream.encode(frame):
                    packet.duration = lasts
                    film.mux(packet)
                at += lasts
    except (OSError, ValueError, EOFError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno:  # of the disk
            raise
        raise KeyframeError(
            f"{out} is an animated WebP that cannot be read: save it again, or leave it out."
        ) from error


def _join(images: Sequence[Path], out: Path, rate: Fraction) -> None:
    """Put image files into a QuickTime file, one after the other, as they are."""
    codec = ""
    # With `bitexact` equal images give equal files.
    with av.open(str(out), "w", format="mov", options={"fflags": "+bitexact"}) as joined:
        for number, image in enumerate(images):
            try:
                with av.open(str(image.absolute()), options={"protocol_whitelist": "file"}) as file:
                    if file.format.name != "image2" and not file.format.name.endswith("_pipe"):
                        raise KeyframeError(f"{image} is not an image: name images that form a sequence, or one video.")
                    source = file.streams.video[0]
                    if number == 0:
                        codec, stream = source.codec_context.name, joined.add_stream_from_template(source)
                        stream.time_base = 1 / rate
                    if source.codec_context.name != codec:
                        raise KeyframeError(
                            f"{image} is {source.codec_context.name}, but the images before it {codec}: use one kind."
                        )
                    packet = next(packet for packet in file.demux(source) if packet.size)
                    packet.pts = packet.dts = number
                    packet.time_base, packet.duration, packet.stream = 1 / rate, 1, stream
                    joined.mux(packet)
            except (av.error.FFmpegError, StopIteration, IndexError) as error:
                raise KeyframeError(f"{image} is not an image that FFmpeg can read: leave it out.") from error
