import os
import signal
import time
from functools import partial
from multiprocessing import get_context

import pytest

from keyframe.benchmark.report import in_child
from keyframe.types import KeyframeError


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


def starts_another():
    context = get_context("spawn")
    other = context.Process(target=print)
    other.start()
    other.join()
    yield other.exitcode


def leaves_marks(directory):
    for number in range(3):
        (directory / str(number)).touch()
        yield number


def test_it_works_only_while_it_is_asked(tmp_path):
    items = in_child(partial(leaves_marks, tmp_path))
    assert [next(items), next(items)] == [0, 1]
    time.sleep(0.2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]
    assert list(items) == [2]


def test_it_may_start_processes():
    assert list(in_child(starts_another)) == [0]


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
