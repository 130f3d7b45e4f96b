"""The folder of one video's results: its name, what shows that it is ours, and how it appears whole or not at all."""

import json
import re
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from keyframe.errors import KeyframeError
from keyframe.locks import take

MADE_BY = "keyframe-extract"
SUMMARY = "summary.json"

# File systems take 255 bytes, and drafts and a clash need some of them.
_MOST_BYTES = 160
_FORBIDDEN = set('<>:"/\\|?*')
# A draft of the folder NAME, beside it, as `tempfile` completes the prefix; within it, what `whole` puts there.
_DRAFT = re.compile(r"\.(.+)\.draft-\w{8}", re.DOTALL)
_NEW, _OLD, _LOCK = "new", "old", "lock"
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

    A folder of ours that is there already is replaced; files in it that are not ours are kept. A process that is killed
    leaves a draft beside `directory`, which `remove_abandoned` knows from that of one that lives.

    Raises:
        KeyframeError: `directory` holds something, and nothing of ours.
    """
    _require_ours(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    # Errors: two may clean up at once.
    with (
        TemporaryDirectory(
            prefix=f".{directory.name}.draft-", dir=directory.parent, ignore_cleanup_errors=True
        ) as drafts,
        _held(Path(drafts)),
    ):
        draft, old = Path(drafts) / _NEW, Path(drafts) / _OLD
        draft.mkdir()
        yield draft
        _require_ours(directory)
        if not directory.exists():
            draft.rename(directory)
            return
        directory.rename(old)
        draft.rename(directory)
        _keep_others(old, directory)


def remove_abandoned(output: Path) -> set[Path]:
    """Remove the drafts in a folder of folders whose writer is gone; a folder that it had moved aside is put back.

    A writer holds a lock on its draft, which its end releases, however it ends and on whatever machine. Where there are
    no locks (Windows, some network file systems) drafts are left.

    Returns:
        The folders that drafts are still being written of.
    """
    written: set[Path] = set()
    for drafts in output.iterdir() if output.is_dir() else ():
        match = _DRAFT.fullmatch(drafts.name)
        if match is None:
            continue
        directory, old = output / match[1], drafts / _OLD
        try:
            lock = (drafts / _LOCK).open("r+b")
        except OSError:  # One that is just beginning or ending.
            continue
        with lock:
            if not _taken(lock):
                written.add(directory)
                continue
            if old.exists() and directory.exists():
                _keep_others(old, directory)
            elif old.exists():
                old.rename(directory)
        shutil.rmtree(drafts, ignore_errors=True)
    return written


@contextmanager
def _held(drafts: Path) -> Iterator[None]:
    """Hold the lock of a draft; its file is not there before it is locked."""
    unlocked = drafts / "unlocked"
    with unlocked.open("wb") as lock:
        _taken(lock)
        unlocked.rename(drafts / _LOCK)
        yield


def _taken(lock: IO[bytes]) -> bool:
    """Whether a draft's lock could be taken."""
    try:
        return take(lock)
    except OSError:
        return False


def _keep_others(old: Path, directory: Path) -> None:
    """Move what is not ours from the folder that was into the one that has replaced it."""
    ours = (read_summary(old) or {"files": []})["files"]
    for entry in old.iterdir():
        if entry.name not in ours:
            place = directory / entry.name
            entry.rename(place if not place.exists() else place.with_stem(f"{place.stem} (kept)"))


def _require_ours(directory: Path) -> None:
    if not directory.exists():
        return
    if not directory.is_dir() or (read_summary(directory) is None and any(directory.iterdir())):
        raise KeyframeError(f"{directory} was not made by {MADE_BY}: move it away or choose another output.")
