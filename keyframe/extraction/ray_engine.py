"""The engine on Ray Data: the jobs of a batch on a pool of actors, on this machine or on a cluster."""

import dataclasses
import importlib.util
import logging
import math
import os
import re
import signal
import socket
import threading
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from keyframe.extraction.engines import ExtractionSpec, VideoJob, VideoResult, Worker
from keyframe.extraction.folder import remove_abandoned
from keyframe.system import cores
from keyframe.types import KeyframeError

# Bytes of shared memory: what passes through it are names of files.
_OBJECT_STORE = 100 << 20
# Seconds that processes have to remove their drafts when Ray is stopped.
_PATIENCE = 10


@dataclasses.dataclass(frozen=True)
class RayEngine:
    """Does jobs by actors of Ray, each with a process of its own that decodes.

    A decoder that crashes ends that process and fails one video. Where an actor or its machine is lost Ray does the
    job again elsewhere, which is safe: the results of a video appear whole or not at all.

    Attributes:
        address: of a running cluster, or "auto" for the one that this machine is part of; with None Ray is started
            here, unless this process uses it already, and stopped at the end. The machines of a cluster have this
            version of keyframe, and find videos, results and checkpoint at the same paths.

    Raises:
        KeyframeError: Ray Data is not installed.
    """

    address: str | None = None

    def __post_init__(self) -> None:
        if any(importlib.util.find_spec(name) is None for name in ("ray", "pyarrow", "pandas")):
            raise KeyframeError("engine=ray needs Ray Data: pip install 'keyframe[ray]', or use engine=local.")

    def __call__(
        self, recipe: ExtractionSpec, jobs: Sequence[VideoJob], workers: int | None = None
    ) -> Generator[VideoResult, None, None]:
        """Do jobs.

        Args:
            recipe: how; it is pickled.
            jobs: what; no two with one folder.
            workers: actors; None for as many as the cluster has room for now.

        Yields:
            An outcome a job, as they end.

        Raises:
            KeyframeError: as `Extractor` says, or Ray cannot be reached or has no room for an actor.
        """
        if not jobs:
            return
        import ray
        from ray.exceptions import RayError

        try:
            with _connected(self.address, max(cores(), (workers or 1) * recipe.threads)):
                nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
                yield from _outcomes(recipe, jobs, share_of(recipe, len(jobs), workers, nodes))
        except RayError as error:
            reason = " ".join(str(error).split("\n")[-1].split())
            raise KeyframeError(
                f"Ray has given up ({type(error).__name__}: {reason}): install keyframe on all nodes, and start again; "
                "what is done is kept."
            ) from error
        finally:
            _wait_for_drafts({job.directory for job in jobs})


@dataclasses.dataclass(frozen=True)
class Share:
    """How many actors there are, and what of its machine each is given: cores, and GPUs or a part of one."""

    actors: int
    cores: int
    gpus: float


def share_of(recipe: ExtractionSpec, jobs: int, workers: int | None, nodes: Sequence[Mapping[str, float]]) -> Share:
    """What actors are given on a cluster.

    Args:
        recipe: a core for each of its threads; GPUs only where a model computes on them.
        jobs: there are no more actors than these.
        workers: actors that are asked for, more than there are GPUs to share them; None for one a GPU, or as many as
            there are cores for.
        nodes: the resources of each machine, as Ray calls them.

    Raises:
        KeyframeError: no machine has the cores for an actor.
    """
    most = max((int(node.get("CPU", 0)) for node in nodes), default=0)
    # A cluster that grows on demand may have no machine yet.
    if 0 < most < recipe.threads:
        raise KeyframeError(f"threads={recipe.threads} is more than any machine of the cluster has: {most} at most.")
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if recipe.checkpoint is None or recipe.device == "cpu":
        gpus = 0
    if workers is None:
        workers = gpus or max(1, sum(int(node.get("CPU", 0)) // recipe.threads for node in nodes))
    workers = min(workers, jobs)
    return Share(workers, recipe.threads, 1 / math.ceil(workers / gpus) if gpus else 0)


class _Actor:
    """Does jobs in a process of its own, which may die."""

    def __init__(self, recipe: ExtractionSpec) -> None:
        self.recipe = recipe
        self.worker = Worker(recipe)

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        """The outcomes of jobs; an error that ends the batch in place of one, for Ray would tell its own story."""
        answers: list[VideoResult | KeyframeError] = []
        for job in rows["job"]:
            try:
                answers.append(self._outcome(job))
            except KeyframeError as error:
                answers.append(error)
        return {"number": rows["number"], "answer": answers}

    def _outcome(self, job: VideoJob) -> VideoResult:
        if not self.worker.alive:
            self.worker = Worker(self.recipe)
        self.worker.give(job)
        while (outcome := self.worker.answer()) is None:
            continue
        return outcome


def _outcomes(recipe: ExtractionSpec, jobs: Sequence[VideoJob], share: Share) -> Iterator[VideoResult]:
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    # An actor's working directory is another one.
    rows = [
        {"number": number, "job": VideoJob(job.path.absolute(), job.directory.absolute())}
        for number, job in enumerate(jobs)
    ]
    if recipe.checkpoint is not None:
        recipe = dataclasses.replace(recipe, checkpoint=recipe.checkpoint.absolute())
    answers = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _Actor,
        fn_constructor_args=(recipe,),
        batch_size=1,
        # A second job waiting at a busy actor would wait while another is idle.
        compute=ray.data.ActorPoolStrategy(size=share.actors, max_tasks_in_flight_per_actor=1),
        num_cpus=share.cores,
        num_gpus=share.gpus,
    )
    answers.context.enable_progress_bars = False
    answers.context.print_on_execution_start = False
    for row in answers.iter_rows():
        job, answer = jobs[row["number"]], row["answer"]
        if isinstance(answer, KeyframeError):
            raise answer
        yield dataclasses.replace(answer, path=job.path, directory=answer.directory and job.directory)


@contextmanager
def _connected(address: str | None, cpus: int) -> Iterator[None]:
    """Be connected to a cluster, or to a Ray of this machine's own with so many cores; the latter ends with the block.

    Raises:
        KeyframeError: there is no cluster at the address.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    own: dict[str, Any] = {"num_cpus": cpus, "object_store_memory": _OBJECT_STORE, "include_dashboard": False}
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        if match := re.fullmatch(r"([^/:]+):(\d+)", address or ""):
            # Ray would try for minutes.
            socket.create_connection((match[1], int(match[2])), _PATIENCE).close()
        with _hushed():
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **({} if address else own))
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split()).split(". ")[0]
        remedy = "check it, and whether the cluster wants RAY_AUTH_MODE=token" if address else "use engine=local"
        raise KeyframeError(f"engine.address={address or 'null'} gives no Ray ({reason}): {remedy}.") from error
    if in_main:
        signal.signal(signal.SIGTERM, before)  # Ray has set its own.
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep from stderr what Ray's core says there while it starts; what matters it raises, and logs to its files."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _wait_for_drafts(directories: Collection[Path]) -> None:
    """Wait until no process works at these folders any more: an actor's ends soon after Ray does, and tidies up."""
    limit = monotonic() + _PATIENCE
    for output in {directory.parent for directory in directories}:
        while remove_abandoned(output) & set(directories) and monotonic() < limit:
            sleep(0.1)
