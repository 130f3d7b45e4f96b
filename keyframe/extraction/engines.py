"""Many videos: what is left to do, one video as a job that cannot stop the others, and who works on the jobs.

An engine is a function of plain arguments, `(recipe, jobs, workers) -> outcomes in any order`: `run_local` here, and
`keyframe.extraction.ray_engine.RayEngine`, which does the same on Ray.

Jobs on several processes of this machine, of which any may die without taking a job but its own along.
"""

import dataclasses
import logging
import logging.handlers
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from keyframe.data.reader import VideoReader
from keyframe.export.model import describe_model, is_exported, load_exported, require_cpu
from keyframe.extraction.extract import Settings, ShotCutter, extract_video, recorded
from keyframe.extraction.folder import folder_name, is_complete, read_summary, remove_abandoned
from keyframe.files import content_hash, fingerprint
from keyframe.pipeline import Scorer, TrainedModel, TrainingFree
from keyframe.summary.constraints import Selector
from keyframe.system import ctrl_c_blocked, follow_parent
from keyframe.types import KeyframeError, VideoError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExtractionSpec:
    """How each video of a batch is done; it can be pickled, and holds no model.

    Attributes:
        shots: cuts videos.
        selector: chooses keyframes.
        reader: decodes frames.
        settings: everything else.
        checkpoint: of the model that scores, or an exported file; None for training-free scoring.
        device: where the model computes.
        threads: of one worker's computations, at least 1.
        bf16: whether a run's model computes in bfloat16.

    Raises:
        KeyframeError: `bf16` where no run's own model scores.
    """

    shots: ShotCutter
    selector: Selector
    reader: VideoReader
    settings: Settings = field(default_factory=Settings)
    checkpoint: Path | None = None
    device: str = "auto"
    threads: int = 1
    bf16: bool = False

    def __post_init__(self) -> None:
        if self.bf16 and (self.checkpoint is None or is_exported(self.checkpoint)):
            raise KeyframeError(
                "bf16=true is for the model of a run: exported files and the rule without a model compute as they are; "
                "leave it out."
            )

    @property
    def fingerprint(self) -> str:
        """What the extractions of this recipe will bear, known without loading the model."""
        scorer = TrainingFree.description if self.checkpoint is None else describe_model(self.checkpoint, self.bf16)
        return fingerprint(scorer, recorded(self.shots, self.selector, self.reader, self.settings))


@dataclass(frozen=True)
class VideoJob:
    """One video to do, and the folder of its results."""

    path: Path
    directory: Path


@dataclass(frozen=True)
class VideoResult:
    """What became of one video.

    Attributes:
        path: the video.
        status: done, skipped or failed.
        directory: its folder; None where it failed.
        keyframes: how many the folder holds.
        notes: why it was skipped or has failed, or what fell short; "" where there is nothing to say.
        seconds: how long it took.
    """

    path: Path
    status: Literal["done", "skipped", "failed"]
    directory: Path | None = None
    keyframes: int = 0
    notes: str = ""
    seconds: float = 0.0


def plan(
    paths: Sequence[Path], output: Path, recipe: ExtractionSpec, overwrite: bool = False
) -> list[VideoJob | VideoResult]:
    """Give each video its folder, and tell those that need no work.

    A folder is called after the file. Where another video has that name already (in this batch, in `output` before, or
    differing only in upper and lower case) or the folder is not ours, eight digits of the content's hash are added, so
    that a video finds its folder again whatever else is in the batch. Done is a video whose folder bears its content
    and the recipe's fingerprint and lacks no file.

    Args:
        paths: videos, none twice.
        output: the folder of all folders.
        recipe: how they would be done.
        overwrite: whether what is done is done again.

    Returns:
        One entry a video, in order: a job, or the outcome of one that was skipped or cannot be read.

    Raises:
        KeyframeError: `output` cannot be written.
    """
    wanted = recipe.fingerprint
    names = _existing(output)
    taken: dict[str, tuple[str, Path]] = {}
    entries: list[VideoJob | VideoResult] = []
    for path in paths:
        try:
            content = content_hash(path)
        except VideoError as error:
            entries.append(VideoResult(path, "failed", notes=str(error)))
            continue
        name = folder_name(path)
        directory, summary = _place(output, (name, f"{name}-{content[:8]}"), content, names, taken)
        other = taken.get(directory.name.casefold())
        taken[directory.name.casefold()] = content, path
        if other is not None:
            entries.append(VideoResult(path, "skipped", directory, notes=f"the same video as {other[1]}"))
        elif summary is None or overwrite or summary["fingerprint"] != wanted or not is_complete(directory, summary):
            entries.append(VideoJob(path, directory))
        else:
            entries.append(
                VideoResult(path, "skipped", directory, len(summary["keyframes"]), "done before, with these settings")
            )
    return entries


class Extractor:
    """Does jobs one after the other, with the model loaded once.

    Raises:
        KeyframeError: the recipe's checkpoint cannot be loaded, or its device is not there.
    """

    def __init__(self, recipe: ExtractionSpec) -> None:
        self.recipe = recipe
        self.scorer = load_scorer(recipe.checkpoint, recipe.device, recipe.threads, recipe.bf16)

    def __call__(self, job: VideoJob) -> VideoResult:
        """Do one video; whatever is wrong with it becomes its outcome."""
        start = perf_counter()
        recipe = self.recipe
        try:
            done = extract_video(
                job.path, job.directory, self.scorer, recipe.shots, recipe.selector, recipe.reader, recipe.settings
            )
        except KeyframeError as error:
            return VideoResult(job.path, "failed", notes=str(error), seconds=perf_counter() - start)
        except OSError as error:
            reason = (
                f"{job.directory} cannot be written ({error.strerror or error}): make room or choose another output."
            )
            return VideoResult(job.path, "failed", notes=reason, seconds=perf_counter() - start)
        except Exception as error:
            log.debug("%s", traceback.format_exc())
            reason = f"{job.path} cannot be done, for a fault of ours ({type(error).__name__}: {error}): report it."
            return VideoResult(job.path, "failed", notes=" ".join(reason.split()), seconds=perf_counter() - start)
        notes = "; ".join(done.selection.notes)
        return VideoResult(job.path, "done", job.directory, len(done.stills), notes, perf_counter() - start)


def load_scorer(run: Path | None, device: str = "auto", threads: int = 0, bf16: bool = False) -> Scorer:
    """The scorer of a run, on a device; without a run the training-free rule.

    Args:
        run: a run directory (its best checkpoint), a checkpoint, or an exported file.
        device: a name that torch knows, or "auto" for a GPU if there is one.
        threads: to compute with; 0 leaves it to the library.
        bf16: whether a run's model computes in bfloat16.

    Raises:
        KeyframeError: there is no such run or device, or the device cannot compute so.
    """
    if run is None:
        return TrainingFree()
    if is_exported(run):
        require_cpu(run, device)
        return load_exported(run, threads)
    # not at the top: torch takes seconds to import, and the others need none
    import torch

    from keyframe.runs import load_run

    if threads:
        torch.set_num_threads(threads)
    model = load_run(run, device=device).scorer
    if not bf16:
        return model
    assert isinstance(model, TrainedModel)
    if model.detector.pixel_mean.is_cuda and not torch.cuda.is_bf16_supported():
        raise KeyframeError("bf16=true needs a GPU that computes in bfloat16, and this one does not: leave it out.")
    return dataclasses.replace(model, bf16=True, description={**model.description, "bf16": True})


def run_local(recipe: ExtractionSpec, jobs: Sequence[VideoJob], workers: int = 1) -> Generator[VideoResult, None, None]:
    """Do jobs on this machine.

    Args:
        recipe: how.
        jobs: what; no two with one folder.
        workers: processes; 1 works in this process.

    Yields:
        An outcome a job, as they end.

    Raises:
        KeyframeError: as `Extractor` says, before the first outcome.
    """
    if not jobs:
        return
    if workers == 1 or len(jobs) == 1:
        extractor = Extractor(recipe)
        yield from map(extractor, jobs)
    else:
        yield from run_in_processes(recipe, jobs, min(workers, len(jobs)))


def _existing(output: Path) -> dict[str, str]:
    """Names in the output folder by their caseless form.

    The folder is made, proven to be writable, and rid of what a process that was killed has left.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        probe = output / ".writable"
        probe.touch()
        probe.unlink(missing_ok=True)  # Another command's, at the same time.
        remove_abandoned(output)
        return {entry.name.casefold(): entry.name for entry in output.iterdir()}
    except OSError as error:
        raise KeyframeError(f"output={output} cannot be written ({error.strerror}): choose another folder.") from error


def _place(
    output: Path,
    names: tuple[str, str],
    content: str,
    existing: Mapping[str, str],
    taken: Mapping[str, tuple[str, Path]],
) -> tuple[Path, dict[str, Any] | None]:
    """The folder for a video and its summary: one that holds this content, else the first that is free."""
    free: list[Path] = []
    for name in names:
        folder = output / existing.get(name.casefold(), name)
        summary = read_summary(folder)
        if name.casefold() in taken:
            if taken[name.casefold()][0] == content:
                return folder, summary
        elif summary is not None and summary["video"]["content"] == content:
            return folder, summary
        elif not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            free.append(folder)
    return (free[0] if free else output / names[1]), None


# Seconds that a worker has to remove its drafts when it is stopped.
_PATIENCE = 10
_THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run_in_processes(recipe: ExtractionSpec, jobs: Sequence[VideoJob], count: int) -> Iterator[VideoResult]:
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

    def __init__(self, recipe: ExtractionSpec) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(recipe, theirs), daemon=True)
        with thread_settings(recipe.threads), ctrl_c_blocked():
            self.process.start()
        theirs.close()
        self.job: VideoJob | None = None
        self.alive = True

    def give(self, job: VideoJob) -> None:
        """Have a job done; the process has none."""
        self.job = job
        with suppress(OSError):  # Died already, which the next answer says.
            self.connection.send(job)

    def answer(self) -> VideoResult | None:
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
            return VideoResult(self.job.path, "failed", notes=reason)
        if isinstance(message, logging.LogRecord):
            logging.getLogger(message.name).handle(message)
            return None
        if isinstance(message, BaseException):
            raise message
        assert isinstance(message, VideoResult)
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


def _serve(recipe: ExtractionSpec, connection: Connection) -> None:
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
