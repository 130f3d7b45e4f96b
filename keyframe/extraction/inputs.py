"""The videos that a user names: files, folders, patterns, and lists of them."""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from glob import has_magic
from pathlib import Path

from keyframe.errors import KeyframeError

VIDEO_SUFFIXES = frozenset(
    [".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".mts", ".m2ts", ".ts", ".flv", ".wmv", ".3gp"]
)
_LIST_SUFFIXES = (".txt", ".lst")


def find_inputs(inputs: Sequence[str], recursive: bool, output: Path) -> list[Path]:
    """The files that inputs mean, each once, in the order given; those of a folder or a pattern in natural order.

    Args:
        inputs: each a video (of any suffix; it need not exist), a folder, a pattern with `*`, `?` or `[`, or a text
            file that lists such, one a line, from its own folder. A name that exists is never a pattern.
        recursive: whether folders are searched to any depth; hidden files and folders are left out.
        output: where results go; what lies there is no input, unless it is named.

    Raises:
        KeyframeError: nothing is named, a folder holds no video, a pattern matches none, or a list is not readable.
    """
    ignored = os.path.realpath(output)
    found: dict[str, Path] = {}
    for entry in inputs:
        for path in _files_of(entry, recursive, Path()):
            # Asked for by its name, even a skim is an input.
            real = os.path.realpath(path)
            if str(path) == entry or not Path(real).is_relative_to(ignored):
                found.setdefault(real, path)
    if not found:
        raise KeyframeError(
            f"{', '.join(inputs) or 'input'} names no video: give videos, a folder or a list, "
            "such as keyframe-extract holiday.mp4."
        )
    return list(found.values())


def _files_of(entry: str, recursive: bool, base: Path, depth: int = 0) -> Iterator[Path]:
    path = base / _from_home(entry)
    mode = _mode(path)
    if stat.S_ISDIR(mode):
        videos = sorted(_below(path, recursive), key=lambda video: _natural(str(video)))
        if not videos:
            more = "" if recursive else ", or recursive=true to look into the folders below"
            raise KeyframeError(f"{path} holds no videos: name another folder{more}.")
        yield from videos
    elif stat.S_ISREG(mode) and path.suffix.lower() in _LIST_SUFFIXES:
        if depth:
            raise KeyframeError(f"{path} is a list within a list: name videos in the first one.")
        for line in _lines(path):
            yield from _files_of(line, recursive, path.parent, depth + 1)
    elif not mode and has_magic(entry):
        pattern = str(path.relative_to(path.anchor))
        matches = sorted(filter(Path.is_file, Path(path.anchor).glob(pattern)), key=lambda match: _natural(str(match)))
        if not matches:
            raise KeyframeError(f"{entry} matches no file: check the pattern.")
        yield from matches
    else:
        yield path


def _from_home(entry: str) -> Path:
    try:
        return Path(entry).expanduser()
    except RuntimeError:  # "~draft.mp4" is a name and nobody's home.
        return Path(entry)


def _mode(path: Path) -> int:
    """What a path leads to; 0 where there is nothing, or nothing can be told of it."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def _below(folder: Path, recursive: bool) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        yield from (
            Path(place, name)
            for name in files
            if Path(name).suffix.lower() in VIDEO_SUFFIXES and not name.startswith(".")
        )


def _lines(path: Path) -> list[str]:
    """The lines of a list that are neither empty nor a comment; a name may begin with `#` if there is such a file."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        if "\0" in "".join(lines):
            raise ValueError("binary")
    except (OSError, ValueError) as error:
        raise KeyframeError(f"{path} is not a readable list of videos (UTF-8, one a line): save it again.") from error
    names = [line.strip() for line in lines]
    return [name for name in names if name and (not name.startswith("#") or (path.parent / name).exists())]


def _natural(name: str) -> list[tuple[int, str]]:
    """Clip 2 comes before clip 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part.casefold()) for part in re.split(r"(\d+)", name)]
