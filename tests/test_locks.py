"""A directory belongs to one process at a time, and to nobody once that has ended."""

import os
import signal

import pytest

from keyframe.system import lock_folder
from keyframe.types import KeyframeError


def forked(work):
    """A child process that does this and then sleeps; it is waited for until the work is done."""
    ready, done = os.pipe()
    child = os.fork()
    if not child:
        try:
            work()
            os.write(done, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(done)
    assert os.read(ready, 1) == b"x"
    os.close(ready)
    return child


def end(child):
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_directory_in_use_is_refused_until_its_process_is_killed(tmp_path):
    child = forked(lambda: lock_folder(tmp_path))
    try:
        with pytest.raises(KeyframeError, match="in use by another process") as refusal:
            lock_folder(tmp_path)
        assert str(tmp_path) in str(refusal.value)
        (tmp_path / "other").mkdir()
        lock_folder(tmp_path / "other").close()
    finally:
        end(child)
    lock_folder(tmp_path).close()


def test_processes_that_the_owner_has_forked_do_not_hold_it_on(tmp_path):
    lock = lock_folder(tmp_path)
    child = forked(lambda: None)
    try:
        lock.close()
        lock_folder(tmp_path).close()
    finally:
        end(child)
