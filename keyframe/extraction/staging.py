"""Inputs that are no video files, made into files: standard input, and images that follow each other."""

import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import av.error

from keyframe.data.folder import VIDEO_SUFFIXES
from keyframe.extraction.inputs import Refused
from keyframe.files import make_folder, natural_key
from keyframe.types import KeyframeError, check_number

_STDIN = "-"
_ADDRESS = re.compile(r"[a-z][a-z0-9+.\-]+://", re.IGNORECASE)
# FFmpeg's patterns of numbered files, such as frames/%05d.png.
_NUMBERED = re.compile(r"%(\d*)d")
_USUAL_RATE = Fraction(25)
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


@contextmanager
def staged(inputs: Sequence[str], folder: Path, image_rate: float | None) -> Iterator[list[str | Refused]]:
    """The inputs, with a file in `folder` in place of each that is none but means a video, until the block ends.

    Standard input (`-`) is copied. Images of a numbered pattern, and with a rate those of a folder without
    videos, become a QuickTime file that holds them as they are; the same images give the same file.

    Args:
        inputs: as a user names them.
        folder: made if it is needed, and removed.
        image_rate: images per second, above 0; None is 25, and a folder of images is none of videos.
    """
    check_number("image_rate", image_rate, 0, 1000, whole=False, above=True, optional=True)
    rate = None if image_rate is None else Fraction(image_rate).limit_denominator(1001)
    try:
        yield [_staged(entry, folder, rate) for entry in inputs]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _staged(entry: str, folder: Path, rate: Fraction | None) -> str | Refused:
    if _ADDRESS.match(entry):
        reason = f"{entry} is an address, not a file: download the video first, then name the file."
        return Refused(Path(entry), reason)
    if entry == _STDIN and not os.path.lexists(entry):
        make_folder(folder)
        with (folder / "stdin").open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
        return str(folder / "stdin")
    try:
        path = Path(entry).expanduser()
    except RuntimeError:  # "~draft.mp4" is a name, not a home.
        path = Path(entry)
    place = path
    if _NUMBERED.search(path.name) and not os.path.lexists(path):
        place = path.parent
        before, digits, after = _NUMBERED.split(path.name, maxsplit=1)
        name = re.compile(rf"{re.escape(before)}\d{{{int(digits or 1)},}}{re.escape(after)}")
        images = [image for image in _files(place) if name.fullmatch(image.name)]
        if not images:
            return Refused(path, f"{entry} matches no image: check the pattern.")
    else:
        files = [] if rate is None else _files(path)
        images = [file for file in files if file.suffix.lower() in _IMAGE_SUFFIXES]
        if not images or any(file.suffix.lower() in VIDEO_SUFFIXES for file in files):
            return entry
    make_folder(folder)
    out = folder / f"{place.resolve().name or 'images'}.mov"
    if out.exists():
        return Refused(path, f"{entry} is the second image sequence of the name {out.stem}: take them one by one.")
    try:
        _join(images, out, rate or _USUAL_RATE)
    except KeyframeError as error:
        return Refused(path, str(error))
    return str(out)


def _files(folder: Path) -> list[Path]:
    """The files of a folder in natural order, without hidden ones; none if it is no folder, or may not be read."""
    try:
        found = [path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file()]
    except (OSError, ValueError):
        return []
    return sorted(found, key=lambda path: natural_key(path.name))


def _join(images: Sequence[Path], out: Path, rate: Fraction) -> None:
    """Put image files into a QuickTime file, one after the other, as they are."""
    codec = ""
    # With `bitexact` equal images give equal files.
    with av.open(str(out), "w", format="mov", options={"fflags": "+bitexact"}) as joined:
        for number, image in enumerate(images):
            try:
                with av.open(str(image.absolute())) as file:
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
                raise KeyframeError(f"{image} is no image that FFmpeg can read: leave it out.") from error
