"""The table of a sweep's jobs, from what each job has written into its directory."""

import json
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from keyframe.evaluation.record import write_table
from keyframe.report.text_table import text_table

_METRICS = ("val/spearman", "test/spearman", "test/kendall", "test/precision_at_15")


def sweep_rows(directory: Path) -> list[dict[str, str]]:
    """One row a job: number, status, metrics, overrides and error; best validation Spearman first, failed last.

    Overrides that all jobs share are left out.
    """
    found: list[tuple[float, int, dict[str, str]]] = []
    settings: dict[str, list[str]] = {}
    for path in directory.glob("*/status.json"):
        job = path.parent
        status = json.loads(path.read_text())
        metrics: dict[str, Any] = {}
        if (job / "metrics.json").is_file():
            metrics = json.loads((job / "metrics.json").read_text())
        overrides = job / ".hydra" / "overrides.yaml"
        settings[job.name] = list(map(str, OmegaConf.load(overrides))) if overrides.is_file() else []
        row = {"job": job.name, "status": status["state"]}
        row |= {name: f"{metrics[name]:.4f}" if metrics.get(name) is not None else "" for name in _METRICS}
        row |= {"overrides": "", "error": status["error"]}
        best = metrics.get("val/spearman")
        number = int(job.name) if job.name.isdigit() else 0
        found.append((-best if best is not None else float("inf"), number, row))
    rows = [row for _, _, row in sorted(found, key=lambda entry: entry[:2])]
    shared = set.intersection(*map(set, settings.values())) if len(rows) > 1 else set()
    for row in rows:
        row["overrides"] = " ".join(setting for setting in settings[row["job"]] if setting not in shared)
    return rows


def refresh(directory: Path) -> list[dict[str, str]]:
    """Write `sweep.csv` anew and return its rows."""
    rows = sweep_rows(directory)
    if rows:
        write_table(directory / "sweep.csv", rows)
    return rows


def sweep_text(rows: list[dict[str, str]]) -> str:
    """The rows for a terminal, without the columns that are empty everywhere."""
    names = [name for name in rows[0] if any(row[name] for row in rows)] if rows else []
    return text_table([{name: row[name] for name in names} for row in rows])
