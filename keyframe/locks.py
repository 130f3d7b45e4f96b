"""Locks that a process holds until it ends, however it ends: nothing stale is ever left."""

import os
from pathlib import Path
from typing import IO

from keyframe.errors import KeyframeError

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
