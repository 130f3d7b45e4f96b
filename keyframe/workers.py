"""Jobs on several processes of this machine, of which any may die without taking a job but its own along."""

import logging
import logging.handlers
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from keyframe.batch import Extractor, Job, Outcome, Recipe
from keyframe.children import deaf_to_ctrl_c, follow_parent
from keyframe.errors import KeyframeError
from keyframe.extraction.folder import remove_abandoned

# Seconds that a worker has to remove its drafts when it is stopped.
_PATIENCE = 10
_THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run_in_processes(recipe: Recipe, jobs: Sequence[Job], count: int) -> Iterator[Outcome]:
    """Do jobs in processes, each with its own model.

    A process that dies (a decoder can, on a damaged file) fails its job, and another takes its place. When the iterator
    is closed, or interrupted, the processes are stopped and what they had begun is removed.

    Args:
        recipe: how; it is pickled.
        jobs: what.
        count: processes.

    Yields:
        An outcome a job, as they end.

    Raises:
        KeyframeError: as `Extractor` says.
    """
    waiting = list(reversed(jobs))
    workers: list[Worker] = []
    try:
        while waiting or workers:
            while waiting and len(workers) < count:
                worker = Worker(recipe)
                workers.append(worker)
                worker.give(waiting.pop())
            for ready in wait([worker.connection for worker in workers]):
                worker = next(worker for worker in workers if worker.connection is ready)
                outcome = worker.answer()
                if outcome is None:
                    continue
                yield outcome
                if waiting and worker.alive:
                    worker.give(waiting.pop())
                else:
                    workers.remove(worker)
                    worker.stop()
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.stop()


class Worker:
    """A process, and the job it has; it ends with the process that has started it.

    Args:
        recipe: how it does jobs; pickled.
    """

    def __init__(self, recipe: Recipe) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(recipe, theirs), daemon=True)
        with thread_settings(recipe.threads), deaf_to_ctrl_c():
            self.process.start()
        theirs.close()
        self.job: Job | None = None
        self.alive = True

    def give(self, job: Job) -> None:
        """Have a job done; the process has none."""
        self.job = job
        with suppress(OSError):  # Died already, which the next answer says.
            self.connection.send(job)

    def answer(self) -> Outcome | None:
        """Wait for what the process says next of its job: the outcome, or None for a line of log.

        Where the process has died, which `alive` then says, the job has failed.

        Raises:
            KeyframeError: as `Extractor` says.
        """
        assert self.job is not None
        try:
            message: Any = self.connection.recv()
        except (EOFError, OSError):
            self.alive = False
            self.process.join(_PATIENCE)
            remove_abandoned(self.job.directory.parent)
            reason = (
                f"{self.job.path} has ended the process that read it (exit status {self.process.exitcode}), for damage "
                "in the file or for want of memory: convert it to H.264, or use fewer workers."
            )
            return Outcome(self.job.path, "failed", notes=reason)
        if isinstance(message, logging.LogRecord):
            logging.getLogger(message.name).handle(message)
            return None
        if isinstance(message, BaseException):
            raise message
        assert isinstance(message, Outcome)
        return message

    def stop(self) -> None:
        """End the process, by force where it does not end by itself."""
        self.connection.close()
        self.process.join(_PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            if self.job is not None:
                remove_abandoned(self.job.directory.parent)


class _Messenger:
    """A log queue whose other end is the connection to the parent."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def put_nowait(self, record: logging.LogRecord) -> None:
        self.connection.send(record)


def _serve(recipe: Recipe, connection: Connection) -> None:
    """Do the jobs that come, until no more can come."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # Raised, so that drafts are removed.
    follow_parent()
    root = logging.getLogger()
    root.addHandler(logging.handlers.QueueHandler(_Messenger(connection)))  # type: ignore[arg-type]  # All it needs.
    root.setLevel(logging.INFO)
    try:
        extractor = Extractor(recipe)
    except KeyframeError as error:
        connection.send(error)
        return
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        connection.send(extractor(job))


@contextmanager
def thread_settings(count: int) -> Iterator[None]:
    """What a process that starts here is told: threads of the libraries that decide it when they are imported."""
    before = {name: os.environ.get(name) for name in _THREAD_SETTINGS}
    os.environ.update(dict.fromkeys(_THREAD_SETTINGS, str(count)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
