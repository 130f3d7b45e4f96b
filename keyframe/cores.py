"""How many processor cores there are for us."""

import math
import os

from keyframe.cgroup import processors


def cores() -> int:
    """Those that this process may use, at least 1: a container or a cluster gives a job a part of a machine."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = processors()
    return count if share is None else min(count, math.ceil(share))
