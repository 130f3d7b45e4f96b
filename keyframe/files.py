"""Files and folders that appear whole or not at all, hashes of content and settings, and text that does no harm."""

import csv
import errno
import hashlib
import io
import itertools
import json
import math
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from keyframe.system import lock_file
from keyframe.types import KeyframeError, VideoError

# The drafts of the file and of the folder NAME, beside it, as `tempfile` names them: what a killed process may leave.
FILE_DRAFT = re.compile(r"\.(.+)-[a-z0-9_]{8}", re.DOTALL)
_FOLDER_DRAFT = re.compile(r"\.(.+)\.draft-[a-z0-9_]{8}", re.DOTALL)
# What is in the draft of a folder.
_NEW, _OLD, _LOCK = "new", "old", "lock"

# What acts on a terminal or turns the reading direction: control characters (terminal escapes among them), marks of
# direction, and halves of surrogate pairs (bytes of a file name that are not UTF-8). A line feed is layout.
_UNPRINTABLE = "\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_LINE_BREAKS = "\t\n\v\f\r\x1c-\x1f\x85\u2028\u2029"
# A cell that a spreadsheet computes, the wide forms of these signs in some languages, unless it is a number.
_FORMULA = re.compile("'*[=+\\-@\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)

# A whole gigabyte takes seconds to hash, these pieces milliseconds; a changed file differs in its size or in a piece.
_PIECES, _PIECE_BYTES = 16, 1 << 16
# Of a text that is read at once: the longest are splits, of 100,000 videos.
_MAX_BYTES = 1 << 23


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, if missing; an OSError says what else is in the place of one."""
    for place in (folder, *folder.parents):
        if os.path.lexists(place):
            if not place.is_dir():
                what = f"{place} is a link to {os.path.realpath(place)}, which" if place.is_symlink() else str(place)
                raise NotADirectoryError(errno.ENOTDIR, f"{what} is not a folder")
            break
    folder.mkdir(parents=True, exist_ok=True)


def new_folder(folder: Path) -> Path:
    """Make a folder that was not there: `folder`, or `folder-2` and so on; no two processes get the same one."""
    make_folder(folder.parent)
    for place in itertools.chain([folder], (folder.with_name(f"{folder.name}-{n}") for n in itertools.count(2))):
        with suppress(FileExistsError):
            place.mkdir()
            break
    return place


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A draft beside `path` to write; the end of the block renames it to `path`, an error removes it.

    An OSError that names no file, or the draft, names `path`.
    """
    with errors_name(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        os.close(handle)
        draft = Path(name)
        try:
            yield draft
            draft.chmod(0o644)
            draft.replace(path)
        except BaseException:
            with suppress(OSError):  # the folder may be read-only by now
                draft.unlink(missing_ok=True)
            raise


@contextmanager
def errors_name(path: Path) -> Iterator[None]:
    """Let an OSError name the file that is written if it names none, as those of a full disk, or only its draft.

    torch raises an error of its own after it.
    """
    try:
        yield
    except Exception as error:
        fault = error if isinstance(error, OSError) else error.__context__
        if isinstance(fault, OSError):
            named = fault.filename
            if not isinstance(named, str | Path) or Path(named).name.startswith(f".{path.name}"):
                fault.filename = str(path)
        raise


@contextmanager
def atomic_folder(folder: Path, merge: Callable[[Path, Path], None] | None = None) -> Iterator[Path]:
    """An empty folder to fill; the end of the block renames it to `folder`, an error removes it.

    If `folder` is there, it stays, or `merge` is called with it and the new one, to move what is to be kept before the
    old is removed. If it is a link, the link stays, and all this happens where it leads. A process that is killed
    leaves a draft beside the folder, which `remove_abandoned_drafts` removes.
    """
    if folder.is_symlink():
        link, folder = folder, Path(os.path.realpath(folder))
        if merge is not None:  # It may be away because a killed process had moved it aside.
            remove_abandoned_drafts(folder.parent, merge, folder.name)
        if not folder.is_dir():
            raise KeyframeError(f"{link} is a link to {folder}, which is not a folder: make it, or remove the link.")
    make_folder(folder.parent)
    with (
        # Two processes may clean up at once, hence errors in it.
        tempfile.TemporaryDirectory(
            prefix=f".{folder.name}.draft-", dir=folder.parent, ignore_cleanup_errors=True
        ) as drafts,
        # The lock's file is not there before it is locked.
        (Path(drafts) / "unlocked").open("wb") as lock,
    ):
        draft, old = Path(drafts) / _NEW, Path(drafts) / _OLD
        with suppress(OSError):
            lock_file(lock)
        (Path(drafts) / "unlocked").rename(Path(drafts) / _LOCK)
        draft.mkdir()
        yield draft
        if not folder.exists():
            draft.rename(folder)
        elif merge is not None:
            folder.rename(old)
            draft.rename(folder)
            merge(old, folder)


def remove_abandoned_drafts(parent: Path, merge: Callable[[Path, Path], None], name: str | None = None) -> set[Path]:
    """Remove the folder drafts in `parent` whose process has ended; a folder that it had moved aside is put back.

    Only what `atomic_folder` makes is one: its name, and nothing in it but a lock and two folders, none of them a link.
    A process locks its draft until it ends. On a system without locks (Windows, some network file systems) drafts are
    left. With `name` it removes the drafts of that folder alone. Returns the folders whose drafts are still being
    written.
    """
    written: set[Path] = set()
    for drafts in parent.iterdir() if parent.is_dir() else ():
        match = _FOLDER_DRAFT.fullmatch(drafts.name)
        if match is None or match[1] in (".", "..") or name not in (None, match[1]) or not _is_draft(drafts):
            continue
        folder, old = parent / match[1], drafts / _OLD
        try:
            lock = (drafts / _LOCK).open("r+b")
        except OSError:  # One that is just beginning or ending.
            continue
        with lock:
            free = False
            with suppress(OSError):
                free = lock_file(lock)
            if not free:
                written.add(folder)
                continue
            if old.exists() and folder.is_dir() and not folder.is_symlink():
                merge(old, folder)
            elif old.exists() and not os.path.lexists(folder):
                old.rename(folder)
            elif old.exists():  # A file or a link has taken its place: nothing is lost.
                continue
        shutil.rmtree(drafts, ignore_errors=True)
    return written


def _is_draft(drafts: Path) -> bool:
    """Whether a folder holds what `atomic_folder` puts into a draft once it is locked, and no links."""
    kinds = {_LOCK: stat.S_ISREG, _NEW: stat.S_ISDIR, _OLD: stat.S_ISDIR}
    try:
        entries = {entry.name: entry.lstat().st_mode for entry in drafts.iterdir()}
    except OSError:  # No folder, or one that is just ending.
        return False
    ours = not drafts.is_symlink() and _LOCK in entries and entries.keys() <= kinds.keys()
    return ours and all(kinds[name](mode) for name, mode in entries.items())


def write_bytes(path: Path, content: bytes) -> None:
    """Write an atomic file."""
    with atomic_file(path) as draft:
        draft.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write an atomic file in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_metrics(path: Path, metrics: Mapping[str, float | str]) -> None:
    """Write one flat JSON object of numbers or words; what is not finite is null."""
    defined = {key: value if isinstance(value, str) or math.isfinite(value) else None for key, value in metrics.items()}
    write_text(path, json.dumps(defined, indent=2, sort_keys=True) + "\n")


def read_small(path: Path, most: int = _MAX_BYTES) -> str:
    """The text of a file of at most so many bytes in UTF-8; OSError or ValueError if it is no such file."""
    if not path.is_file():  # reading a pipe or a device may never end
        raise ValueError("it is not a file")
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it is larger than {most >> 20} MiB")
    return content.decode("utf-8-sig")


@contextmanager
def reading(path: Path, form: str, remedy: str = "make or copy it again") -> Iterator[None]:
    """Raise a KeyframeError for what goes wrong in the block: on damaged files libraries raise almost anything."""
    try:
        yield
    except (KeyframeError, AssertionError, AttributeError, NameError):  # our own
        raise
    except Exception as error:
        reason = one_line(str(error)) or type(error).__name__
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else reason
        raise KeyframeError(f"{path} cannot be read as {form} ({reason}): {remedy}.") from error


def read_json(path: Path, most: int = _MAX_BYTES) -> Any:
    """What a JSON file of bounded size and depth holds; it may come from anywhere, so check its values."""
    with reading(path, "JSON"):
        return json.loads(read_small(path, most), object_pairs_hook=_each_once)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"it has {name[:80]!r} twice")
        found[name] = value
    return found


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write `table_text` as an atomic file."""
    write_text(path, table_text(rows))


def table_text(rows: Sequence[Mapping[str, object]]) -> str:
    """One CSV row per mapping, at least one; the columns are the keys of the first.

    Text that came from files does no harm in it: `cell_text` says how, and `read_table` gives it back.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for cells in (rows[0].keys(), *(map(row.__getitem__, rows[0]) for row in rows)):
        writer.writerow([cell_text(cell) if isinstance(cell, str) else cell for cell in cells])
    return text.getvalue()


def read_table(path: Path, most: int = _MAX_BYTES) -> list[dict[str, str]]:
    """The rows of `write_table`, every cell as text; the file is bounded as by `read_small`."""
    rows = csv.reader(io.StringIO(read_small(path, most), newline=""))
    header = next(rows, None)
    if header is None:
        raise ValueError("it is empty")
    table = []
    for row in filter(None, rows):
        if len(row) != len(header):
            raise ValueError(f"line {rows.line_num} has {len(row)} columns, the first line {len(header)}")
        table.append(dict(zip(map(_of_cell, header), map(_of_cell, row), strict=True)))
    return table


def cell_text(text: str) -> str:
    """A text as a cell of a table: one printable line, and no formula of a spreadsheet.

    An unprintable character becomes a backslash, u and four hexadecimal digits, as in JSON; backslashes before it, or
    before what looks like it, are doubled. An apostrophe stands before a formula.
    """

    def escaped(found: re.Match[str]) -> str:
        return 2 * found[1] + (f"\\u{ord(found[2]):04x}" if len(found[2]) == 1 else found[2])

    text = re.sub(rf"(\\*)([\n{_UNPRINTABLE}]|u[0-9a-f]{{4}})", escaped, text)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def _of_cell(cell: str) -> str:
    """The text that `cell_text` wrote as this cell."""

    def plain(found: re.Match[str]) -> str:
        half, odd = divmod(len(found[1]), 2)
        return "\\" * half + (chr(int(found[2], 16)) if odd else f"u{found[2]}")

    if cell.startswith("'") and _FORMULA.match(cell):
        cell = cell[1:]
    return re.sub(r"(\\+)u([0-9a-f]{4})", plain, cell)


def flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Pairs of dotted key and value of nested mappings, such as a configuration."""
    if isinstance(value, Mapping):
        for name, child in value.items():
            yield from flat(child, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def natural_key(name: str) -> list[tuple[int, str]]:
    """A key to sort names by: clip 2 comes before clip 10, numbers before words."""
    return [(int(part), "") if part.isdecimal() else (-1, part.casefold()) for part in re.split(r"(\d+)", name)]


def one_line(text: str) -> str:
    """The text as one printable line: white space with a line break or a tab in it becomes one space."""
    return printable(re.sub(f" *[{_LINE_BREAKS}][ {_LINE_BREAKS}]*", " ", text).strip())


def printable(text: str) -> str:
    """The text with U+FFFD, the replacement character, for what is unsafe to print; its line feeds stay."""
    return re.sub(f"[{_UNPRINTABLE}]", "\ufffd", text)


def format_clock(seconds: float, decimals: int = 0) -> str:
    """A time in a video, such as 3:05, 1:03:05 from an hour on, or 3:05.2 with one decimal."""
    unit = 10**decimals
    minutes, rest = divmod(round(seconds * unit), 60 * unit)
    hours, minutes = divmod(minutes, 60)
    clock = f"{rest / unit:0{2 + decimals + (decimals > 0)}.{decimals}f}"
    return f"{hours}:{minutes:02}:{clock}" if hours else f"{minutes}:{clock}"


class FileState(NamedTuple):
    """What differs once a file is written to, or another one comes in its place."""

    size: int  # bytes
    changed: int  # time of the last change, in nanoseconds
    inode: int


@contextmanager
def unchanged(
    path: Path, since: FileState | None = None, error: type[KeyframeError] = KeyframeError
) -> Iterator[FileState | None]:
    """Raise an error at the end of the block if a file has changed since its beginning, or since an earlier state.

    Whatever has failed in the block because of the change, this error takes its place. Yields the state at the
    beginning, None if there is no such file.
    """

    def state() -> FileState | None:
        try:
            found = path.stat()
        except (OSError, ValueError):
            return None
        return FileState(found.st_size, found.st_mtime_ns, found.st_ino)

    before = since or state()
    sentence = f"{path} has changed while it was read: wait until it is complete, then start again."
    if state() != before:
        raise error(sentence)
    try:
        yield before
    except Exception as cause:
        if state() != before:
            raise error(sentence) from cause
        raise
    if state() != before:
        raise error(sentence)


def content_hash(path: Path) -> str:
    """SHA-256 of a video file's size and of 16 pieces of 64 KiB spread evenly over it; may raise `VideoError`."""
    digest = hashlib.sha256()
    try:
        # Opening a pipe would wait for its writer.
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise VideoError(f"{path} is a pipe or a device, not a file: save its content as a video file.")
        with path.open("rb") as file:
            size = path.stat().st_size
            digest.update(str(size).encode())
            for piece in range(_PIECES):
                # The pieces of a small file overlap and leave nothing out.
                file.seek(max(0, size - _PIECE_BYTES) * piece // (_PIECES - 1))
                digest.update(file.read(_PIECE_BYTES))
    except FileNotFoundError as error:
        raise VideoError(f"{path} does not exist: check the path.") from error
    except IsADirectoryError as error:
        raise VideoError(f"{path} is a folder: name a video file in it.") from error
    except PermissionError as error:
        raise VideoError(f"{path} cannot be read: give yourself read permission.") from error
    except (OSError, ValueError) as error:
        raise VideoError(f"{path} cannot be read ({error}): check the path and the disk.") from error
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a whole file; KeyframeError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise KeyframeError(f"{path} cannot be read ({error.strerror or error}): check its permissions.") from error


# Raised if the same settings choose other frames than before.
_RULES = 3


def fingerprint(scorer: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """SHA-256 of what decides the result of an extraction, beside the video and the versions of libraries."""
    return hashlib.sha256(json.dumps([_RULES, scorer, settings], sort_keys=True).encode()).hexdigest()


def described(part: Any, without: Collection[str] = ()) -> Any:
    """A part of a configuration as the name of its class and its public attributes; plain values as they are.

    `without` names attributes that change no result, such as the number of threads.
    """
    if not hasattr(part, "__dict__"):
        return part
    names = [name for name in vars(part) if name not in without and not name.startswith("_")]
    return {"kind": type(part).__qualname__, **{name: described(getattr(part, name)) for name in names}}
