import signal
from contextlib import suppress

import pytest

from keyframe.cli import terminal as interruption
from keyframe.cli.terminal import VideoProgress, bar


@pytest.fixture
def listening(monkeypatch):
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us with it ignored
    monkeypatch.setattr(interruption, "_asked", False)
    interruption.listen()
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def steps(number, swallowed):
    yield "before"
    with suppress(swallowed):
        signal.raise_signal(number)
    yield "after"
    yield "never reached"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_the_work_at_the_next_step_though_a_library_swallows_it(number, listening):
    done = []
    with pytest.raises(KeyboardInterrupt):
        done.extend(bar(steps(number, KeyboardInterrupt), "Working", 3))
    assert done == ["before"]
    with pytest.raises(KeyboardInterrupt):
        VideoProgress()("film.mp4", 0.0, 60.0)


def test_it_ends_the_work_at_once_where_nobody_swallows_it(listening):
    work = steps(signal.SIGTERM, ())
    assert next(work) == "before"
    with pytest.raises(KeyboardInterrupt):
        next(work)


def test_an_ignored_ctrl_c_stays_ignored(listening):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interruption.listen()
    assert list(bar(steps(signal.SIGINT, ()), "Working", 3)) == ["before", "after", "never reached"]
