"""Videos at http(s) addresses, downloaded within limits of time, size and place; and those of HLS playlists."""

import codecs
import http.client
import ipaddress
import logging
import os
import re
import shutil
import ssl
import string
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote
from urllib.request import (
    AbstractHTTPHandler,
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPRedirectHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from keyframe.data.container import encrypted
from keyframe.files import one_line, read_small
from keyframe.types import KeyframeError

log = logging.getLogger(__name__)

ADDRESS = re.compile(r"[a-z][a-z0-9+.\-]+://|data:[\w/+.\-]*[;,]", re.IGNORECASE)
PLAYLIST = ".m3u8"
_USER = re.compile("//[^/?#]*@")
_PATIENCE = 20  # seconds for a connection, for the head of an answer, and for each of its pieces
_SLOWEST = 10_000  # bytes per second on average, below which nobody waits for the end
# Bytes of a playlist, which often comes without its length.
_LONGEST_PLAYLIST = 1 << 23
_MOST_SHOWN = 120
_INSTEAD = "or download the video by other means and name the file"

Peer = tuple[str, int]


class Download:
    """The files that one address leads to, by its redirects and, if it is a playlist, by its entries.

    The address itself may be in a private network, because the user has typed it. What it leads to must be on the same
    server (address and port) or on a public one: else a stranger's file decides what is asked of this network. It holds
    for the address that is connected to, whatever name it has. Where a proxy is set up, that is the server.
    """

    def __init__(self, address: str) -> None:
        self.name = shown_address(address)
        self.first: Peer | None = None
        self.place = address
        self.since, self.n_read = time.monotonic(), 0
        self.opener = OpenerDirector()
        usual = (ProxyHandler, HTTPRedirectHandler, HTTPErrorProcessor, HTTPDefaultErrorHandler, UnknownHandler)
        for handler in (_Connections(self._check), *(kind() for kind in usual)):
            self.opener.add_handler(handler)

    def _check(self, peer: Peer) -> None:
        self.first = self.first or peer
        place = ipaddress.ip_address(peer[0].partition("%")[0])
        place = getattr(place, "ipv4_mapped", None) or place
        if peer != self.first and not place.is_global:
            raise KeyframeError(
                f"{self.name} leads to the private address {peer[0]}:{peer[1]}, which is not followed: give the "
                f"address of the file itself, {_INSTEAD}."
            )

    def _keep_pace(self) -> None:
        """Raise KeyframeError if all that was read until now came too slowly."""
        if time.monotonic() - self.since > _PATIENCE + self.n_read / _SLOWEST:
            raise KeyframeError(f"{self.name} is too slow, {self.n_read >> 10} KB so far: try later, {_INSTEAD}.")

    def save(self, address: str, file: Path) -> str:
        """Write what is at an address, this one's or one that it leads to; KeyframeError if it is out of limits.

        Returns the address that it was at in the end, after redirects.
        """
        if not re.match("https?://", address, re.IGNORECASE):
            raise KeyframeError(f"{shown_address(address)} is not an http(s) address: {_INSTEAD.removeprefix('or ')}.")
        if _USER.search(address):
            raise KeyframeError(f"{self.name} holds a user name, which logs would keep: leave it out, {_INSTEAD}.")
        if self.first is None:
            log.info("Downloading %s", self.name)
        with file.open("wb") as out:
            for piece in self._content(address, shutil.disk_usage(file.parent).free):
                out.write(piece)
        return self.place

    def _content(self, address: str, free: int) -> Iterator[bytes]:
        name, n_read = shown_address(address), 0
        try:
            self._keep_pace()
            request = Request(quote(address, safe=string.punctuation), headers={"User-Agent": "keyframe"})
            with self.opener.open(request, timeout=_PATIENCE) as answer:
                self.place, length = answer.url, _length(name, answer, free)
                while piece := answer.read1(1 << 16):
                    n_read, self.n_read = n_read + len(piece), self.n_read + len(piece)
                    self._keep_pace()
                    if length is None and n_read > _LONGEST_PLAYLIST:
                        raise KeyframeError(
                            f"{name} is not a playlist, it has over {_LONGEST_PLAYLIST >> 20} MB: check it."
                        )
                    yield piece
            if length is not None and n_read < length:
                raise KeyframeError(f"{name} broke off after {n_read} of {length} bytes: try again, {_INSTEAD}.")
        except HTTPError as error:
            raise KeyframeError(f"{name} {_answer(error)}: check it, {_INSTEAD}.") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            cause = error.reason if isinstance(error, URLError) else error
            late = f"does not answer within {_PATIENCE} s"
            what = one_line(str(getattr(cause, "strerror", None) or cause))
            why = late if isinstance(cause, TimeoutError) else f"cannot be reached ({what})"
            raise KeyframeError(f"{name} {why}: check it and the network, {_INSTEAD}.") from error


class _Connections(AbstractHTTPHandler):
    """Opens http and https addresses; `check` is called with the peer before anything is asked of it."""

    def __init__(self, check: Any) -> None:
        super().__init__()
        self.plain, self.secure = partial(_Plain, check), partial(_Secure, check)

    def http_open(self, request: Request) -> Any:
        return self.do_open(self.plain, request)

    def https_open(self, request: Request) -> Any:
        return self.do_open(self.secure, request, context=ssl.create_default_context())

    http_request = https_request = AbstractHTTPHandler.do_request_


class _Watched:
    """A connection that is checked, and closed if the head of an answer takes too long, byte by byte."""

    sock: Any

    def __init__(self, check: Any, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.check = check
        self.late = False

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self.check(self.sock.getpeername()[:2])

    def getresponse(self) -> Any:
        watch = threading.Timer(_PATIENCE, self._hang_up)
        watch.daemon = True
        watch.start()
        answer = None
        try:
            answer = super().getresponse()  # type: ignore[misc]
        except (OSError, http.client.HTTPException):
            if not self.late:
                raise
        finally:
            watch.cancel()
        if self.late:
            raise TimeoutError
        return answer

    def _hang_up(self) -> None:
        self.late = True
        with suppress(OSError):
            self.sock.shutdown(2)


class _Plain(_Watched, http.client.HTTPConnection):
    """http."""


class _Secure(_Watched, http.client.HTTPSConnection):
    """https."""


def _length(name: str, answer: Any, free: int) -> int | None:
    """Bytes of an answer; None of a playlist that does not state them."""
    kind = answer.headers.get_content_type()
    length: int | None = answer.length
    if kind == "text/html":
        raise KeyframeError(f"{name} is a web page, not a video: give the address of the file itself, {_INSTEAD}.")
    if length is None and "mpegurl" not in kind and not name.lower().endswith((".m3u8", ".m3u")):
        raise KeyframeError(f"{name} states no length, it may be endless: {_INSTEAD.removeprefix('or ')}.")
    if length is not None and length > free:
        raise KeyframeError(f"{name} has {length} bytes, but only {free} are free: make room.")
    return length


def _answer(error: HTTPError) -> str:
    place = error.headers.get("Location")
    if 300 <= error.code < 400 and place:
        return f"leads to {shown_address(place)}, which is not followed"
    return f"is answered by {error.code} ({one_line(str(error.reason))})"


def shown_address(address: str) -> str:
    """An address as messages and logs show it: without what may be a secret, a password or a query."""
    place = _USER.sub("//", address)
    place = one_line(re.split("[?#]", place, maxsplit=1)[0])
    return place if len(place) <= _MOST_SHOWN else f"{place[:_MOST_SHOWN]}..."


# HLS playlists (RFC 8216): the pieces of files that are, one after the other, the video of a playlist

# Gives the place of an entry of the playlist at a place (a path or an address), and its file on this machine.
_FindPart = Callable[[str, str], tuple[str, Path]]


class _Piece(NamedTuple):
    """Bytes of a file."""

    file: Path
    start: int = 0
    length: int | None = None  # None: to the end


def is_playlist(head: bytes) -> bool:
    """Whether a file begins as a playlist does."""
    return head.removeprefix(codecs.BOM_UTF8).startswith(b"#EXTM3U")


def _pieces(playlist: Path, place: str, find: _FindPart) -> Iterator[_Piece]:
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


def join_playlist(playlist: Path, place: str, find: _FindPart, out: Path) -> None:
    """Write the pieces of a playlist at a place into one file."""
    with out.open("wb") as joined:
        for piece in _pieces(playlist, place, find):
            with piece.file.open("rb") as file:
                file.seek(piece.start)
                left = piece.file.stat().st_size if piece.length is None else piece.length
                while left > 0 and (content := file.read(min(left, 1 << 20))):
                    left -= joined.write(content)


def beside(playlist: Path) -> _FindPart:
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


def _piece(file: Path, span: str, ends: dict[Path, int]) -> _Piece:
    """A piece of a byte range `length[@start]`, which begins at the end of the one before if it does not say where."""
    match = re.fullmatch(r"(\d{1,18})(?:@(\d{1,18}))?", span.strip())
    if match is None:
        return _Piece(file)
    start = ends.get(file, 0) if match[2] is None else int(match[2])
    ends[file] = start + int(match[1])
    return _Piece(file, start, int(match[1]))
