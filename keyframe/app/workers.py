"""Lanes of tasks that take long, one at a time, each in a process of its own."""

import logging
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from keyframe.extraction.engines import VideoJob, VideoResult, Worker
from keyframe.extraction.extract import ExtractionSpec
from keyframe.files import one_line
from keyframe.types import KeyframeError

log = logging.getLogger(__name__)

_LOOK_EVERY = 0.2  # seconds between two looks at whether a task is to stop


@dataclass(eq=False)
class Task:
    """Something that takes long, in a lane.

    Attributes:
        id: names it in the API; a task with the id of one that is not over is not taken again.
        video: the id of the video.
        title: what it does, for the page.
        run: does it, and yields what part of it is done, 0 to 1; closed, it stops and removes what it has begun.
        state: where it is.
        done: what part of it is done.
        note: why it has failed.
    """

    id: str
    video: str
    title: str
    run: Callable[[], Generator[float]]
    state: Literal["waiting", "running", "done", "failed", "cancelled"] = "waiting"
    done: float = 0.0
    note: str = ""
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state in ("done", "failed", "cancelled")

    def shown(self) -> dict[str, Any]:
        """What a page shows of it."""
        names = ("id", "video", "title", "state", "note")
        return {**{name: getattr(self, name) for name in names}, "done": round(self.done, 4)}


class Lane:
    """Does tasks one after the other, in a thread that waits for their processes."""

    _MOST_KEPT = 200  # tasks that are over

    def __init__(self, name: str) -> None:
        self._tasks: dict[str, Task] = {}
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, name)

    def add(self, task: Task) -> Task:
        """Have a task done after those that wait; the one of the same id, if that is not over."""
        with self._lock:
            if (same := self._tasks.get(task.id)) is not None and not same.is_over:
                return same
            self._tasks.pop(task.id, None)
            over = [one.id for one in self._tasks.values() if one.is_over]
            for one in over[: max(0, len(over) - self._MOST_KEPT)]:
                del self._tasks[one]
            self._tasks[task.id] = task
            self._thread.submit(self._do, task)
        return task

    def cancel(self, id: str) -> bool:
        """Stop a task, or take it out of those that wait; whether there was one."""
        with self._lock:
            task = self._tasks.get(id)
            if task is None or task.is_over:
                return False
            task.stop.set()
            if task.state == "waiting":
                task.state = "cancelled"
        return True

    def tasks(self) -> list[Task]:
        """All tasks, those that are over too, in the order in which they came."""
        with self._lock:
            return list(self._tasks.values())

    def close(self) -> None:
        """Stop what runs, and wait for its end."""
        for task in self.tasks():
            task.stop.set()
        self._thread.shutdown(cancel_futures=True)

    def _do(self, task: Task) -> None:
        with self._lock:
            if task.is_over:
                return
            task.state = "running"
        steps = task.run()
        try:
            for done in steps:
                task.done = done
                if task.stop.is_set():
                    steps.close()
                    task.state = "cancelled"
                    return
            task.done, task.state = 1.0, "done"
        except KeyframeError as error:
            task.note, task.state = str(error), "failed"
        except Exception as error:
            log.exception("A task of the page failed")
            task.note = f"failed because of a bug in keyframe ({one_line(f'{type(error).__name__}: {error}')})."
            task.state = "failed"


def extraction(
    spec: ExtractionSpec, planned: VideoJob | VideoResult, ended: Callable[[VideoResult], None]
) -> Generator[float]:
    """Do what `plan` has found for a video in a worker, unless it was done before; then `ended` gets the result."""
    result = planned if isinstance(planned, VideoResult) else (yield from _work(spec, planned))
    if result.status == "failed":
        raise KeyframeError(result.notes)
    ended(result)


def _work(spec: ExtractionSpec, job: VideoJob) -> Generator[float, None, VideoResult]:
    worker = Worker(spec)
    try:
        worker.give(job)
        result = None
        while result is None:
            yield worker.progress
            if worker.connection.poll(_LOOK_EVERY):
                result = worker.answer()
        return result
    except GeneratorExit:
        worker.process.terminate()
        raise
    finally:
        worker.stop()
