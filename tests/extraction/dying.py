"""A selection that ends the process it runs in; importable by a worker."""

import os
import signal
from dataclasses import dataclass

from keyframe.summary.candidates import Candidates, Selection
from keyframe.summary.selection import UniformSelection


@dataclass(frozen=True, kw_only=True)
class Dies(UniformSelection):
    """Kills its process on videos of one to two seconds, as a crashing decoder does."""

    def __call__(self, candidates: Candidates) -> Selection:
        if 1 < candidates.duration < 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(candidates)
