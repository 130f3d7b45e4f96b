"""The cache of what was computed of videos: found by key, on disk and bounded, or in memory."""

import logging
import os
import re
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from keyframe.files import FILE_DRAFT, make_folder, write_bytes
from keyframe.system import available_bytes
from keyframe.types import KeyframeError, check_number

log = logging.getLogger(__name__)

# Part of every key: entries of an older format are not found, and age out.
FORMAT = "keyframe-encoded-1"
_NAME = re.compile(r"[0-9a-f]{64}\.safetensors")
_DRAFT_LIVES_S = 24 * 3600.0  # seconds until the draft of a killed process is removed
_LEFT_FREE = 2 << 30  # memory that is left to training and to other processes, in bytes


@dataclass(frozen=True, eq=False)
class CachedVideo:
    """T frames of one video, as pixels or as the output of a part of the model. Labels are not in it."""

    inputs: Tensor  # (T, ...); pixels are uint8 (T, 3, H, W)
    indices: Tensor  # number of each frame in presentation order, int64 (T,)
    seconds: Tensor  # time of each frame since the first frame of the video, float64 (T,)
    n_frames: int  # of the video
    duration: float  # of the video in seconds

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return self.inputs.nbytes + self.indices.nbytes + self.seconds.nbytes


def to_bytes(key: str, entry: CachedVideo) -> bytes:
    """The content of a file of safetensors (numbers only, no code) that knows its key and its checksum."""
    tensors = {
        "inputs": entry.inputs.contiguous(),
        "indices": entry.indices,
        "seconds": entry.seconds,
        "n_frames": torch.tensor(entry.n_frames),
        "duration": torch.tensor(entry.duration, dtype=torch.float64),
    }
    return safetensors.torch.save(tensors, {"format": FORMAT, "key": key, "crc32": _checksum(tensors)})


def read_entry(path: Path, key: str) -> CachedVideo | None:
    """The entry in a file of `to_bytes`, mapped into memory; None if the file is missing, damaged or of another key."""
    try:
        with safe_open(path, framework="pt") as file:
            stated = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no dict
    except (OSError, SafetensorError, RuntimeError):
        return None
    if stated != {"format": FORMAT, "key": key, "crc32": _checksum(tensors)}:
        return None
    n_frames, duration = int(tensors.pop("n_frames")), float(tensors.pop("duration"))
    return CachedVideo(n_frames=n_frames, duration=duration, **tensors)


def _checksum(tensors: dict[str, Tensor]) -> str:
    """Of names, types, shapes and values."""
    total = 0
    for name, tensor in sorted(tensors.items()):
        total = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.flatten().view(torch.uint8).numpy().data, total)
    return f"{total:08x}"


class CacheFullError(KeyframeError):
    """Neither disk nor memory has room for one more entry of `nbytes`."""

    def __init__(self, reason: str, nbytes: int) -> None:
        super().__init__(f"{reason}, and memory has no room for the rest")
        self.nbytes = nbytes


class _File(NamedTuple):
    used: float
    size: int
    path: Path


class VideoCache:
    """Keeps `CachedVideo` entries by key; a key holds all that decides an entry.

    On disk an entry is an atomic file that is checked when opened. Any number of processes may share the directory;
    entries that this process has opened stay readable after another process removes their files. If the disk cannot be
    written, or `max_gb` is less than this process alone needs, further entries are kept in memory while there is room.

    Args:
        dir: the directory, made when first needed; None keeps everything in memory, for this process alone.
        max_gb: most gigabytes of the entries in `dir`; the least recently used are removed first.
        dtype: of feature maps, `float32` or `float16` (half the size, rounded to 3 digits; losses of stage 2 moved by
            1e-4 to 7e-3 in small runs of random backbones). Features are float32 either way.
        views: how many augmented views of a training video are kept; epoch e trains on view e mod `views`.
    """

    def __init__(self, dir: str | None = None, max_gb: float = 20.0, dtype: str = "float32", views: int = 5) -> None:
        if dtype not in ("float32", "float16"):
            raise ValueError(f"dtype must be float32 or float16, not {dtype}")
        check_number("cache.max_gb", max_gb, 0, whole=False, above=True)
        check_number("cache.views", views, 1)
        self.directory = Path(dir).expanduser() if dir is not None else None
        self.max_bytes = int(max_gb * 1e9)
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.views = views
        self.processes = 1  # of this machine that will each hold a copy of what is in memory
        self.in_memory: dict[str, CachedVideo] = {}
        self._mapped: dict[str, CachedVideo] = {}
        self._unwritable = ""  # why nothing is written any more
        self._room = 0  # bytes that may be written before the directory is measured again
        self._lock = threading.Lock()

    def get(self, key: str) -> CachedVideo | None:
        """The entry of a key (64 hexadecimal digits), or None."""
        found = self.in_memory.get(key) or self._mapped.get(key)
        if found is not None or self.directory is None:
            return found
        path = self._path(key)
        found = read_entry(path, key)
        if found is not None:
            with suppress(OSError):  # the directory may be read-only
                os.utime(path)
            self._mapped[key] = found
        return found

    def put(self, key: str, entry: CachedVideo) -> CachedVideo:
        """Keep an entry, in place of an older one, and return it as it is kept; may raise `CacheFullError`."""
        if self.directory is not None and not self._unwritable and self._write(key, entry):
            # mapped from the file, so that its memory is freed
            self._mapped[key] = read_entry(self._path(key), key) or entry
            return self._mapped[key]
        room = available_bytes()
        copies = (self.processes - 1) * self._held()  # of the other processes, still to come
        if room is not None and self.processes * entry.nbytes + copies > room - _LEFT_FREE:
            raise CacheFullError(self._unwritable or "cache=memory", entry.nbytes)
        self.in_memory[key] = entry
        return entry

    def describe(self) -> str:
        """Places and sizes of the entries, in words."""
        held = self._held()
        places: list[str] = []
        if self.directory is not None:
            used = sum(file.size for file in self._files())
            places.append(f"{_readable_size(used)} of {_readable_size(self.max_bytes)} in {self.directory}")
        if held or not places:
            places.append(f"{_readable_size(held)} in memory")
        return ", ".join(places)

    @property
    def nbytes(self) -> int:
        """Size of the entries that this process has found or made."""
        return sum(entry.nbytes for entry in {**self._mapped, **self.in_memory}.values())

    def _held(self) -> int:
        return sum(entry.nbytes for entry in self.in_memory.values())

    def _path(self, key: str) -> Path:
        assert self.directory is not None
        return self.directory / key[:2] / f"{key}.safetensors"

    def _write(self, key: str, entry: CachedVideo) -> bool:
        """Write an entry's file; False, after a warning, if that fails."""
        content, path = to_bytes(key, entry), self._path(key)
        with self._lock:
            try:
                make_folder(path.parent)
                if self._make_room(len(content)):
                    write_bytes(path, content)
                    return True
                self._unwritable = f"cache.max_gb={self.max_bytes / 1e9:g} is less than this run needs"
            except OSError as error:
                self._unwritable = f"{self.directory} cannot be written ({error.strerror or error})"
        log.warning("Cache: %s. Further entries are kept in memory.", self._unwritable)
        return False

    def _make_room(self, size: int) -> bool:
        """Remove the least recently used entries until `size` more bytes fit; False if they cannot."""
        if size > self._room:
            mine = {self._path(key) for key in list(self._mapped)}  # threads add to it
            files = sorted(self._files())
            others = [file for file in files if file.path not in mine]
            used = sum(file.size for file in files)
            if used - sum(file.size for file in others) + size > self.max_bytes:
                return False
            for file in others:
                if used + size <= self.max_bytes:
                    break
                file.path.unlink(missing_ok=True)
                used -= file.size
            # only a part of what is free, because other processes write as well
            self._room = min(self.max_bytes - used, max(size, self.max_bytes // 20))
        self._room -= size
        return True

    def _files(self) -> Iterator[_File]:
        """The entries' files; old drafts are removed, any other file in the directory is left alone."""
        assert self.directory is not None
        for path in self.directory.glob("[0-9a-f][0-9a-f]/*.safetensors*"):
            with suppress(FileNotFoundError):
                state = path.stat()
                if _NAME.fullmatch(path.name):
                    yield _File(state.st_mtime, state.st_size, path)
                    continue
                draft = FILE_DRAFT.fullmatch(path.name)
                if draft and _NAME.fullmatch(draft[1]) and time.time() - state.st_mtime > _DRAFT_LIVES_S:
                    path.unlink()


def _readable_size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.3g} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.3g} MB"
