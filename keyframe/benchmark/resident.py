"""How much memory this process takes, told without torch, which alone takes hundreds of MB."""

import os
import subprocess
import sys
from math import nan
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_KIB_MB = 1024 / 1e6


def reset_peak() -> bool:
    """Let the peak start anew from what is resident now; whether that could be done (on Linux, mostly)."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def resident_mb() -> tuple[float, float]:
    """Resident memory of this process in MB: now, and its peak; NaN where the system does not tell."""
    if sys.platform == "linux":
        # not getrusage: its peak is handed down from the parent through fork and exec
        fields = dict(line.split(":", 1) for line in _STATUS.read_text(encoding="utf-8").splitlines())
        now, peak = (fields[name].split()[0] if name in fields else nan for name in ("VmRSS", "VmHWM"))
        return float(now) * _KIB_MB, float(peak) * _KIB_MB
    if sys.platform == "darwin":
        import resource

        answer = subprocess.run(["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, check=True)
        return float(answer.stdout) * _KIB_MB, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return nan, nan
