"""The report of a sweep: its jobs in a table, and how their parameters go with what came of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keyframe.evaluation.cells import number
from keyframe.report.document import Block, Document, Notes, Picture, Section, Table, Text

# Metrics over the test videos, each with its interval.
INTERVALS = ("test/spearman", "test/kendall", "test/precision_at_15")


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        name: of its directory.
        status: `completed`, `failed`, `interrupted` or `running`.
        error: why it failed.
        params: what the sweep varies, by key.
        metrics: what it measured, by name, intervals as `<name>_lo` and `<name>_hi`; nothing that is not defined.
    """

    name: str
    status: str
    error: str
    params: dict[str, str]
    metrics: Mapping[str, float]


def sweep_document(jobs: Sequence[Job], objective: str, directory: Path, figure: Path | None) -> Document:
    """A report of a sweep.

    Args:
        jobs: best first, one at least.
        objective: the metric they are ranked by, on validation videos.
        directory: of the sweep.
        figure: the parallel coordinates, where there is more than one job.
    """
    picture: list[Block] = []
    if figure is not None:
        alt = f"A line a job through its parameters, coloured by {objective}"
        picture = [Picture(figure, alt, f"A line is a job; colour and the last axis are its {objective}.")]
    failed = [f"Job {job.name} {job.status}: {job.error or 'it did not end'}" for job in jobs if not _is_done(job)]
    sections = [
        Section("Jobs", [Table([_row(job, jobs, objective) for job in jobs], f"Best {objective} first.")]),
        Section("Parameters", picture) if picture else None,
        Section("Without a result", [Notes(failed)]) if failed else None,
        Section("How to read it", [Text(_HOW)]),
    ]
    return Document(
        title=f"Sweep of {len(jobs)} job{'s' if len(jobs) > 1 else ''}",
        lead=_lead(jobs, objective),
        sections=[section for section in sections if section is not None],
        footer=f"Written by keyframe, from {directory}.",
    )


_HOW = (
    "Jobs are ranked on validation videos. The numbers in brackets are the 95 % bootstrap interval of the mean over "
    "the job's test videos. Report the test numbers of the job that validation chose: the best of many test numbers is "
    "too good by chance."
)


def shown(value: str) -> str:
    """A parameter for a reader: of a number that a sweeper has drawn, four digits."""
    try:
        short = f"{float(value):.4g}"
    except ValueError:
        return value
    return short if len(short) < len(value) else value


def _lead(jobs: Sequence[Job], objective: str) -> str:
    best = jobs[0]
    if objective not in best.metrics:
        return "No job has a result."
    params = ", ".join(f"{name}={shown(value)}" for name, value in best.params.items())
    test = f"; its {INTERVALS[0]} is {_cell(best, INTERVALS[0])}" if INTERVALS[0] in best.metrics else ""
    return f"Best by {objective} is job {best.name}{f' ({params})' if params else ''}: {_cell(best, objective)}{test}."


def _row(job: Job, jobs: Sequence[Job], objective: str) -> dict[str, str]:
    params = dict.fromkeys(name for one in jobs for name in one.params)
    return (
        {"job": job.name, "status": job.status}
        | {name: shown(job.params.get(name, "")) for name in params}
        | {name: _cell(job, name) for name in (objective, *INTERVALS)}
    )


def _cell(job: Job, name: str) -> str:
    lo, hi = job.metrics.get(f"{name}_lo", math.nan), job.metrics.get(f"{name}_hi", math.nan)
    value = number(job.metrics[name]) if name in job.metrics else ""
    return value if math.isnan(lo) else f"{value} [{number(lo)}, {number(hi)}]"


def _is_done(job: Job) -> bool:
    return job.status == "completed"
