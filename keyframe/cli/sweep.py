"""The table of a sweep's jobs, from what each job has written into its directory."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keyframe.cli.resume import OBJECTIVE
from keyframe.cli.status import read_status
from keyframe.evaluation.record import write_table
from keyframe.evaluation.sweep import INTERVALS, Job, shown
from keyframe.report.text_table import text_table


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
                | {name: _cell(job, name) for name in _columns()}
                | {"error": job.error}
                for job in jobs
            ],
        )
    return jobs


def write_sweep_report(jobs: Sequence[Job], directory: Path) -> None:
    """Write `sweep.html` and its picture."""
    from keyframe.drawing.parallel import draw_parallel
    from keyframe.evaluation.sweep import sweep_document
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
        | {name: _cell(job, name) for name in (OBJECTIVE, *INTERVALS)}
        | {name: shown(job.params.get(name, "")) for name in params}
        | {"error": job.error}
        for job in jobs
    ]
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    return text_table([{name: row[name] for name in names} for row in rows])


def _columns() -> list[str]:
    return [OBJECTIVE, *(name + end for name in INTERVALS for end in ("", "_lo", "_hi"))]


def _cell(job: Job, name: str) -> str:
    return f"{job.metrics[name]:.4f}" if name in job.metrics else ""


def _metrics(directory: Path) -> dict[str, float]:
    """The job's `metrics.json`, what is null left out, with intervals over the test videos of its `per_video.csv`."""
    from keyframe.evaluation.bootstrap import interval

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
