"""Processes that measure: their memory is their own, and they end with their parent."""

import os
import signal
import time
from functools import partial
from multiprocessing import get_context

import pytest

from keyframe.system import in_child
from keyframe.types import KeyframeError, VideoError

pytestmark = pytest.mark.full


def numbers(count):
    yield os.getpid()
    yield from range(count)


def end_by(number):
    yield 1
    os.kill(os.getpid(), number)


def fail(error):
    yield 1
    raise error


def starts_another(directory):
    """Yields how another process has ended, and leaves a mark for each item."""
    other = get_context("spawn").Process(target=print)
    other.start()
    other.join()
    for number in range(3):
        (directory / str(number)).touch()
        yield other.exitcode


def test_items_come_from_another_process_that_ends_when_it_is_left():
    process, *items = in_child(partial(numbers, 3), "nothing")
    assert process != os.getpid()
    assert items == [0, 1, 2]
    endless = in_child(partial(numbers, 10**9), "nothing")
    process = next(endless)
    endless.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_it_works_only_while_it_is_asked_and_may_start_processes(tmp_path):
    items = in_child(partial(starts_another, tmp_path), "nothing")
    assert [next(items), next(items)] == [0, 0]
    time.sleep(0.1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]
    assert list(items) == [0]


def test_how_it_ends(capfd):
    with pytest.raises(KeyframeError, match="that measured the memory was killed"):
        list(in_child(partial(end_by, signal.SIGKILL), "the memory"))
    assert list(in_child(partial(end_by, signal.SIGINT), "nothing")) == [1]  # Ctrl-C is for the parent
    assert capfd.readouterr().err == ""
    with pytest.raises(VideoError, match=r"^no\.mp4 is empty$"):
        list(in_child(partial(fail, VideoError("no.mp4 is empty")), "nothing"))
    assert capfd.readouterr().err == ""
    with pytest.raises(RuntimeError, match="status 1"):
        list(in_child(partial(fail, OSError("no")), "nothing"))
    assert "OSError: no" in capfd.readouterr().err
