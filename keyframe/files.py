"""Files that appear whole or not at all.

Nested values, as configurations are, laid flat.

What a run leaves behind: metrics as one flat JSON object, tables as CSV.

A video file known by what is in it, wherever it lies and whatever it is called.

What makes two extractions the same: the video's content, and the settings.
"""

import csv
import dataclasses
import hashlib
import io
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keyframe.types import VideoError


@contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """A file beside its place, to be written; the end of the block renames it, an error removes it."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        draft.chmod(0o644)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file."""
    with draft_of(path) as draft:
        draft.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file as `write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as pairs of dotted key and value."""
    if isinstance(value, Mapping):
        for name, child in value.items():
            yield from flat(child, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def write_metrics(path: Path, metrics: Mapping[str, float | str]) -> None:
    """Write one flat JSON object of numbers, or words; what is not a number (NaN, infinity) is null."""
    defined = {
        name: value if isinstance(value, str) or math.isfinite(value) else None
        for name, value in sorted(metrics.items())
    }
    write_text(path, json.dumps(defined, indent=2) + "\n")


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write one CSV row a mapping, columns in the order of the first one's keys; there must be a first one."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


# A whole file of a gigabyte takes seconds to hash, these pieces milliseconds. A file that was edited, cut, converted or
# downloaded only in part differs in its size or in some of them.
_PIECES, _PIECE_BYTES = 16, 1 << 16


def content_id(path: Path) -> str:
    """SHA-256 of a file's size and of 16 pieces of 64 KiB spread evenly over it (of all of it, where it is smaller).

    Raises:
        VideoError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        # A pipe would keep whoever opens it waiting.
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise VideoError(f"{path} is a pipe or a device, not a file: save what it gives as a video file.")
        with path.open("rb") as file:
            size = path.stat().st_size
            digest.update(str(size).encode())
            for piece in range(_PIECES):
                # Overlapping where the file is small, so that nothing of it is left out.
                file.seek(max(0, size - _PIECE_BYTES) * piece // (_PIECES - 1))
                digest.update(file.read(_PIECE_BYTES))
    except FileNotFoundError as error:
        raise VideoError(f"{path} does not exist: check the path.") from error
    except IsADirectoryError as error:
        raise VideoError(f"{path} is a folder: name a video file in it.") from error
    except PermissionError as error:
        raise VideoError(f"{path} may not be read: give yourself read permission on it.") from error
    except (OSError, ValueError) as error:
        raise VideoError(f"{path} cannot be read ({error}): check the path and the disk.") from error
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def described(part: Any) -> dict[str, Any]:
    """A part of the extraction, a selection say, as its class's name and its attributes."""
    return {"kind": type(part).__name__, **dataclasses.asdict(part)}


def fingerprint(scorer: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """SHA-256 of all that decides, beside the video and the versions of libraries, what an extraction gives."""
    return hashlib.sha256(json.dumps([scorer, settings], sort_keys=True).encode()).hexdigest()


def format_clock(seconds: float, decimals: int = 0) -> str:
    """A time in a video, such as 3:05, 1:03:05 from an hour on, or 3:05.2 with one decimal."""
    unit = 10**decimals
    minutes, rest = divmod(round(seconds * unit), 60 * unit)
    hours, minutes = divmod(minutes, 60)
    clock = f"{rest / unit:0{2 + decimals + (decimals > 0)}.{decimals}f}"
    return f"{hours}:{minutes:02}:{clock}" if hours else f"{minutes}:{clock}"
