"""How much of the machine's memory there is for us."""

from pathlib import Path

from keyframe.cgroup import free_memory

_MEMINFO = Path("/proc/meminfo")


def free_bytes() -> int | None:
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
