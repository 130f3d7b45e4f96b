"""The last lines of a training run: what came out, and where it lies."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from keyframe.report.document import Document
from keyframe.report.text import render_text
from keyframe.report.text_table import text_table

_ROWS = (
    ("Spearman, annotators' mean", "spearman"),
    ("Kendall, annotators' mean", "kendall"),
    ("Spearman, each annotator", "annotator_spearman"),
    ("Kendall, each annotator", "annotator_kendall"),
    ("MSE", "mse"),
    ("MAE", "mae"),
    ("precision@15 %", "precision_at_15"),
)
_TEACHER = ("Spearman with the teacher", "teacher_spearman")


def result_lines(metrics: Mapping[str, float], skipped: Mapping[str, str], run_dir: Path, best: Path) -> str:
    """Validation and test metrics, mean +- standard deviation over videos, then paths."""

    def cell(split: str, name: str) -> str:
        if f"{split}/{name}" not in metrics:
            return "-"
        spread = metrics.get(f"{split}/{name}_std")
        value = f"{metrics[f'{split}/{name}']:.3f}"
        return value if spread is None else f"{value} +- {spread:.3f}"

    rows = [*_ROWS, *([_TEACHER] if "val/teacher_spearman" in metrics else [])]
    table = text_table(
        [{"metric": label, "validation": cell("val", name), "test": cell("test", name)} for label, name in rows]
    )
    counts = ", ".join(f"{metrics[f'data/videos_{split}']:.0f} {split}" for split in ("train", "val", "test"))
    lines = [f"Videos: {counts}; sampled frames of each", "", table, ""]
    undefined = int(metrics.get("test/undefined", 0))
    if undefined:
        lines.append(f"{undefined} test videos have no rank correlation (constant scores or labels).")
    if skipped:
        lines.append(f"{len(skipped)} videos were left out:")
        lines += [f"  {video}: {reason}" for video, reason in skipped.items()]
    run_dir = from_here(run_dir)
    lines += [
        f"Best checkpoint: {from_here(best)}",
        f"Metrics:         {run_dir / 'metrics.json'}, {run_dir / 'per_video.csv'}",
        f"Curves:          {run_dir / 'curves'}",
        f"Run directory:   {run_dir}",
    ]
    return "\n".join(lines)


def short_text(document: Document, sections: int) -> str:
    """The first sections of a report, for the terminal."""
    return render_text(replace(document, sections=document.sections[:sections]))


def report_lines(run_dir: Path, figures: Path | None = None) -> list[str]:
    """Where an evaluation's results lie."""
    run_dir = from_here(run_dir)
    lines = [
        f"Metrics:       {run_dir / 'metrics.json'}, {run_dir / 'per_video.csv'}",
        f"Report:        {run_dir / 'report.html'} (also .md, .txt)",
    ]
    if figures is not None:
        lines.append(f"Pictures:      {from_here(figures)}")
    return [*lines, f"Run directory: {run_dir}"]


def from_here(path: Path) -> Path:
    """The path as a user would type it from the working directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
