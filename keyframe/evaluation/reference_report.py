"""The reference lines of a label file for a reader: rows of a table, and a page around them."""

import math
from collections.abc import Mapping
from pathlib import Path

from keyframe.evaluation.protocol import PICK_STEP, PROTOCOL
from keyframe.evaluation.reference import LINES, Line
from keyframe.types import Labels


def reference_rows(metrics: Mapping[str, float]) -> list[dict[str, str]]:
    """One row a line: name, what it is compared with, tau and rho, each with its interval."""
    return [
        {
            "line": name.replace("_", " "),
            "compared with": "mean of the other half" if name == "pooled" else "each annotator",
            "Kendall tau": _number(metrics[f"reference/{name}/kendall"]),
            "tau, 95 %": _interval(metrics, f"reference/{name}/kendall"),
            "Spearman rho": _number(metrics[f"reference/{name}/spearman"]),
            "rho, 95 %": _interval(metrics, f"reference/{name}/spearman"),
        }
        for name in LINES
    ]


def reference_notes(metrics: Mapping[str, float]) -> list[str]:
    """One sentence a line that lacks something: correlations that are not defined, or all of them, or intervals."""
    videos = int(metrics["reference/videos"])
    notes = []
    for name in LINES:
        title = name.replace("_", " ")
        total, undefined, measured = (
            int(metrics[f"reference/{name}/{key}"]) for key in ("comparisons", "undefined", "videos")
        )
        if undefined:
            notes.append(
                f"{title}: {undefined} of {total} correlations are not defined (one side is constant) and left out."
            )
        if measured < videos:
            notes.append(f"{title}: {videos - measured} of {videos} videos have no value and are left out of the mean.")
    if videos < 2:
        notes.append("Intervals are not available: they need at least two videos.")
    return notes


def reference_page(labels: Path, metrics: Mapping[str, float]) -> str:
    """`report.md`: the table, the protocol it follows, and what each line is."""
    rows = reference_rows(metrics)
    table = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    parts = [
        "# Reference lines",
        f"Label file `{labels.name}`, {int(metrics['reference/videos'])} videos. Mean over videos, with the 95 % "
        "bootstrap interval over videos.",
        "\n".join(f"| {' | '.join(cells)} |" for cells in table),
        PROTOCOL,
        "\n".join(f"- **{name.replace('_', ' ')}**: {text}" for name, text in LINES.items()),
        "\n".join(f"- {note}" for note in reference_notes(metrics)) or "Every correlation is defined.",
    ]
    return "\n\n".join(parts) + "\n"


def reference_videos(labels: Mapping[str, Labels], table: Mapping[str, Mapping[str, Line]]) -> list[dict[str, object]]:
    """One row a video for `per_video.csv`."""
    return [
        {
            "video": video,
            "category": labels[video].category,
            "frames": len(labels[video]),
            "picks": -(-len(labels[video]) // PICK_STEP),
            "annotators": len(labels[video].annotators),
            **{
                f"{name}/{key}": getattr(line, key)
                for name, line in lines.items()
                for key in ("kendall", "spearman", "undefined")
            },
        }
        for video, lines in table.items()
    ]


def _number(value: float) -> str:
    return "not available" if math.isnan(value) else f"{value:z.3f}"


def _interval(metrics: Mapping[str, float], key: str) -> str:
    lo, hi = metrics[f"{key}_lo"], metrics[f"{key}_hi"]
    return "not available" if math.isnan(lo) else f"{lo:z.3f} to {hi:z.3f}"
