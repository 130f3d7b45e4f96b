"""The folder of one video's results: its name, what shows that it is ours, and how it appears whole or not at all."""

import json
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from keyframe.errors import KeyframeError

MADE_BY = "keyframe-extract"
SUMMARY = "summary.json"

# File systems take 255 bytes, and drafts and a clash need some of them.
_MOST_BYTES = 160
_FORBIDDEN = set('<>:"/\\|?*')
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}


def folder_name(path: Path) -> str:
    """A name for the results of a video that every file system takes and that leads nowhere else."""
    stem = unicodedata.normalize("NFC", path.stem)
    # Categories C*: control and format characters, and halves of surrogate pairs.
    safe = "".join("_" if c in _FORBIDDEN or unicodedata.category(c)[0] == "C" else c for c in stem)
    safe = safe.encode()[:_MOST_BYTES].decode(errors="ignore").strip(" .")
    if safe.startswith("-") or safe.split(".")[0].lower() in _RESERVED:
        safe = f"_{safe}"
    return safe or "video"


def read_summary(directory: Path) -> dict[str, Any] | None:
    """The summary in a folder of ours; None where there is none, or of another make."""
    try:
        summary = json.loads((directory / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(summary, dict) and summary.get("made_by") == MADE_BY
    return summary if ours and {"files", "fingerprint", "keyframes", "video"} <= summary.keys() else None


def is_complete(directory: Path, summary: dict[str, Any]) -> bool:
    """Whether all files that a summary names are in its folder."""
    return all((directory / name).is_file() for name in summary["files"])


@contextmanager
def whole(directory: Path) -> Iterator[Path]:
    """An empty folder to write into, which becomes `directory` when the block ends without an error.

    A folder of ours that is there already is replaced; files in it that are not ours are kept.

    Raises:
        KeyframeError: `directory` holds something, and nothing of ours.
    """
    _require_ours(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=draft_prefix(directory), dir=directory.parent) as drafts:
        draft, old = Path(drafts) / "new", Path(drafts) / "old"
        draft.mkdir()
        yield draft
        _require_ours(directory)
        if not directory.exists():
            draft.rename(directory)
            return
        summary = read_summary(directory) or {"files": []}
        directory.rename(old)
        draft.rename(directory)
        for entry in old.iterdir():
            if entry.name not in summary["files"]:
                place = directory / entry.name
                entry.rename(place if not place.exists() else place.with_stem(f"{place.stem} (kept)"))


def draft_prefix(directory: Path) -> str:
    """How the names of drafts of a folder begin, beside it."""
    return f".{directory.name}.draft-"


def _require_ours(directory: Path) -> None:
    if not directory.exists():
        return
    if not directory.is_dir() or (read_summary(directory) is None and any(directory.iterdir())):
        raise KeyframeError(f"{directory} was not made by {MADE_BY}: move it away or choose another output.")
