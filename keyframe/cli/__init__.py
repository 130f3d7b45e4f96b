"""One thin file a command, and what is set before the slow imports: Ctrl-C without a traceback, threads that share."""

import logging
import os
import sys
from pathlib import Path
from types import TracebackType

from keyframe.system import Load, cores

# torch's threads (GNU OpenMP) spin while they wait for each other, on a busy machine for a hundred times the work's own
# time. With so few turns they sleep soon; of a quiet machine's time that takes next to nothing (suite=busy).
_SPINS = "4000"
_THREADS = "OMP_NUM_THREADS"


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report an uncaught error; Ctrl-C in one line."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    os.write(2, f"{Path(sys.argv[0]).stem}: interrupted\n".encode())
    os._exit(130)


sys.excepthook = _excepthook
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
_load = Load()


def share_cores() -> None:
    """Let torch take as many threads as cores are free, unless the user has set OMP_NUM_THREADS; before torch loads."""
    if _THREADS in os.environ or (free := _load.free_cores()) == cores():
        return
    os.environ[_THREADS] = str(free)
    message = "Other processes are busy: this one uses %d of %d cores (%s=%d for all of them)."
    logging.getLogger(__name__).info(message, free, cores(), _THREADS, cores())
