"""Sweeps: the state of each job, resuming a stopped sweep, and the table and report of its jobs.

A sweep writes `sweep.yaml` before its first job: its overrides and its search space. Resumed with `sweep.resume=DIR` it
numbers its jobs as before: a finished one is skipped, an interrupted one goes on from its last checkpoint.
"""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from keyframe.cli.arguments import fail, is_first_process, unquoted
from keyframe.cli.terminal import from_here, short_text
from keyframe.files import flat, one_line, read_table, write_table, write_text
from keyframe.report.document import Document, ImageFile, Notes, Section, Table, Text, format_number
from keyframe.report.render import write_report
from keyframe.types import KeyframeError

OBJECTIVE = "val/spearman"  # what a sweeper gets of each job, and jobs are ranked by
INTERVALS = ("test/spearman", "test/kendall", "test/precision_at_15")  # shown with an interval over the test videos
RECORD = "sweep.yaml"
_KEY = "sweep.resume="
_LAUNCHER = ("hydra/launcher", "hydra.launcher")
_FREE = ("n_trials", "max_failure_rate")  # settings of a sweeper that leave existing jobs as they are
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
    """The status in a directory; None if there is none."""
    path = directory / "status.json"
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    return Status(**{**content, "overrides": tuple(content.get("overrides", ()))})


def overrides_of(hydra: HydraConf) -> tuple[str, ...]:
    """The overrides of a job, or of a sweep, as they were typed."""
    return tuple(override for override in _literal(hydra.overrides.task) if not override.startswith(_KEY))


def objective_of(directory: Path) -> float | None:
    """A finished job's `val/spearman`; None if it has none."""
    return _read_metrics(directory).get(OBJECTIVE)


def resumed(arguments: Sequence[str]) -> list[str]:
    """Arguments with the overrides of the sweep that `sweep.resume=DIR` names; another launcher may be chosen."""
    place = next((argument.removeprefix(_KEY) for argument in arguments if argument.startswith(_KEY)), None)
    if place is None or place == "null":
        return list(arguments)
    given = [argument for argument in arguments if not argument.startswith((_KEY, "-m", "--multirun"))]
    place = unquoted(place)
    record = _read_record(Path(place))
    if not any("=" in argument and not argument.startswith(("hydra", "-")) for argument in given):
        given += record.get("overrides", [])
    kept = list(record.get("hydra", []))
    if any(argument.startswith(_LAUNCHER) for argument in given):
        kept = [argument for argument in kept if not argument.startswith(_LAUNCHER)]
    given_keys = {argument.partition("=")[0] for argument in given}
    kept = [argument for argument in kept if argument.partition("=")[0] not in given_keys]
    return ["-m", *kept, *given, f"{_KEY}{place}", f"hydra.sweep.dir={place}"]


def save_record(config: DictConfig, directory: Path) -> None:
    """Write `sweep.yaml` into the sweep's directory."""
    write_text(directory / RECORD, OmegaConf.to_yaml(OmegaConf.create(_record(config))))


def check_resumable(config: DictConfig, directory: Path) -> None:
    """Refuse to go on with a sweep that does not exist, or with another one in its directory."""
    was = _read_record(directory)
    if not was:
        raise KeyframeError(f"{_KEY}{directory}: there is no sweep ({RECORD}); give the directory of a sweep (-m).")
    now = OmegaConf.to_container(OmegaConf.create(OmegaConf.to_yaml(OmegaConf.create(_record(config)))))
    assert isinstance(now, dict)
    before, after = _differing(was["overrides"], now["overrides"])
    if before or after:
        raise KeyframeError(
            f"{_KEY}{directory} is a sweep of other overrides (it had {before or 'no more'}, now {after or 'no more'}):"
            " leave the overrides out, they are read from its directory, or start a new sweep."
        )
    old, new = (dict(flat({key: part[key] for key in ("sweeper", "config")})) for part in (was, now))
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            raise KeyframeError(
                f"{_KEY}{directory}: the configuration has changed since ({key.partition('.')[2]} was {old.get(key)}, "
                f"is {new.get(key)}): undo that, or start a new sweep."
            )
    if _is_adaptive(config.hydra.sweeper) and OmegaConf.select(config, "hydra.sweeper.sampler.seed") is None:
        raise KeyframeError(
            f"{_KEY}{directory}: without a seed Optuna would draw other jobs now: start sweeps that are to be resumed "
            "with hydra.sweeper.sampler.seed=0."
        )


def is_over(directory: Path, hydra: HydraConf) -> bool:
    """Whether an earlier start of the sweep has finished a job; a KeyframeError if the directory is another job's.

    A job that failed runs again, unless a sweeper chooses jobs by earlier results: these must stay the same.
    """
    status = read_status(directory)
    if status is None:
        return False
    now = overrides_of(hydra)
    if status.overrides != now:
        before, after = _differing(status.overrides, now)
        raise KeyframeError(f"{directory} is of another job (it had {before}, now {after}): start a new sweep.")
    return status.state == "completed" or (status.state == "failed" and _is_adaptive(hydra.sweeper))


def how_to_go_on(name: str, directory: Path) -> str:
    """The command that resumes a sweep."""
    return f"keyframe-{name} {_KEY}{shlex.quote(str(from_here(directory)))}"


def _record(config: DictConfig) -> dict[str, Any]:
    hydra = config.hydra
    sweeper = OmegaConf.to_container(hydra.sweeper, resolve=False)
    assert isinstance(sweeper, dict)
    job = OmegaConf.masked_copy(config, [str(key) for key in config if key not in ("hydra", "sweep")])
    own = ("hydra.mode=", "hydra.sweep.dir=")  # set by `resumed`
    return {
        "overrides": list(overrides_of(hydra)),
        "hydra": [override for override in _literal(hydra.overrides.hydra) if not override.startswith(own)],
        "sweeper": {key: value for key, value in sweeper.items() if key not in _FREE},
        "config": OmegaConf.to_container(job, resolve=False),
    }


def _literal(overrides: Any) -> list[str]:
    return [str(override) for override in OmegaConf.to_container(overrides, resolve=False)]  # type: ignore[union-attr]


def _read_record(directory: Path) -> dict[str, Any]:
    path = directory.expanduser() / RECORD
    record = OmegaConf.to_container(OmegaConf.load(path)) if path.is_file() else {}
    return {str(key): value for key, value in record.items()} if isinstance(record, dict) else {}


def _is_adaptive(sweeper: Any) -> bool:
    return not str(sweeper._target_).endswith(".BasicSweeper")


def _differing(before: Sequence[str], after: Sequence[str]) -> tuple[str, str]:
    """What only one of two lists of overrides has; all of both if they differ in order alone."""
    if list(before) == list(after):
        return "", ""
    lost = [override for override in before if override not in after]
    new = [override for override in after if override not in before]
    return (" ".join(lost), " ".join(new)) if lost or new else (" ".join(before), " ".join(after))


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
        assert status is not None
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
    failed = [f"Job {job.name} {job.status}: {job.error or 'it did not end'}" for job in jobs if not _is_done(job)]
    sections = [Section("Jobs", [Table(rows, f"Best {OBJECTIVE} first.")])]
    if failed:
        sections.append(Section("Without a result", [Notes(failed)]))
    if figure is not None:
        alt = f"One line per job through its parameters, coloured by {OBJECTIVE}"
        caption = f"A line is a job; colour and the last axis are its {OBJECTIVE}."
        sections.append(Section("Parameters", [ImageFile(figure, alt, caption)]))
    sections.append(Section("How to read it", [Text(_HOW)]))
    title = f"Sweep of {len(jobs)} job{'s' if len(jobs) > 1 else ''}"
    return Document(title, _lead(jobs[0]), sections, f"Written by keyframe, from {directory}.")


def short_number(value: str) -> str:
    """A parameter for a reader: at most four digits of a number that a sweeper has drawn."""
    try:
        short = f"{float(value):.4g}"
    except ValueError:
        return value
    return short if len(short) < len(value) else value


def _lead(best: SweepJob) -> str:
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


def _is_done(job: SweepJob) -> bool:
    return job.status == "completed"


def _read_metrics(directory: Path) -> dict[str, float]:
    """A job's `metrics.json` without what is null."""
    path = directory / "metrics.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {name: float(value) for name, value in content.items() if isinstance(value, int | float)}


def _metrics_with_intervals(directory: Path) -> dict[str, float]:
    """A job's metrics, with intervals over the test videos of its `per_video.csv`."""
    from keyframe.evaluation.metrics import interval  # scipy: `--help` needs none of it

    metrics = _read_metrics(directory)
    table = directory / "per_video.csv"
    if not metrics or not table.is_file():
        return metrics
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
        """Refresh the table."""
        if config.hydra.mode == RunMode.MULTIRUN and is_first_process():
            write_sweep_table(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the report and print the table; exit status 1 if any job failed."""
        from keyframe.drawing.plots import draw_parallel  # matplotlib: `--help` needs none of it

        directory, name = Path(config.hydra.sweep.dir), config.hydra.job.name
        jobs = write_sweep_table(directory)
        if not jobs:
            return
        figure = None
        if len(jobs) > 1 and any(job.params for job in jobs):
            figure = directory / "figures" / "parallel.png"
            figure.parent.mkdir(exist_ok=True)
            values = [job.metrics.get(OBJECTIVE, math.nan) for job in jobs]
            plot = draw_parallel([job.params for job in jobs], values, "Parameters and validation", OBJECTIVE)
            plot.savefig(figure, dpi=150)
        document = sweep_document(jobs, directory, figure)
        write_report(document, directory, ("html",), "sweep")
        failed = [job.name for job in jobs if not _is_done(job)]
        print(f"\n{short_text(document, 2 if failed else 1)}\n")
        for line in (f"Table:  {directory / 'sweep.csv'}", f"Report: {directory / 'sweep.html'}"):
            print(one_line(line))
        if failed:
            fail(name, f"{len(failed)} of {len(jobs)} jobs failed: {', '.join(failed)}")
