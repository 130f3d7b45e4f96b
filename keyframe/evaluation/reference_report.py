"""The reference lines of a label file for a reader: rows of a table, and a report around them."""

from collections.abc import Mapping
from pathlib import Path

from keyframe.evaluation.cells import number, span
from keyframe.evaluation.protocol import PICK_STEP, PROTOCOL
from keyframe.evaluation.reference import LINES, Line
from keyframe.report.document import Document, Notes, Section, Table, Text
from keyframe.types import Labels


def line_names(metrics: Mapping[str, float]) -> list[str]:
    """The reference lines that were drawn, in the order of tables."""
    return [name for name in LINES if f"reference/{name}/kendall" in metrics]


def reference_rows(metrics: Mapping[str, float]) -> list[dict[str, str]]:
    """One row a line: name, what it is compared with, tau and rho, each with its interval."""
    return [
        {
            "line": name.replace("_", " "),
            "compared with": "mean of the other half" if name == "pooled" else "each annotator",
            "Kendall tau": number(metrics[f"reference/{name}/kendall"]),
            "tau, 95 %": span(metrics, f"reference/{name}/kendall"),
            "Spearman rho": number(metrics[f"reference/{name}/spearman"]),
            "rho, 95 %": span(metrics, f"reference/{name}/spearman"),
        }
        for name in line_names(metrics)
    ]


def reference_notes(metrics: Mapping[str, float]) -> list[str]:
    """One sentence a line that lacks something: correlations that are not defined, or all of them, or intervals."""
    videos = int(metrics["reference/videos"])
    notes = []
    for name in line_names(metrics):
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


def line_meanings(metrics: Mapping[str, float]) -> Notes:
    """What each line is."""
    return Notes([f"{name.replace('_', ' ')}: {LINES[name]}" for name in line_names(metrics)])


def reference_document(labels: Path, metrics: Mapping[str, float]) -> Document:
    """The report: the table, the protocol it follows, and what each line is."""
    people, ceiling = (number(metrics[f"reference/{name}/spearman"]) for name in ("one_annotator", "ceiling"))
    return Document(
        title="Reference lines",
        lead=f"On the {int(metrics['reference/videos'])} videos of {labels.name} one annotator agrees with another at "
        f"Spearman's rho {people}, and the mean of all with each at {ceiling}: no predictor can do much better.",
        sections=[
            Section(
                "Rank correlation",
                [
                    Table(reference_rows(metrics), "Mean over videos, with the 95 % bootstrap interval over videos."),
                    Notes(reference_notes(metrics) or ["Every correlation is defined."]),
                ],
            ),
            Section("What each line is", [line_meanings(metrics)]),
            Section("How it was measured", [Text(PROTOCOL)]),
        ],
    )


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
