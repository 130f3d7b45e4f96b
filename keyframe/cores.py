"""How many processor cores there are for us."""

import os


def cores() -> int:
    """Those that this process may use, where the system tells: a cluster gives a job a part of a machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
