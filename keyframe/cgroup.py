"""What the control groups of this process leave it: those of a container, or of a cluster's job (Linux, both versions).

The files are described in the kernel's documentation, admin-guide/cgroup-v1 and admin-guide/cgroup-v2.
"""

from collections.abc import Iterator
from pathlib import Path

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
