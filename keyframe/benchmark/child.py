"""A generator in a fresh process: what it yields arrives here, and its memory is its own."""

import signal
from collections.abc import Callable, Generator, Iterable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TypeVar

from keyframe.errors import KeyframeError

Item = TypeVar("Item")


def in_child(task: Callable[[], Iterable[Item]]) -> Generator[Item]:
    """What the task yields in a process that has done nothing else.

    Like any generator it works only while an item is asked for, and may start processes of its own.

    Args:
        task: picklable, e.g. `functools.partial` of a generator function; so is what it yields.

    Raises:
        KeyframeError: the process was killed, most likely because the memory did not suffice.
        RuntimeError: the task raised; its traceback is on stderr.
    """
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_send_all, args=(task, there))
    process.start()
    there.close()  # the child's end alone keeps the pipe open
    try:
        while True:
            try:
                here.send(None)
                item = here.recv()
            except (EOFError, BrokenPipeError, ConnectionResetError):
                break
            yield item
    except BaseException:
        process.terminate()
        raise
    finally:
        here.close()
        process.join()
    if process.exitcode and process.exitcode < 0:
        raise KeyframeError(
            "The process that was measured was killed, most likely for want of memory: measure less, or free some."
        )
    if process.exitcode:
        raise RuntimeError(f"the process that was measured ended with status {process.exitcode}")


def _send_all(task: Callable[[], Iterable[Item]], there: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    there.recv()
    for item in task():
        there.send(item)
        there.recv()
