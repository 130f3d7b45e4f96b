"""What the system gives this process: cores, memory, locks, child processes, packages; and its faults in a sentence."""

import errno
import importlib.metadata
import logging
import math
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, process_time
from typing import IO, TypeVar

from keyframe.types import KeyframeError

# The limits of a container or of a cluster's job on Linux: the kernel's documentation, admin-guide/cgroup-v1 and -v2.
_OWN_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_STAT = Path("/proc/stat")
_SHARED_MEMORY = Path("/dev/shm")

# The file in a folder that `lock_folder` locks.
LOCK = ".lock"
DISTRIBUTION = "keyframe-lightning"  # `keyframe` is another project's name on the public index

_OTHER = "choose another directory"
# What to do about the errors of the system that no program can mend.
_REMEDIES = {
    errno.ENOSPC: f"make room, or {_OTHER}",
    errno.EDQUOT: f"make room, or {_OTHER}",
    errno.EFBIG: f"raise the limit on the size of files (ulimit -f), or {_OTHER}",
    errno.EROFS: _OTHER,
    errno.ENOTDIR: _OTHER,
    errno.EACCES: f"give yourself permission, or {_OTHER}",
    errno.EPERM: f"give yourself permission, or {_OTHER}",
    errno.EIO: "check the disk",
    errno.ESTALE: "check the network drive",
    errno.ENOTCONN: "check the network drive",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "raise the limit on open files (ulimit -n)",
}
# These come of writing only: they are the cause also if a library has raised another error after them.
_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# torch's and C++'s own words if a file cannot be written; they do not say why.
_TORCH_WRITER = ("unexpected pos", "PytorchStreamWriter failed", "iostream error")
_NO_MEMORY = ("can't allocate memory", "out of memory", "not enough memory", "ALLOC_FAILED")
_KILLED = ("exited unexpectedly", "is killed by signal", "terminated abruptly")
_RANK_LOST = ("onnection closed", "onnection reset", "imed out")

Item = TypeVar("Item")


def cores() -> int:
    """Number of processor cores that this process may use, at least 1; a container or a job has a part of a machine."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = []
    for folder in _group_folders("cpu"):
        quota, period = _number_in(folder / "cpu.cfs_quota_us"), _number_in(folder / "cpu.cfs_period_us")
        if (both := _text_of(folder / "cpu.max").split()) and both[0] != "max":
            quota, period = int(both[0]), int(both[1])
        if quota is not None and period and quota > 0:  # -1 is no limit
            shares.append(quota / period)
    return min(count, math.ceil(min(shares))) if shares else count


def threads() -> int:
    """Threads that a calculation of this process takes: those of OMP_NUM_THREADS if it is set, else one per core."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(asked) if asked.isdigit() and int(asked) else cores()


class Load:
    """The processors' work since this was made, by this process and by others (Linux; elsewhere nothing is known)."""

    def __init__(self) -> None:
        self._start = self._now()

    def free_cores(self) -> int:
        """Number of the `cores` that other processes have left idle, at least 1."""
        time_, own, worked = (now - then for now, then in zip(self._now(), self._start, strict=True))
        others = max(0.0, worked - own) / time_ if time_ > 0 else 0.0
        return max(1, min(cores(), round((os.cpu_count() or 1) - others)))

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Seconds: on the clock, of this process's work, and of all processors' work (proc(5), /proc/stat)."""
        fields = _text_of(_STAT).partition("\n")[0].split()[1:9]
        user, nice, system, _, _, *rest = map(int, fields) if len(fields) == 8 else [0] * 8
        ticks = os.sysconf("SC_CLK_TCK") if fields else 1
        return perf_counter(), process_time(), (user + nice + system + sum(rest)) / ticks


def available_bytes() -> int | None:
    """Bytes of memory that are free without swapping, within the tightest limit; None if the system does not report."""
    free = [
        max(0, limit - used + _reclaimable(folder / "memory.stat"))
        for folder in _group_folders("memory")
        for most, now in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
        if (limit := _number_in(folder / most)) is not None and (used := _number_in(folder / now)) is not None
    ]
    lines = _text_of(_MEMINFO).splitlines()
    free += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return min(free, default=None)


def shared_memory_bytes() -> int | None:
    """Free bytes of the memory that processes share (/dev/shm; a container has 64 MB); None without a limit."""
    try:
        return shutil.disk_usage(_SHARED_MEMORY).free
    except OSError:  # another system than Linux
        return None


def reset_peak() -> bool:
    """Reset this process's peak memory to what is resident now; return True on success (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def resident_mb() -> tuple[float, float]:
    """Resident memory of this process in MB (10^6 bytes): now, and its peak; NaN on Windows."""
    if sys.platform == "linux":
        # not getrusage: its peak is inherited from the parent through fork and exec
        fields = dict(line.split(":", 1) for line in _text_of(Path("/proc/self/status")).splitlines())
        now, peak = (fields[name].split()[0] if name in fields else math.nan for name in ("VmRSS", "VmHWM"))
        return float(now) * 1024 / 1e6, float(peak) * 1024 / 1e6
    if sys.platform == "darwin":
        import resource

        answer = subprocess.run(["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, check=True)
        return float(answer.stdout) * 1024 / 1e6, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return math.nan, math.nan


def _group_folders(controller: str) -> Iterator[Path]:
    """The folders of this process's control group and of the groups around it, each of which may set a limit."""
    for line in _text_of(_OWN_GROUP).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = _GROUPS / controller if controllers else _GROUPS
        group = root / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(root))


def _reclaimable(table: Path) -> int:
    """Of the memory in use, bytes of files that the system gives up when it needs room."""
    rows = dict(line.split() for line in _text_of(table).splitlines())
    kind = "total_" if "total_inactive_file" in rows else ""  # version 1 counts inner groups apart
    return sum(int(rows.get(f"{kind}{files}_file", 0)) for files in ("active", "inactive"))


def _number_in(path: Path) -> int | None:
    """The number in a file; None if there is no such file, or `max` in it."""
    text = _text_of(path).strip()
    return int(text) if text.removeprefix("-").isdigit() else None


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def lock_file(file: IO[bytes]) -> bool:
    """Lock an open file until it is closed or the process ends; False if it is locked already.

    Raises OSError where there are no such locks (Windows, some network file systems).
    """
    try:
        import fcntl
    except ImportError as error:
        raise OSError("this system has no flock") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_folder(folder: Path, remedy: str = "stop it") -> IO[bytes]:
    """Reserve a folder for this process until the returned file is closed or the process ends.

    Child processes do not prolong that. On a system without locks no process is refused. `remedy` is for the message:
    what else to do than to wait.
    """
    file = (folder / LOCK).open("ab")
    try:
        free = lock_file(file)
    except OSError:
        return file
    if not free:
        file.close()
        owner = _text_of(folder / LOCK)[:200] or "another process"
        raise KeyframeError(f"{folder} is in use by {owner}: wait until that has ended, or {remedy}.")
    with suppress(OSError):  # a full disk; whoever is refused learns less
        os.ftruncate(file.fileno(), 0)
        os.write(
            file.fileno(), f"process {os.getpid()} on {socket.gethostname()} since {datetime.now():%F %T}".encode()
        )
    os.register_at_fork(after_in_child=file.close)
    return file


@contextmanager
def ctrl_c_blocked() -> Iterator[None]:
    """A child that starts in this block gets no Ctrl-C before `follow_parent`; a terminal sends it to all processes.

    This process gets Ctrl-C and SIGTERM after the block: a child whose parent stops while it starts prints a traceback.
    """
    late: list[int] = []
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        # a mask alone is not enough: another thread takes the signal, and the handler still runs in the main one
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(signal.getsignal(number)):
                handlers[number] = signal.signal(number, lambda got, _: late.append(got))
    masked = hasattr(signal, "pthread_sigmask")  # not on Windows
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if masked else set()
    try:
        yield
    finally:
        if masked:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if late:
            signal.raise_signal(late[0])


def follow_parent() -> None:
    """In a child process: leave Ctrl-C to the parent, and stop when the parent ends, also if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def in_child(task: Callable[[], Iterable[Item]], measured: str) -> Generator[Item]:
    """Yield what the task yields in a fresh process, whose memory is its own.

    The task runs only while an item is asked for. It and its items are picklable; its error is raised here, and a
    KeyframeError about what was `measured` if the process is killed, most likely because memory ran out.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_send_items, args=(task, there))
    with ctrl_c_blocked():
        process.start()
    there.close()  # the child's end alone keeps the pipe open
    try:
        while True:
            try:
                here.send(None)
                item = here.recv()
            except (EOFError, BrokenPipeError, ConnectionResetError):
                break
            if isinstance(item, KeyframeError):
                raise item
            yield item
    except BaseException:
        process.terminate()
        raise
    finally:
        here.close()
        process.join()
    if process.exitcode and process.exitcode < 0:
        raise KeyframeError(
            f"The process that measured {measured} was killed, most likely because memory ran out: "
            "measure less, or free some memory."
        )
    if process.exitcode:
        raise RuntimeError(f"the process that measured {measured} ended with status {process.exitcode}")


def _send_items(task: Callable[[], Iterable[Item]], there: Connection) -> None:
    follow_parent()
    there.recv()
    try:
        for item in task():
            there.send(item)
            there.recv()
    except KeyframeError as error:
        there.send(error)


@cache
def _version(distribution: str) -> str | None:
    """Read once per process, because a file is opened and parsed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def installed_versions(distributions: Iterable[str]) -> dict[str, str]:
    """Versions of those distributions that are installed."""
    return {name: version for name in distributions if (version := _version(name)) is not None}


def pip_install(extra: str) -> str:
    """The pip command for the packages of an extra of ours; the keyframe that is installed stays, be it a checkout."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


_logged: set[Hashable] = set()


def log_once(logger: logging.Logger, level: int, topic: Hashable, message: str, *arguments: object) -> None:
    """Log the first message of each topic, once per process."""
    if topic not in _logged:
        _logged.add(topic)
        logger.log(level, message, *arguments)


def fault_of(error: BaseException, place: Path | None = None, lower: str = "") -> str | None:
    """Describe an error that the machine has caused in one sentence; None if a bug may be the cause.

    `place`, the directory that the command writes, stands for a file that the error does not name; `lower` names the
    keys to set lower if memory has run out.
    """
    chain: list[BaseException] = [error]
    while handled := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(handled)
    for one in chain:
        if isinstance(one, OSError) and one.errno in (*_WRITING, errno.EIO):
            return disk_fault(one, place)
    if isinstance(error, OSError) and error.errno != errno.ENOMEM:
        return disk_fault(error, place)
    # Lightning, while it handles one of these, raises another
    return next((sentence for one in chain if (sentence := _other_fault(one, place, lower))), None)


def _other_fault(error: BaseException, place: Path | None, lower: str) -> str | None:
    text = str(error)
    no_memory = isinstance(error, OSError) and error.errno == errno.ENOMEM
    if no_memory or isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _has(text, _NO_MEMORY)):
        memory = "the GPU's memory" if "CUDA" in text or "MPS" in text else "memory"
        tried = re.search(r"allocate ([\d.]+ \w+)", text)
        return (
            f"{memory} ran out{f' (allocating {tried[1]})' if tried else ''}: "
            f"{f'lower {lower}, or ' if lower else ''}free some memory."
        )
    if not isinstance(error, RuntimeError):
        return None
    if _has(text, _TORCH_WRITER):
        return f"{place or 'a file'} cannot be written, most likely because the disk is full: make room, or {_OTHER}."
    if _has(text, _KILLED):
        return (
            "a process that prepares data was killed, most likely because memory ran out: lower data.workers, or free "
            "some memory."
        )
    if "/dev/shm" in text:  # NCCL's
        return (
            "the ranks of a training need more shared memory (/dev/shm): give the container more (--shm-size=1g), or "
            "set NCCL_SHM_DISABLE=1."
        )
    if type(error).__name__ in ("DistBackendError", "DistNetworkError") or ("gloo" in text and _has(text, _RANK_LOST)):
        return (
            "another process of this training has ended; its message, if it left one, shows why: "
            "go on with ckpt_path=last."
        )
    return None


def _has(text: str, words: tuple[str, ...]) -> bool:
    return any(word in text for word in words)


def disk_fault(error: OSError, place: Path | None = None) -> str | None:
    """Describe an error of a disk or a folder in one sentence; None if a bug may be the cause.

    `place`, the directory or file that is written, stands for a file that the error does not name.
    """
    if "No usable temporary directory" in str(error):
        return "no temporary directory can be written: make room in it, or set TMPDIR to another one."
    if error.errno == errno.ENOENT and place is not None and not place.exists():
        return f"{place} was removed while in use: start again."
    remedy = _REMEDIES.get(error.errno or 0)
    if remedy is None:
        return None
    path = error.filename if isinstance(error.filename, str | Path) else place or "a file"
    verb = "written" if error.errno in _WRITING else "used"
    return f"{path} cannot be {verb} ({error.strerror or error}): {remedy}."
