"""Parts of an extraction that end the process they run in, or never come back; importable by a worker."""

import os
import signal
import time
from dataclasses import dataclass

from keyframe.summary.candidates import Candidates, Selection
from keyframe.summary.selection import UniformSelection


@dataclass(frozen=True, kw_only=True)
class Dies(UniformSelection):
    """Kills its process on videos longer than a second, as a decoder does that crashes."""

    def __call__(self, candidates: Candidates) -> Selection:
        if candidates.duration > 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(candidates)


@dataclass(frozen=True, kw_only=True)
class Sleeps(UniformSelection):
    """Takes ten minutes."""

    def __call__(self, candidates: Candidates) -> Selection:
        time.sleep(600)
        return super().__call__(candidates)
