"""The folder of one video's results: its name, what shows that it is ours, and how it appears whole or not at all.

The importance of one video over time, with its shots and the keyframes on it.

The page of one video: its keyframes with their times, the curve, and how it was made.
"""

import json
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from PIL import Image

from keyframe.drawing.curves import time_axis
from keyframe.drawing.style import FAINT, INK, PALETTE, TEXT, key, key_columns, panel, sheet
from keyframe.files import atomic_folder, format_clock, remove_abandoned_drafts
from keyframe.report.document import Document, Gallery, ImageFile, Notes, Section, Table
from keyframe.report.render import one_line, write_report
from keyframe.summary.constraints import Candidates, Selection
from keyframe.types import KeyframeError

MADE_BY = "keyframe-extract"
SUMMARY = "summary.json"

# File systems take 255 bytes, and drafts and a clash need some of them.
_MOST_BYTES = 160
_FORBIDDEN = set('<>:"/\\|?*')
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}


def folder_name(path: Path) -> str:
    """A name for the results of a video that every file system takes and that leads nowhere else."""
    stem = unicodedata.normalize("NFC", path.stem)
    # Categories C*: control and format characters, and halves of surrogate pairs.
    safe = "".join("_" if c in _FORBIDDEN or unicodedata.category(c)[0] == "C" else c for c in stem)
    safe = safe.encode()[:_MOST_BYTES].decode(errors="ignore").strip(" .")
    if safe.startswith("-") or safe.split(".")[0].lower() in _RESERVED:
        safe = f"_{safe}"
    return safe or "video"


def read_summary(directory: Path) -> dict[str, Any] | None:
    """The summary in a folder of ours; None where there is none, or of another make."""
    try:
        summary = json.loads((directory / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(summary, dict) and summary.get("made_by") == MADE_BY
    return summary if ours and {"files", "fingerprint", "keyframes", "video"} <= summary.keys() else None


def is_complete(directory: Path, summary: dict[str, Any]) -> bool:
    """Whether all files that a summary names are in its folder."""
    return all((directory / name).is_file() for name in summary["files"])


@contextmanager
def whole(directory: Path) -> Iterator[Path]:
    """An empty folder to write into, which becomes `directory` when the block ends without an error.

    A folder of ours that is there already is replaced; files in it that are not ours are kept.

    Raises:
        KeyframeError: `directory` holds something, and nothing of ours.
    """
    _require_ours(directory)
    with atomic_folder(directory, _keep_others) as draft:
        yield draft
        _require_ours(directory)


def remove_abandoned(output: Path) -> set[Path]:
    """As `remove_abandoned_drafts`, for folders of results."""
    return remove_abandoned_drafts(output, _keep_others)


def _keep_others(old: Path, directory: Path) -> None:
    """Move what is not ours from the folder that was into the one that has replaced it."""
    ours = (read_summary(old) or {"files": []})["files"]
    for entry in old.iterdir():
        if entry.name not in ours:
            place = directory / entry.name
            entry.rename(place if not place.exists() else place.with_stem(f"{place.stem} (kept)"))


def _require_ours(directory: Path) -> None:
    if not directory.exists():
        return
    if not directory.is_dir() or (read_summary(directory) is None and any(directory.iterdir())):
        raise KeyframeError(f"{directory} was not made by {MADE_BY}: move it away or choose another output.")


# Inches; narrower than the sheets of an evaluation, so that the text can be read on a phone.
_WIDTH, _LEFT, _RIGHT, _BOTTOM, _TALL = 6.2, 0.62, 0.25, 0.52, 2.4
_DPI = 150
# Ranks are written beside so many keyframes; more would cover the curve.
_MOST_RANKS = 30


def draw_curve(title: str, candidates: Candidates, selection: Selection, scored_by: str) -> Figure:
    """Draw scores from 0 to 1 over the video's own clock.

    Args:
        title: the video's name.
        candidates: the scored frames.
        selection: which are keyframes; the best ones' ranks stand beside them.
        scored_by: who scored, in a few words.
    """
    seconds, scores = candidates.seconds, candidates.scores
    labels = ["score", "keyframe and its rank", "start of a shot"]
    colour, mark = PALETTE[1], PALETTE[0]
    handles = [
        Line2D([], [], color=colour),
        Line2D([], [], color=mark, marker="o", linestyle=""),
        Line2D([], [], color=FAINT),
    ]
    height = _BOTTOM + _TALL + 0.15 + key_columns(labels, _WIDTH)[1]
    figure = sheet(_drawable(one_line(title)), height, f"Scored by {scored_by}", _WIDTH)
    key(figure, handles, labels, height)
    axis = panel(figure, _LEFT, _BOTTOM, _WIDTH - _LEFT - _RIGHT, _TALL)
    starts = seconds[candidates.shots[1:, 0]]
    axis.vlines(starts, 0, 1, color=FAINT, linewidth=0.7, alpha=min(1.0, 60 / max(len(starts), 1)), zorder=0)
    # The last frame looked at stands for what follows it.
    times, values = np.append(seconds, candidates.duration), np.append(scores, scores[-1])
    axis.fill_between(times, values, color=colour, alpha=0.12, linewidth=0)
    axis.plot(times, values, color=colour, linewidth=1.3 if len(seconds) < 500 else 0.8)
    chosen = selection.keyframes
    axis.plot(seconds[chosen], scores[chosen], "o", color=mark, markersize=5.5, mew=0.8, mec="white", clip_on=False)
    for place, rank in zip(chosen.tolist(), selection.ranks.tolist(), strict=True):
        if rank <= _MOST_RANKS:
            at = float(seconds[place]), float(scores[place])
            axis.annotate(
                str(rank), at, (0, 5), textcoords="offset points", ha="center", va="bottom", size=TEXT - 1, color=INK
            )
    axis.set_xlim(0, candidates.duration)
    top = float(np.max(scores)) * 1.15
    axis.set_ylim(0, min(max(top, 0.1), 1.08))
    axis.set_ylabel("importance", size=TEXT)
    time_axis(axis)
    return figure


def _drawable(text: str) -> str:
    """The text with a box for each character that the plots' font lacks, which would be a warning each."""
    known = get_font(findfont(FontProperties())).get_charmap()
    return "".join(character if ord(character) in known else "\u25a1" for character in text)


def save_curve(figure: Figure, path: Path) -> None:
    """Save as PNG."""
    figure.savefig(path, dpi=_DPI)


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
            time = format_clock(keyframe["seconds"], 1)
            pictures.append(
                ImageFile(
                    preview, f"The picture at {time}", f"{time}, rank {keyframe['rank']}, score {keyframe['score']:.2f}"
                )
            )
        write_report(_document(directory, summary, pictures), directory, ("html",), "index")


def _document(directory: Path, summary: Mapping[str, Any], pictures: list[ImageFile]) -> Document:
    video, shots, scored_by = summary["video"], summary["shots"], summary["scorer"]["name"]
    count = len(pictures)
    length = format_clock(video["duration"], 1)
    lead = f"{count} {'keyframe' if count == 1 else 'keyframes'} of {length}, scored by {scored_by}."
    curve = ImageFile(
        directory / "curve.png",
        "Importance over time, with the keyframes on it",
        "Importance of the frames looked at, 1 the most; grey lines are the starts of shots.",
    )
    kept = [shot for shot in shots if shot["kept"]]
    skimmed = sum(shot["end"] - shot["start"] for shot in kept)
    facts = {
        "length": f"{length} ({video['frames']} frames, {video['fps']:.4g} a second on average)",
        "picture": f"{video['width']} x {video['height']}, {video['codec']}",
        "looked at": f"{summary['scored_frames']} frames, {summary['settings']['rate']:g} a second",
        "shots": f"{len(shots)}, of which a skim keeps {len(kept)} ({format_clock(skimmed, 1)})",
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
