"""The videos that a user names: files, folders, patterns, and lists of them."""

import logging
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path

from keyframe.data.folder import VIDEO_SUFFIXES
from keyframe.files import natural_key
from keyframe.types import KeyframeError

log = logging.getLogger(__name__)

_LIST_SUFFIXES = (".txt", ".lst")


@dataclass(frozen=True)
class Refused:
    """An input that leads to no video, and a sentence that says why."""

    path: Path
    reason: str


def find_inputs(inputs: Sequence[str], recursive: bool, ours: Sequence[Path]) -> list[Path | Refused]:
    """The files that inputs mean, each once, in the order given; those of a folder or a pattern in natural order.

    Args:
        inputs: each a video (of any suffix; it need not exist), a folder, a pattern with `*`, `?` or `[`, or a text
            file that lists such, one a line, from its own folder. A name that exists is never a pattern.
        recursive: whether folders are searched to any depth; hidden files and folders are left out.
        ours: where the command writes. What lies there is no input, unless it is named; a folder that leads there and
            to no other video is passed over, for a shell's `*` names it.

    Returns:
        In place of a folder that holds no video, a pattern that matches none or a list that is not readable: a refusal.

    Raises:
        KeyframeError: nothing is left.
    """
    places = [Path(os.path.realpath(place)) for place in ours]
    found: dict[str, Path | Refused] = {}
    passed: dict[str, Path | Refused] = {}
    for entry in inputs:
        means = list(_files_of(entry, recursive, Path()))
        kept = [one for one in means if not _leads_to(one, entry, places)]
        for one in kept:
            found.setdefault(os.path.realpath(_path(one)), one)
        if means and not kept:
            passed[entry] = means[0]
    if not found:
        reasons = [one.reason for one in passed.values() if isinstance(one, Refused)]
        nothing = f"{', '.join(inputs) or 'input'} names no video: give videos, a folder or a list, "
        raise KeyframeError(reasons[0] if reasons else f"{nothing}such as keyframe-extract holiday.mp4.")
    for entry in passed:
        log.info("Passed over %s: results go there", entry)
    return list(found.values())


def _path(one: Path | Refused) -> Path:
    return one.path if isinstance(one, Refused) else one


def _leads_to(one: Path | Refused, entry: str, places: Sequence[Path]) -> bool:
    """Whether a file lies in one of our places, or whether a folder without videos does or holds one."""
    if isinstance(one, Path):
        # Asked for by its name, even a skim is an input.
        return str(one) != entry and any(Path(os.path.realpath(one)).is_relative_to(place) for place in places)
    real = Path(os.path.realpath(one.path))
    return real.is_dir() and any(real.is_relative_to(place) or place.is_relative_to(real) for place in places)


def _files_of(entry: str, recursive: bool, base: Path, depth: int = 0) -> Iterator[Path | Refused]:
    path = base / _from_home(entry)
    mode = _mode(path)
    if stat.S_ISDIR(mode):
        videos = sorted(_below(path, recursive), key=lambda video: natural_key(str(video)))
        if not videos:
            more = "" if recursive else ", or recursive=true to look into the folders below"
            yield Refused(path, f"{path} holds no videos: name another folder{more}.")
        yield from videos
    elif stat.S_ISREG(mode) and path.suffix.lower() in _LIST_SUFFIXES:
        if depth:
            yield Refused(path, f"{path} is a list within a list: name videos in the first one.")
        else:
            yield from _listed(path, recursive)
    elif not mode and has_magic(entry):
        pattern = str(path.relative_to(path.anchor))
        matches = sorted(
            filter(Path.is_file, Path(path.anchor).glob(pattern)), key=lambda match: natural_key(str(match))
        )
        if not matches:
            yield Refused(path, f"{entry} matches no file: check the pattern.")
        yield from matches
    else:
        yield path


def _listed(path: Path, recursive: bool) -> Iterator[Path | Refused]:
    """What the lines of a list mean; a text in which no line means anything is one refusal, not as many as it has."""
    try:
        lines = _lines(path)
    except (OSError, ValueError):
        yield Refused(path, f"{path} is not a readable list of videos (UTF-8, one a line): save it again.")
        return
    means = [one for line in lines for one in _files_of(line, recursive, path.parent, depth=1)]
    if len(means) == 1 or any(_mode(_path(one)) for one in means):
        yield from means
    else:
        yield Refused(path, f"{path} lists no file that is there: name one video a line, from the list's own folder.")


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
    """The lines of a list that are neither empty nor a comment; a name may begin with `#` if there is such a file.

    Raises:
        OSError, ValueError: it cannot be read, or is no text.
    """
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    if "\0" in "".join(lines):
        raise ValueError("binary")
    names = [line.strip() for line in lines]
    return [name for name in names if name and (not name.startswith("#") or (path.parent / name).exists())]
