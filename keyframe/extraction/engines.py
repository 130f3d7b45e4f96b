"""Many videos: which of them are left to do, and the local engine, processes that do them without stopping each other.

An engine is called as `engine(spec, jobs, workers)` and yields a result per job in any order: `run_local` here, and
`keyframe.extraction.ray_engine.RayEngine`, which does the same on Ray.
"""

import logging
import logging.handlers
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Generator, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryFile
from time import perf_counter
from typing import Any, Literal

from keyframe.extraction.extract import ExtractionSpec, extract_video
from keyframe.extraction.folder import folder_name, is_complete, read_summary, remove_abandoned, remove_draft_of
from keyframe.files import content_hash, fingerprint, make_folder, one_line
from keyframe.system import ctrl_c_blocked, fault_of, follow_parent
from keyframe.trust import own_fault
from keyframe.types import KeyframeError, VideoError

log = logging.getLogger(__name__)

# Seconds that a stopped worker has to remove its drafts.
PATIENCE = 10
_THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class VideoJob:
    """One video to do, and the folder of its results."""

    path: Path
    directory: Path
    kept: Path | None = None  # an earlier folder, whose analysis is used; see `extract_video`


@dataclass(frozen=True)
class VideoResult:
    """What became of one video."""

    path: Path  # the video
    status: Literal["done", "skipped", "failed"]
    directory: Path | None = None  # its folder; None if it failed
    keyframes: int = 0  # how many the folder holds
    notes: str = ""  # why it was skipped or failed, or what fell short; "" if there is nothing to report
    seconds: float = 0.0  # how long it took


def plan(
    paths: Sequence[Path], output: Path, spec: ExtractionSpec, overwrite: bool = False, analysis: bool = False
) -> list[VideoJob | VideoResult]:
    """Assign each video its folder, and find those that need no work; one entry per video, in order.

    A folder has the name of the file. If another video has that name already (in this batch, in `output`, or differing
    only in upper and lower case) or the folder is not ours, eight digits of the content's hash are added, so that a
    video finds its folder again whatever else is in the batch. A video is done if its folder bears its content and the
    spec's fingerprint and lacks no file; `overwrite` repeats it. With `analysis` it is enough that the scores are those
    of the spec, whatever was selected.
    """
    kind = "analysis" if analysis else "fingerprint"
    fingerprint, existing = getattr(spec, kind), _prepared(output)
    # Caseless path of a folder, without links -> content and file of the video that this batch has given it.
    taken: dict[str, tuple[str, Path]] = {}

    def key(folder: Path) -> str:
        return os.path.realpath(folder).casefold()

    def place(content: str, names: tuple[str, str]) -> tuple[Path, dict[str, Any] | None]:
        """The video's folder and its summary: the folder that holds this content, else the first that is free."""
        free: list[Path] = []
        for name in names:
            folder = output / existing.get(name.casefold(), name)
            summary = read_summary(folder)
            if key(folder) in taken:
                if taken[key(folder)][0] == content:
                    return folder, summary
            elif summary is not None and summary["video"].get("content") == content:
                return folder, summary
            elif not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
                free.append(folder)
        return (free[0] if free else output / names[1]), None

    def entry(path: Path) -> VideoJob | VideoResult:
        try:
            content = content_hash(path)
        except VideoError as error:
            return VideoResult(path, "failed", notes=str(error))
        name = folder_name(path)
        directory, summary = place(content, (name, f"{name}-{content[:8]}"))
        same = taken.get(key(directory))
        taken[key(directory)] = content, path
        if same is not None:
            return VideoResult(path, "skipped", directory, notes=f"the same video as {same[1]}")
        if summary is None or overwrite or summary.get(kind) != fingerprint or not is_complete(directory, summary):
            return VideoJob(path, directory)
        return VideoResult(path, "skipped", directory, len(summary["keyframes"]), "done before, with these settings")

    return [entry(path) for path in paths]


def _prepared(output: Path) -> dict[str, str]:
    """Make the output folder if it is missing, and remove abandoned drafts; returns its entries by caseless name."""
    try:
        make_folder(output)
        with TemporaryFile(dir=output):
            pass
        remove_abandoned(output)
        return {entry.name.casefold(): entry.name for entry in output.iterdir()}
    except OSError as error:
        raise KeyframeError(f"output={output} cannot be written ({error.strerror}): choose another folder.") from error


def run_local(spec: ExtractionSpec, jobs: Sequence[VideoJob], workers: int = 1) -> Generator[VideoResult, None, None]:
    """Do jobs on this machine; yield a result per job, as they end.

    A worker that dies (a decoder can crash on a damaged file) fails its job, and another takes its place. If the
    generator is closed or interrupted, the workers are stopped and their drafts removed. `workers` are processes, each
    with its own model; 1 works in this process. No two jobs have one folder.
    """
    waiting = list(reversed(jobs))
    count = min(workers, len(jobs))
    if count == 1:
        yield from map(Extractor(spec), jobs)
        return
    busy: list[Worker] = []
    try:
        while waiting or busy:
            while waiting and len(busy) < count:
                busy.append(Worker(spec))
                busy[-1].give(waiting.pop())
            for ready in wait([worker.connection for worker in busy]):
                worker = next(worker for worker in busy if worker.connection is ready)
                result = worker.answer()
                if result is None:
                    continue
                yield result
                if waiting and worker.alive:
                    worker.give(waiting.pop())
                else:
                    busy.remove(worker)
                    worker.stop()
    finally:
        for worker in busy:
            worker.process.terminate()
        for worker in busy:
            worker.stop()


class Extractor:
    """Does jobs one after the other, with the model loaded once."""

    def __init__(self, spec: ExtractionSpec) -> None:
        self.spec = spec
        self.scorer = spec.load_scorer()
        if fingerprint(self.scorer.description, spec.settings) != spec.fingerprint:
            raise KeyframeError(f"{spec.checkpoint} has changed since this command started: run it again.")

    def __call__(self, job: VideoJob) -> VideoResult:
        """Do one job; any error becomes its result."""
        start = perf_counter()
        try:
            done = extract_video(job.path, job.directory, self.spec, self.scorer, job.kept)
        except Exception as error:
            notes = _reason(error, job, self.spec.own_packages)
            return VideoResult(job.path, "failed", notes=notes, seconds=perf_counter() - start)
        notes = "; ".join(done.selection.notes)
        return VideoResult(job.path, "done", job.directory, len(done.stills), notes, perf_counter() - start)


def _reason(error: Exception, job: VideoJob, packages: Set[str]) -> str:
    """Why a job failed, in one sentence."""
    if isinstance(error, KeyframeError):
        return str(error)
    if isinstance(error, OSError) and own_fault(error, packages) is None:
        return f"{job.directory} cannot be written ({error.strerror or error}): make room or choose another output."
    if fault := fault_of(error, lower="workers") or own_fault(error, packages):
        return f"{job.path} failed because {fault}"
    log.debug(traceback.format_exc())
    message = one_line(f"{type(error).__name__}: {error}")
    return f"{job.path} failed because of a bug in keyframe ({message}): report it."


class Worker:
    """A process that does jobs, one at a time; it ends with the process that has started it."""

    def __init__(self, spec: ExtractionSpec) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(spec, theirs), daemon=True)
        with _thread_settings(spec.threads), ctrl_c_blocked():
            self.process.start()
        theirs.close()
        self.job: VideoJob | None = None
        self.alive = True
        self.progress = 0.0  # what part of the job's video has been looked at

    def give(self, job: VideoJob) -> None:
        """Have a job done, after the answer to the one before."""
        self.job, self.progress = job, 0.0
        with suppress(OSError):  # Died already, which the next answer reports.
            self.connection.send(job)

    def answer(self) -> VideoResult | None:
        """Wait for the next message about the job: its result, or None for a line of log or progress.

        If the process died, `alive` becomes False and the job has failed. A KeyframeError, because the scorer cannot be
        loaded, ends the batch.
        """
        assert self.job is not None
        try:
            message: Any = self.connection.recv()
        except (EOFError, OSError):
            self.alive = False
            self.process.join(PATIENCE)
            remove_draft_of(self.job.directory)
            reason = (
                f"{self.job.path} crashed its worker (exit status {self.process.exitcode}): the file is damaged or "
                "memory ran out; convert it to H.264, or use fewer workers."
            )
            return VideoResult(self.job.path, "failed", notes=reason)
        if isinstance(message, KeyframeError):
            raise message
        if isinstance(message, VideoResult):
            return message
        if isinstance(message, float):
            self.progress = max(self.progress, message)
        else:
            logging.getLogger(message.name).handle(message)
        return None

    def stop(self) -> None:
        """End the process, by force if it does not end by itself."""
        self.connection.close()
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            if self.job is not None:
                remove_draft_of(self.job.directory)


class _ConnectionHandler(logging.handlers.QueueHandler):
    """Sends log records to the parent; its queue is a connection."""

    queue: Any

    def enqueue(self, record: logging.LogRecord) -> None:
        record.msg = one_line(str(record.msg))
        self.queue.send(record)


def _serve(spec: ExtractionSpec, connection: Connection) -> None:
    """Do jobs until the connection is closed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # Raised, so that drafts are removed.
    follow_parent()
    root = logging.getLogger()
    root.addHandler(_ConnectionHandler(connection))  # type: ignore[arg-type]
    root.setLevel(logging.INFO)
    spec.reader.progress = lambda path, seconds, of: connection.send(float(seconds / of) if of else 0.0)
    try:
        extractor = Extractor(spec)
    except KeyframeError as error:
        connection.send(error)
        return
    with suppress(EOFError):
        while True:
            connection.send(extractor(connection.recv()))


@contextmanager
def _thread_settings(count: int) -> Iterator[None]:
    """Set how many threads the libraries of processes started here use; these read it when they are imported."""
    before = {name: os.environ[name] for name in _THREAD_SETTINGS if name in os.environ}
    os.environ.update(dict.fromkeys(_THREAD_SETTINGS, str(count)))
    try:
        yield
    finally:
        for name in _THREAD_SETTINGS:
            del os.environ[name]
        os.environ.update(before)
