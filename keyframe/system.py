"""What the control groups of this process leave it: those of a container, or of a cluster's job (Linux, both versions).

The files are described in the kernel's documentation, admin-guide/cgroup-v1 and admin-guide/cgroup-v2.

How many processor cores there are for us.

How much of the machine's memory there is for us.

Locks that a process holds until it ends, however it ends: nothing stale is ever left.

Processes that we start: they leave Ctrl-C to their parent, and end with it.
"""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from math import nan
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, TypeVar

from keyframe.types import KeyframeError

_OWN = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")


def free_memory() -> int | None:
    """Bytes that this process may still take under the tightest limit; None where there is none."""
    free = [
        limit - used + _reclaimable(folder / "memory.stat")
        for folder in _folders("memory")
        for most, now in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
        if (limit := _number(folder / most)) is not None and (used := _number(folder / now)) is not None
    ]
    return max(0, min(free)) if free else None


def processors() -> float | None:
    """Processors' time that this process may take a second of time, e.g. 1.5; None where that is not limited."""
    shares = []
    for folder in _folders("cpu"):
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if (both := _text(folder / "cpu.max").split()) and both[0] != "max":
            quota, period = int(both[0]), int(both[1])
        if quota is not None and period and quota > 0:  # -1 is no limit
            shares.append(quota / period)
    return min(shares, default=None)


def _folders(controller: str) -> Iterator[Path]:
    """The folders of this process's group and of the groups around it, each of which may set a limit.

    In a container the group's path may be that of the machine, which the container does not see: its own is the root.
    """
    for line in _text(_OWN).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = _MOUNT / controller if controllers else _MOUNT
        group = root / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(root))


def _reclaimable(table: Path) -> int:
    """Of the memory in use, bytes of files that the system gives up when it needs room."""
    rows = dict(line.split() for line in _text(table).splitlines())
    kind = "total_" if "total_inactive_file" in rows else ""  # version 1 counts the groups within apart
    return sum(int(rows.get(f"{kind}{files}_file", 0)) for files in ("active", "inactive"))


def _number(path: Path) -> int | None:
    """The number in a file; None where there is no such file, or `max` in it."""
    text = _text(path).strip()
    return int(text) if text.removeprefix("-").isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def cores() -> int:
    """Those that this process may use, at least 1: a container or a cluster gives a job a part of a machine."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = processors()
    return count if share is None else min(count, math.ceil(share))


_MEMINFO = Path("/proc/meminfo")


def available_bytes() -> int | None:
    """Memory that may be taken without swapping or being killed, in bytes; None where the system does not tell.

    The machine's, or less where a container or a cluster gives us a part of it.
    """
    free = [amount for amount in (_machine(), free_memory()) if amount is not None]
    return min(free, default=None)


def _machine() -> int | None:
    if _MEMINFO.is_file():
        for line in _MEMINFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
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
        fields = dict(line.split(":", 1) for line in _text(Path("/proc/self/status")).splitlines())
        now, peak = (fields[name].split()[0] if name in fields else nan for name in ("VmRSS", "VmHWM"))
        return float(now) * 1024 / 1e6, float(peak) * 1024 / 1e6
    if sys.platform == "darwin":
        import resource

        answer = subprocess.run(["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, check=True)
        return float(answer.stdout) * 1024 / 1e6, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return nan, nan


# In a directory that is, or was, of one process.
LOCK = ".lock"


def take(file: IO[bytes]) -> bool:
    """Lock an open file until it is closed; False where it is locked already.

    Raises:
        OSError: there are no locks here (Windows, some network file systems).
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


def claim(directory: Path) -> IO[bytes]:
    """Have a directory for this process alone, until the file that is returned is closed, or the process has ended.

    Processes that it starts do not prolong that. Where there are no locks nobody is refused.

    Raises:
        KeyframeError: another process has it.
        OSError: the directory cannot be written.
    """
    file = (directory / LOCK).open("ab")
    try:
        free = take(file)
    except OSError:
        return file
    if not free:
        file.close()
        raise KeyframeError(f"{directory} is in use by another process: wait until that has ended, or stop it.")
    os.register_at_fork(after_in_child=file.close)
    return file


@contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """What is started in here gets no Ctrl-C before it calls `follow_parent`; a terminal sends it to all processes."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow_parent() -> None:
    """In a child: ignore Ctrl-C, on which the parent decides, and stop when the parent is gone, killed say."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


Item = TypeVar("Item")


def in_child(task: Callable[[], Iterable[Item]], measured: str) -> Generator[Item]:
    """Yield what the task yields in a fresh process, whose memory is its own.

    As with any generator the task runs only while an item is asked for. It may start processes of its own.

    Args:
        task: picklable, e.g. `functools.partial` of a generator function; so is what it yields.
        measured: what the process measures, for the message when it is killed.

    Raises:
        KeyframeError: the task raised it, or the process was killed, most likely because memory ran out.
        RuntimeError: the task failed otherwise; its traceback is on stderr.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_send_items, args=(task, there))
    with deaf_to_ctrl_c():
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
    """Send one item for each request of the parent."""
    follow_parent()
    there.recv()
    try:
        for item in task():
            there.send(item)
            there.recv()
    except KeyframeError as error:
        there.send(error)
