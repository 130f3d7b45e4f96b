"""Sweeps: the state of each job, and the table and report of all.

A resumed sweep numbers its jobs as before: a finished one is skipped, an interrupted one goes on from its last
checkpoint.
"""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from keyframe.cli.arguments import is_first_process
from keyframe.cli.errors import fail
from keyframe.cli.sweep_resume import differing, is_adaptive, overrides_of
from keyframe.cli.terminal import short_text
from keyframe.files import one_line, read_json, read_table, write_table, write_text
from keyframe.report import Document, ImageFile, Notes, Section, Table, Text, format_number, write_report
from keyframe.types import KeyframeError

OBJECTIVE = "val/spearman"  # what a sweeper gets of each job, and jobs are ranked by
INTERVALS = ("test/spearman", "test/kendall", "test/precision_at_15")  # shown with an interval over the test videos
_HOW = (
    "Jobs are ranked on validation videos. The numbers in brackets are the 95 % bootstrap interval of the mean over "
    "the job's test videos. Report the test numbers of the job that validation chose: the best of many test numbers is "
    "too good by chance."
)


@dataclass(frozen=True)
class Status:
    """The state of a job: `running`, `completed`, `failed` or `interrupted`, why, and the overrides it was given."""

    state: str
    error: str = ""
    overrides: tuple[str, ...] = ()


def write_status(directory: Path, status: Status) -> None:
    """Write `status.json`, from the first process only."""
    if is_first_process():
        write_text(directory / "status.json", json.dumps(asdict(status)) + "\n")


def read_status(directory: Path) -> Status | None:
    """The status in a directory; None if there is none, or a damaged one."""
    content = _read_object(directory / "status.json")
    overrides = content.get("overrides", [])
    if not isinstance(content.get("state"), str) or not isinstance(overrides, list):
        return None
    return Status(content["state"], str(content.get("error", "")), tuple(map(str, overrides)))


def objective_of(directory: Path) -> float | None:
    """A finished job's `val/spearman`; None if it has none."""
    return _read_metrics(directory).get(OBJECTIVE)


def is_over(directory: Path, hydra: HydraConf) -> bool:
    """Whether an earlier start of the sweep has finished a job; a KeyframeError if the directory is another job's.

    A job that failed runs again, unless a sweeper chooses jobs by earlier results: these must stay the same.
    """
    status = read_status(directory)
    if status is None:
        return False
    now = overrides_of(hydra)
    if status.overrides != now:
        before, after = differing(status.overrides, now)
        raise KeyframeError(f"{directory} is of another job (it had {before}, now {after}): start a new sweep.")
    return status.state == "completed" or (status.state == "failed" and is_adaptive(hydra.sweeper))


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep, with the state and error of its `Status`."""

    name: str  # of its directory
    status: str
    error: str
    params: dict[str, str]  # what the sweep varies, by key
    metrics: Mapping[str, float]  # intervals are `<name>_lo` and `<name>_hi`; undefined ones are left out


def read_jobs(directory: Path) -> list[SweepJob]:
    """The jobs of a sweep, best validation Spearman first; parameters are the overrides that not all jobs share."""
    jobs = []
    settings: dict[str, list[str]] = {}
    for path in directory.glob("*/status.json"):
        status = read_status(path.parent)
        if status is None:
            continue
        settings[path.parent.name] = [override.lstrip("+") for override in status.overrides]
        jobs.append(SweepJob(path.parent.name, status.state, status.error, {}, _metrics_with_intervals(path.parent)))
    shared = set.intersection(*map(set, settings.values())) if jobs else set()
    for job in jobs:
        own = [override.partition("=") for override in settings[job.name] if override not in shared]
        job.params.update({key: value for key, _, value in own})
    numbers = {job.name: int(job.name) if job.name.isdigit() else 0 for job in jobs}
    return sorted(jobs, key=lambda job: (-job.metrics.get(OBJECTIVE, -math.inf), numbers[job.name], job.name))


def write_sweep_table(directory: Path) -> list[SweepJob]:
    """Write `sweep.csv` anew and return the jobs."""
    jobs = read_jobs(directory)
    columns = [OBJECTIVE, *(name + end for name in INTERVALS for end in ("", "_lo", "_hi"))]
    rows = [
        {"job": job.name, "status": job.status}
        | {name: job.params.get(name, "") for name in _params(jobs)}
        | {name: f"{job.metrics[name]:.4f}" if name in job.metrics else "" for name in columns}
        | {"error": job.error}
        for job in jobs
    ]
    if rows:
        write_table(directory / "sweep.csv", rows)
    return jobs


def sweep_document(jobs: Sequence[SweepJob], directory: Path, figure: Path | None) -> Document:
    """A report of a sweep's jobs, best first, with the figure of their parallel coordinates."""
    rows = [
        {"job": job.name, "status": job.status}
        | {name: short_number(job.params.get(name, "")) for name in _params(jobs)}
        | {name: _cell(job, name) for name in (OBJECTIVE, *INTERVALS)}
        for job in jobs
    ]
    failed = [
        f"Job {job.name} {job.status}: {job.error or 'it did not finish'}" for job in jobs if job.status != "completed"
    ]
    sections = [Section("Jobs", [Table(rows, f"Best {OBJECTIVE} first.")])]
    if failed:
        sections.append(Section("Without a result", [Notes(failed)]))
    if figure is not None:
        alt = f"One line per job through its parameters, coloured by {OBJECTIVE}"
        caption = f"A line is a job; colour and the last axis are its {OBJECTIVE}."
        sections.append(Section("Parameters", [ImageFile(figure, alt, caption)]))
    sections.append(Section("How to read it", [Text(_HOW)]))
    title = f"Sweep of {len(jobs)} job{'s' if len(jobs) > 1 else ''}"
    return Document(title, _best_job_sentence(jobs[0]), sections, f"Written by keyframe, from {directory}.")


def short_number(value: str) -> str:
    """A parameter for a reader: at most four digits of a number that a sweeper has drawn."""
    try:
        short = f"{float(value):.4g}"
    except ValueError:
        return value
    return short if len(short) < len(value) else value


def _best_job_sentence(best: SweepJob) -> str:
    if OBJECTIVE not in best.metrics:
        return "No job has a result."
    params = ", ".join(f"{name}={short_number(value)}" for name, value in best.params.items())
    test = f"; its {INTERVALS[0]} is {_cell(best, INTERVALS[0])}" if INTERVALS[0] in best.metrics else ""
    return f"Best by {OBJECTIVE} is job {best.name}{f' ({params})' if params else ''}: {_cell(best, OBJECTIVE)}{test}."


def _params(jobs: Sequence[SweepJob]) -> list[str]:
    return list(dict.fromkeys(name for job in jobs for name in job.params))


def _cell(job: SweepJob, name: str) -> str:
    lo, hi = job.metrics.get(f"{name}_lo", math.nan), job.metrics.get(f"{name}_hi", math.nan)
    value = format_number(job.metrics[name]) if name in job.metrics else ""
    return value if math.isnan(lo) else f"{value} [{format_number(lo)}, {format_number(hi)}]"


def _read_metrics(directory: Path) -> dict[str, float]:
    """A job's `metrics.json` without what is null."""
    content = _read_object(directory / "metrics.json")
    return {name: float(value) for name, value in content.items() if isinstance(value, int | float)}


def _read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one if there is none, or a damaged one."""
    content = None
    with suppress(KeyframeError):
        content = read_json(path)
    return content if isinstance(content, dict) else {}


def _metrics_with_intervals(directory: Path) -> dict[str, float]:
    """A job's metrics, with intervals over the test videos of its `per_video.csv`."""
    from keyframe.evaluation.metrics import interval  # scipy: `--help` needs none of it

    metrics = _read_metrics(directory)
    table = directory / "per_video.csv"
    if not metrics or not table.is_file():
        return metrics
    with suppress(OSError, ValueError, LookupError):  # a table from somewhere else
        rows = read_table(table)
        for name in INTERVALS:
            column = name.partition("/")[2]
            if name in metrics and f"{name}_lo" not in metrics and column in rows[0]:
                lo, hi = interval([float(row[column]) for row in rows])
                if not math.isnan(lo):
                    metrics |= {f"{name}_lo": lo, f"{name}_hi": hi}
    return metrics


class SweepTable(Callback):
    """Writes the sweep's table after every job; prints it at the end with a report, and fails if a job did."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if config.hydra.mode == RunMode.MULTIRUN and is_first_process():
            write_sweep_table(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the report and print the table; exit status 1 if any job failed."""
        from keyframe.drawing import save_figure
        from keyframe.drawing.plots import draw_parallel  # matplotlib: `--help` needs none of it

        directory, name = Path(config.hydra.sweep.dir), config.hydra.job.name
        jobs = write_sweep_table(directory)
        if not jobs:
            return
        figure = None
        if len(jobs) > 1 and any(job.params for job in jobs):
            figure = directory / "figures" / "parallel.png"
            values = [job.metrics.get(OBJECTIVE, math.nan) for job in jobs]
            settings = [{name: short_number(value) for name, value in job.params.items()} for job in jobs]
            plot = draw_parallel(settings, values, "Parameters and validation", OBJECTIVE)
            save_figure(plot, figure, 150)
        document = sweep_document(jobs, directory, figure)
        write_report(document, directory, ("html",), "sweep")
        failed = [job.name for job in jobs if job.status != "completed"]
        print(f"\n{short_text(document, 2 if failed else 1)}\n")
        for line in (f"Table:  {directory / 'sweep.csv'}", f"Report: {directory / 'sweep.html'}"):
            print(one_line(line))
        if failed:
            fail(name, f"{len(failed)} of {len(jobs)} jobs failed: {', '.join(failed)}")
