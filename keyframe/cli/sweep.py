"""The report of a sweep: its jobs in a table, and how their parameters go with what came of them.

The table of a sweep's jobs, from what each job has written into its directory.
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyframe.cli.arguments import OBJECTIVE, read_status
from keyframe.files import write_table
from keyframe.report.document import Block, Document, ImageFile, Notes, Section, Table, Text, format_number
from keyframe.report.render import text_table

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
        picture = [ImageFile(figure, alt, f"A line is a job; colour and the last axis are its {objective}.")]
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
    value = format_number(job.metrics[name]) if name in job.metrics else ""
    return value if math.isnan(lo) else f"{value} [{format_number(lo)}, {format_number(hi)}]"


def _is_done(job: Job) -> bool:
    return job.status == "completed"


def sweep_jobs(directory: Path) -> list[Job]:
    """The jobs of a sweep, best validation Spearman first, those without one last.

    A job's parameters are its overrides, less those that all jobs share.
    """
    jobs = []
    settings: dict[str, list[str]] = {}
    for path in directory.glob("*/status.json"):
        status = read_status(path.parent)
        assert status is not None
        settings[path.parent.name] = [override.lstrip("+") for override in status.overrides]
        jobs.append(Job(path.parent.name, status.state, status.error, {}, _metrics(path.parent)))
    shared = set.intersection(*map(set, settings.values())) if jobs else set()
    for job in jobs:
        own = [override.partition("=") for override in settings[job.name] if override not in shared]
        job.params.update({key: value for key, _, value in own})
    return sorted(jobs, key=_order)


def refresh(directory: Path) -> list[Job]:
    """Write `sweep.csv` anew and return the jobs."""
    jobs = sweep_jobs(directory)
    if jobs:
        params = dict.fromkeys(name for job in jobs for name in job.params)
        write_table(
            directory / "sweep.csv",
            [
                {"job": job.name, "status": job.status}
                | {name: job.params.get(name, "") for name in params}
                | {name: _sweep_cell(job, name) for name in _columns()}
                | {"error": job.error}
                for job in jobs
            ],
        )
    return jobs


def write_sweep_report(jobs: Sequence[Job], directory: Path) -> None:
    """Write `sweep.html` and its picture."""
    from keyframe.drawing.plots import draw_parallel
    from keyframe.report.render import write_report

    figure = None
    if len(jobs) > 1 and any(job.params for job in jobs):
        figure = directory / "figures" / "parallel.png"
        figure.parent.mkdir(exist_ok=True)
        values = [job.metrics.get(OBJECTIVE, float("nan")) for job in jobs]
        draw_parallel([job.params for job in jobs], values, "Parameters and validation", OBJECTIVE).savefig(
            figure, dpi=150
        )
    write_report(sweep_document(jobs, OBJECTIVE, directory, figure), directory, ("html",), "sweep")


def sweep_text(jobs: Sequence[Job]) -> str:
    """The jobs for a terminal, without the columns that are empty everywhere."""
    params = dict.fromkeys(name for job in jobs for name in job.params)
    rows = [
        {"job": job.name, "status": job.status}
        | {name: _sweep_cell(job, name) for name in (OBJECTIVE, *INTERVALS)}
        | {name: shown(job.params.get(name, "")) for name in params}
        | {"error": job.error}
        for job in jobs
    ]
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    return text_table([{name: row[name] for name in names} for row in rows])


def _columns() -> list[str]:
    return [OBJECTIVE, *(name + end for name in INTERVALS for end in ("", "_lo", "_hi"))]


def _sweep_cell(job: Job, name: str) -> str:
    return f"{job.metrics[name]:.4f}" if name in job.metrics else ""


def _metrics(directory: Path) -> dict[str, float]:
    """The job's `metrics.json`, what is null left out, with intervals over the test videos of its `per_video.csv`."""
    from keyframe.evaluation.metrics import interval

    path = directory / "metrics.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    metrics = {name: float(value) for name, value in content.items() if isinstance(value, int | float)}
    table = directory / "per_video.csv"
    if not metrics or not table.is_file():
        return metrics
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for name in INTERVALS:
        column = name.partition("/")[2]
        if name in metrics and f"{name}_lo" not in metrics and column in rows[0]:
            lo, hi = interval([float(row[column]) for row in rows])
            if lo == lo:
                metrics |= {f"{name}_lo": lo, f"{name}_hi": hi}
    return metrics


def _order(job: Job) -> tuple[float, int, str]:
    number = int(job.name) if job.name.isdigit() else 0
    return -job.metrics.get(OBJECTIVE, float("-inf")), number, job.name
