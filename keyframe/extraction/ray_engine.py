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
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from keyframe.extraction.engines import PATIENCE, VideoJob, VideoResult, Worker
from keyframe.extraction.extract import ExtractionSpec
from keyframe.extraction.folder import remove_abandoned
from keyframe.files import one_line
from keyframe.system import cores, pip_install
from keyframe.types import KeyframeError

_OBJECT_STORE = 100 << 20  # bytes of shared memory: only names of files pass through it


@dataclasses.dataclass(frozen=True)
class RayEngine:
    """Does jobs by actors of Ray, each with a worker process that decodes.

    A decoder that crashes ends that process and fails one video. If an actor or its machine is lost, Ray repeats the
    job elsewhere, which is safe: the results of a video appear whole or not at all.
    """

    # of a running cluster, or "auto" for the one that this machine is part of; with None Ray is started here,
    # unless this process uses it already, and stopped at the end. The machines of a cluster have this version of
    # keyframe, and find videos, results and checkpoint at the same paths
    address: str | None = None

    def __post_init__(self) -> None:
        if any(importlib.util.find_spec(name) is None for name in ("ray", "pyarrow", "pandas")):
            raise KeyframeError(f"engine=ray needs Ray Data: {pip_install('ray')}, or use engine=local.")

    def __call__(
        self, spec: ExtractionSpec, jobs: Sequence[VideoJob], workers: int | None = None
    ) -> Generator[VideoResult, None, None]:
        """Do jobs; see `keyframe.extraction.engines.run_local`.

        The spec is pickled. `workers` are actors; None for as many as the cluster has room for now.
        """
        if not jobs:
            return
        import ray

        try:
            with _connected(self.address, max(cores(), (workers or 1) * spec.threads)):
                nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
                yield from _results(spec, jobs, *share_of(spec, len(jobs), workers, nodes))
        except ray.exceptions.RayError as error:
            reason = one_line(str(error).split("\n")[-1])
            raise KeyframeError(
                f"Ray failed ({type(error).__name__}: {reason}): install keyframe on all nodes, and start again; "
                "what is done is kept."
            ) from error
        finally:
            # An actor's worker ends soon after Ray, and removes its drafts.
            limit, ours = monotonic() + PATIENCE, {job.directory for job in jobs}
            for output in {directory.parent for directory in ours}:
                while remove_abandoned(output) & ours and monotonic() < limit:
                    sleep(0.1)


def share_of(
    spec: ExtractionSpec, jobs: int, workers: int | None, nodes: Sequence[Mapping[str, float]]
) -> tuple[int, float]:
    """The number of actors on a cluster, at most one per job, and the GPUs, or the part of one, that each gets.

    An actor has a core per thread, and GPUs only if a model computes on them. More `workers` than GPUs share them; None
    is one per GPU, or without GPUs as many as there are cores for. `nodes` are the resources of each machine, as Ray
    names them.
    """
    most = max((int(node.get("CPU", 0)) for node in nodes), default=0)
    # A cluster that grows on demand may have no machine yet.
    if 0 < most < spec.threads:
        raise KeyframeError(f"threads={spec.threads} is more than any machine of the cluster has: {most} at most.")
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if (spec.checkpoint is None and spec.features == "none") or spec.device == "cpu":
        gpus = 0
    if workers is None:
        workers = gpus or max(1, sum(int(node.get("CPU", 0)) // spec.threads for node in nodes))
    workers = min(workers, jobs)
    return workers, 1 / math.ceil(workers / gpus) if gpus else 0


class _Actor:
    """Does jobs by a worker process, which may die."""

    def __init__(self, spec: ExtractionSpec) -> None:
        self.spec = spec
        self.worker = Worker(spec)

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        """The results of jobs; an error that ends the batch is returned, because Ray would wrap one that is raised."""
        answers: list[VideoResult | KeyframeError] = []
        for job in rows["job"]:
            if not self.worker.alive:
                self.worker = Worker(self.spec)
            self.worker.give(job)
            try:
                while (result := self.worker.answer()) is None:
                    continue
            except KeyframeError as error:
                answers.append(error)
            else:
                answers.append(result)
        return {"number": rows["number"], "answer": answers}


def _results(spec: ExtractionSpec, jobs: Sequence[VideoJob], actors: int, gpus: float) -> Iterator[VideoResult]:
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    # An actor has another working directory.
    rows = [
        {"number": number, "job": VideoJob(job.path.absolute(), job.directory.absolute())}
        for number, job in enumerate(jobs)
    ]
    if spec.checkpoint is not None:
        spec = dataclasses.replace(spec, checkpoint=spec.checkpoint.absolute())
    answers = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _Actor,
        fn_constructor_args=(spec,),
        batch_size=1,
        # A second job must not wait at a busy actor while another is idle.
        compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=1),
        num_cpus=spec.threads,
        num_gpus=gpus,
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
    """Connect to a cluster, or start a Ray of this machine with that many cores and stop it at the end."""
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
            socket.create_connection((match[1], int(match[2])), PATIENCE).close()
        with _silent_stderr():
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **({} if address else own))
    except (OSError, ValueError, RuntimeError) as error:
        reason = one_line(str(error)).split(". ")[0]
        remedy = "check it, and whether the cluster needs RAY_AUTH_MODE=token" if address else "use engine=local"
        raise KeyframeError(
            f"engine.address={address or 'null'}: Ray is not available ({reason}); {remedy}."
        ) from error
    if in_main:
        signal.signal(signal.SIGTERM, before)  # Ray has set its own.
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Hide what Ray's core prints while it starts; it raises what matters, and logs to its own files."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
