import os
import signal
from functools import partial

import pytest

from keyframe.benchmark.child import in_child
from keyframe.errors import KeyframeError


def numbers(count):
    yield os.getpid()
    yield from range(count)


def end_by(number):
    yield 1
    os.kill(os.getpid(), number)


def fail():
    yield 1
    raise OSError("no")


def test_what_is_yielded_comes_from_another_process():
    process, *items = in_child(partial(numbers, 3))
    assert process != os.getpid()
    assert items == [0, 1, 2]


def test_a_killed_process_is_told():
    with pytest.raises(KeyframeError, match="was killed"):
        list(in_child(partial(end_by, signal.SIGKILL)))


def test_a_failure_is_no_end(capfd):
    with pytest.raises(RuntimeError, match="status 1"):
        list(in_child(fail))
    assert "OSError: no" in capfd.readouterr().err


def test_an_interrupt_is_for_the_parent():
    assert list(in_child(partial(end_by, signal.SIGINT))) == [1]


def test_a_process_nobody_waits_for_is_ended():
    items = in_child(partial(numbers, 10**9))
    process = next(items)
    items.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
