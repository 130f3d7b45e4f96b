"""HLS playlists (RFC 8216): the pieces of files that are, one after the other, the video of a playlist."""

import codecs
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from keyframe.data.container import encrypted
from keyframe.extraction.download import ADDRESS, shown_address
from keyframe.files import read_small
from keyframe.types import KeyframeError

log = logging.getLogger(__name__)

PLAYLIST = ".m3u8"

# Gives the place of an entry of the playlist at a place (a path or an address), and its file on this machine.
FindPart = Callable[[str, str], tuple[str, Path]]


class Piece(NamedTuple):
    """Bytes of a file."""

    file: Path
    start: int = 0
    length: int | None = None  # None: to the end


def is_playlist(head: bytes) -> bool:
    """Whether a file begins as a playlist does."""
    return head.removeprefix(codecs.BOM_UTF8).startswith(b"#EXTM3U")


def pieces(playlist: Path, place: str, find: FindPart) -> Iterator[Piece]:
    """The initialisation sections and segments of a playlist, in order; KeyframeError if they are not to be had.

    Of a playlist of several variants it is the one with the largest pictures, of these with the most bits per second.
    Other renditions, such as sound in files of its own, are left out.
    """
    lines = _lines(playlist)
    variants = [(_size(one), entry) for one, entry in pairwise(lines) if _is(one, "STREAM-INF")]
    if variants:
        if any(_is(line, "MEDIA") and _value(line, "TYPE") == "AUDIO" and _value(line, "URI") for line in lines):
            log.info("%s: its sound is in separate files, which are not read", shown_address(place))
        place, file = find(max(variants, key=lambda variant: variant[0])[1], place)
        lines = _lines(file)
    ends: dict[Path, int] = {}
    header, span, gap, count = None, "", False, 0
    for line in lines:
        if _is(line, "KEY") and _value(line, "METHOD") != "NONE":
            raise encrypted(playlist)
        if _is(line, "MAP") and line != header:
            if header is not None:
                raise KeyframeError(
                    f"{playlist} changes its encoding midway (a second EXT-X-MAP): convert it, ffmpeg -i FILE new.mp4."
                )
            header = line
            yield _piece(find(_value(line, "URI"), place)[1], _value(line, "BYTERANGE"), ends)
        elif _is(line, "BYTERANGE"):
            span = line.partition(":")[2]
        elif _is(line, "GAP"):
            gap = True
        elif not line.startswith("#"):
            if not gap:
                file = find(line, place)[1]
                with file.open("rb") as segment:
                    if is_playlist(segment.read(16)):
                        raise KeyframeError(f"{playlist} names playlists of playlists: name one of these instead.")
                yield _piece(file, span, ends)
            span, gap, count = "", False, count + 1
    if not count:
        raise KeyframeError(f"{playlist} names no segments: download it again.")


def join(parts: Iterator[Piece], out: Path) -> None:
    """Write pieces into one file."""
    with out.open("wb") as joined:
        for piece in parts:
            with piece.file.open("rb") as file:
                file.seek(piece.start)
                left = piece.file.stat().st_size if piece.length is None else piece.length
                while left > 0 and (content := file.read(min(left, 1 << 20))):
                    left -= joined.write(content)


def beside(playlist: Path) -> FindPart:
    """Finds the parts of a playlist on this machine: files in its folder or below, never others."""
    root = os.path.realpath(playlist.parent)

    def find(entry: str, place: str) -> tuple[str, Path]:
        if ADDRESS.match(entry):
            raise KeyframeError(
                f"{playlist} names {shown_address(entry)}, which is not in its folder: download the segments, too, or "
                "name the playlist's own address."
            )
        written, decoded = (Path(os.path.realpath(Path(place).parent / name)) for name in (entry, unquote(entry)))
        file = written if written.is_file() else decoded
        if not file.is_relative_to(root):
            raise KeyframeError(
                f"{playlist} names {shown_address(entry)}, which is outside of its folder: put it there."
            )
        if not file.is_file():
            raise KeyframeError(f"{playlist} names {shown_address(entry)}, which is missing: copy it, too.")
        return str(file), file

    return find


def parts_beside(playlist: Path) -> set[Path]:
    """The files that a playlist names itself, as far as they are in its folder."""
    find, found = beside(playlist), set()
    with suppress(KeyframeError):
        for line in _lines(playlist):
            with suppress(KeyframeError, ValueError):
                found.add(find(_value(line, "URI") if line.startswith("#") else line, str(playlist))[1])
    return found - {Path(os.path.realpath(playlist))}


def _lines(playlist: Path) -> Sequence[str]:
    try:
        text = read_small(playlist)
    except (OSError, ValueError) as error:
        raise KeyframeError(f"{playlist} is not a readable playlist: download it again.") from error
    if "#EXT-X-" not in text:
        raise KeyframeError(f"{playlist} is a list of videos, not of segments (HLS): name its videos in a .txt file.")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _is(line: str, tag: str) -> bool:
    return line.partition(":")[0] == f"#EXT-X-{tag}"


def _value(line: str, name: str) -> str:
    """The value of an attribute, "" if the line has none."""
    match = re.search(rf'[:,]\s*{name}=(?:"([^"]*)"|([^,]*))', line)
    return "" if match is None else match[1] or match[2] or ""


def _size(line: str) -> tuple[int, int]:
    """Pixels, and bits per second, of a variant."""
    size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", _value(line, "RESOLUTION"))
    rate = _value(line, "BANDWIDTH")
    return int(size[1]) * int(size[2]) if size else 0, int(rate) if re.fullmatch(r"\d{1,12}", rate) else 0


def _piece(file: Path, span: str, ends: dict[Path, int]) -> Piece:
    """A piece of a byte range `length[@start]`, which begins at the end of the one before if it does not say where."""
    match = re.fullmatch(r"(\d{1,18})(?:@(\d{1,18}))?", span.strip())
    if match is None:
        return Piece(file)
    start = ends.get(file, 0) if match[2] is None else int(match[2])
    ends[file] = start + int(match[1])
    return Piece(file, start, int(match[1]))
