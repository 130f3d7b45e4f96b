"""Tasks of child processes, in a module that imports nothing heavy: a child imports the module of its task."""

import os
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path


def numbers(count: int) -> Iterator[int]:
    yield os.getpid()
    yield from range(count)


def end_by(number: int) -> Iterator[int]:
    yield 1
    os.kill(os.getpid(), number)


def fail(error: Exception) -> Iterator[int]:
    yield 1
    raise error


def starts_another(directory: Path) -> Iterator[int | None]:
    """Yields how another process has ended, and leaves a mark for each item."""
    other = get_context("spawn").Process(target=print)
    other.start()
    other.join()
    for number in range(3):
        (directory / str(number)).touch()
        yield other.exitcode
