"""The page of one video: its keyframes with their times, the curve, and how it was made."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from keyframe.report.document import Document, Gallery, Notes, Picture, Section, Table
from keyframe.report.render import write_report

# Pixels that a picture on the page is wide and high at most: 60 keyframes of any resolution stay a page for a phone.
# More of them are smaller, down to the width of the page's columns, so that thousands still open.
_PREVIEW, _MANY, _SMALLEST = 720, 60, 208


def write_page(directory: Path, summary: Mapping[str, Any]) -> None:
    """Write `index.html` into a folder that holds the keyframes and the curve."""
    most = max(_SMALLEST, round(_PREVIEW * min(1.0, _MANY / len(summary["keyframes"])) ** 0.5))
    with TemporaryDirectory() as previews:
        pictures = []
        for keyframe in sorted(summary["keyframes"], key=lambda one: one["seconds"]):
            preview = Path(previews) / keyframe["file"]
            with Image.open(directory / keyframe["file"]) as still:
                still.thumbnail((most, most), Image.Resampling.LANCZOS)
                still.save(preview, quality=85)
            time = _time(keyframe["seconds"])
            pictures.append(
                Picture(
                    preview, f"The picture at {time}", f"{time}, rank {keyframe['rank']}, score {keyframe['score']:.2f}"
                )
            )
        write_report(_document(directory, summary, pictures), directory, ("html",), "index")


def _document(directory: Path, summary: Mapping[str, Any], pictures: list[Picture]) -> Document:
    video, shots, scored_by = summary["video"], summary["shots"], summary["scorer"]["name"]
    count = len(pictures)
    lead = f"{count} {'keyframe' if count == 1 else 'keyframes'} of {_time(video['duration'])}, scored by {scored_by}."
    curve = Picture(
        directory / "curve.png",
        "Importance over time, with the keyframes on it",
        "Importance of the frames looked at, 1 the most; grey lines are the starts of shots.",
    )
    kept = [shot for shot in shots if shot["kept"]]
    facts = {
        "length": f"{_time(video['duration'])} ({video['frames']} frames, {video['fps']:.4g} a second on average)",
        "picture": f"{video['width']} x {video['height']}, {video['codec']}",
        "looked at": f"{summary['scored_frames']} frames, {summary['settings']['rate']:g} a second",
        "shots": f"{len(shots)}, of which a skim keeps {len(kept)} ({_time(sum(s['end'] - s['start'] for s in kept))})",
        "scored by": scored_by,
    }
    if "checkpoint_sha256" in summary["scorer"]:
        facts["checkpoint"] = f"SHA-256 {summary['scorer']['checkpoint_sha256']}"
    parts = {"cut by": "shots", "selected by": "selection", "read by": "reader"}
    facts |= {name: _settings(summary["settings"][key]) for name, key in parts.items()}
    made = Table([{"": name, "value": value} for name, value in facts.items()], numeric=())
    notes = [Notes(summary["notes"])] if summary["notes"] else []
    return Document(
        title=video["name"],
        lead=lead,
        sections=[
            Section("Keyframes", [*notes, Gallery(pictures)]),
            Section("Importance over time", [curve]),
            Section("How it was made", [made]),
        ],
        footer=f"Made by keyframe {summary['versions']['keyframe']}.",
    )


def _settings(values: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{name} {value}" for name, value in values.items() if name != "kind" and value is not None)
    return f"{values['kind']}{': ' if rest else ''}{rest}"


def _time(seconds: float) -> str:
    """Such as 1:23.4, or 1:02:03.4 from an hour on."""
    minutes, tenths = divmod(round(seconds * 10), 600)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{tenths / 10:04.1f}" if hours else f"{minutes}:{tenths / 10:04.1f}"
