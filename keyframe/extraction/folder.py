"""The folder of one video's results: its name, how a new one replaces an older one, and what is in it."""

import io
import json
import os
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from PIL import Image

from keyframe.drawing import FAINT, INK, PALETTE, TEXT, dress, key, save_figure, sheet, shot_opacity, time_axis
from keyframe.files import (
    atomic_folder,
    format_clock,
    one_line,
    read_json,
    remove_abandoned_drafts,
    write_table,
    write_text,
)
from keyframe.report import Document, Gallery, ImageFile, Notes, Section, Table, write_report
from keyframe.summary.candidates import Candidates, Selection
from keyframe.types import Int64Array, IntArray, KeyframeError

MADE_BY = "keyframe-extract"
_SUMMARY = "summary.json"
CANDIDATES = "candidates.npy"
# Of candidates.npy: the most that is read, and the attributes of `Candidates` that are kept as they are.
_MOST_CANDIDATES = 2**30
_COLUMNS = ("scores", "seconds", "descriptors", "cells", "sharpness", "brightness", "contrast", "looks")

# File systems allow 255 bytes; drafts and the suffix of a clash need some of them.
_MOST_BYTES = 160
_FORBIDDEN = set('<>:"/\\|?*')
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}

# The curve in inches: narrow enough for text that is readable on a phone.
_WIDTH, _HEIGHT = 6.2, 3.1
_DPI = 150
_MOST_RANKS = 30  # more ranks than these would cover the curve
# The longest side of a keyframe on the page in pixels, up to 60 keyframes. If there are more they are smaller, down to
# the width of the page's columns, so that a page with thousands still opens.
_PREVIEW, _MANY, _SMALLEST = 720, 60, 208


def folder_name(path: Path) -> str:
    """A name for a video's folder that every file system accepts as one name."""
    stem = unicodedata.normalize("NFC", path.stem)
    # Categories C*: control and format characters, and halves of surrogate pairs.
    safe = "".join("_" if c in _FORBIDDEN or unicodedata.category(c)[0] == "C" else c for c in stem)
    safe = safe.encode()[:_MOST_BYTES].decode(errors="ignore").strip(" .")
    if safe.startswith("-") or safe.split(".")[0].lower() in _RESERVED:
        safe = f"_{safe}"
    return safe or "video"


def read_summary(directory: Path) -> dict[str, Any] | None:
    """The summary in a folder of ours; None if there is none, or it was not written by us."""
    try:
        summary = read_json(directory / _SUMMARY)
    except KeyframeError:
        return None
    if not isinstance(summary, dict) or summary.get("made_by") != MADE_BY:
        return None
    kinds = {"files": list, "fingerprint": str, "keyframes": list, "video": dict}
    return summary if all(isinstance(summary.get(key), kind) for key, kind in kinds.items()) else None


def is_complete(directory: Path, summary: dict[str, Any]) -> bool:
    """Whether the files that a summary names are those in its folder."""
    there = {entry.name for entry in directory.iterdir() if entry.is_file()}
    return all(isinstance(name, str) and name in there for name in summary["files"])


@contextmanager
def results_folder(directory: Path) -> Iterator[Path]:
    """An atomic folder for results: those of an earlier extraction are replaced, other files there are kept."""
    _require_ours(directory)
    with atomic_folder(directory, _keep_others) as draft:
        yield draft
        _require_ours(directory)


def remove_abandoned(output: Path) -> set[Path]:
    """Remove the drafts of `results_folder` in a folder whose process has ended; returns the folders still written."""
    return remove_abandoned_drafts(output, _keep_others)


def remove_draft_of(directory: Path) -> None:
    """Remove the draft of one folder, which may be a link, if its process has ended."""
    place = Path(os.path.realpath(directory))
    remove_abandoned_drafts(place.parent, _keep_others, place.name)


def _keep_others(old: Path, directory: Path) -> None:
    """Move the files that are not ours from the old folder to the one that replaces it."""
    ours = (read_summary(old) or {"files": []})["files"]
    for entry in old.iterdir():
        if entry.name not in ours:
            place = directory / entry.name
            while os.path.lexists(place):
                place = place.with_stem(f"{place.stem} (kept)")
            entry.rename(place)


def _require_ours(directory: Path) -> None:
    if not directory.exists():
        return
    if not directory.is_dir() or (read_summary(directory) is None and any(directory.iterdir())):
        raise KeyframeError(f"{directory} was not made by {MADE_BY}: move it away or choose another output.")


def write_summary(directory: Path, summary: Mapping[str, Any]) -> None:
    """Write `summary.json` into a folder that is otherwise complete; it lists the files there."""
    files = sorted([*(path.name for path in directory.iterdir()), _SUMMARY])
    write_text(directory / _SUMMARY, json.dumps({**summary, "files": files}, indent=2, sort_keys=True) + "\n")


def write_scores(directory: Path, frames: IntArray, candidates: Candidates, selection: Selection) -> None:
    """Write `scores.csv`, a row per scored frame: frame, seconds, score, shot (from 1), selected (0 or 1)."""
    selected = np.zeros(len(frames), dtype=np.int64)
    selected[selection.keyframes] = 1
    names = ("frame", "seconds", "score", "shot", "selected")
    seconds, scores = ([f"{value:.6f}" for value in values] for values in (candidates.seconds, candidates.scores))
    rows = zip(frames.tolist(), seconds, scores, (candidates.shot_of + 1).tolist(), selected.tolist(), strict=True)
    write_table(directory / "scores.csv", [dict(zip(names, row, strict=True)) for row in rows])


def write_curve(directory: Path, title: str, candidates: Candidates, selection: Selection, scored_by: str) -> None:
    """Write `curve.png`: scores from 0 to 1 over the video's clock, its shots, its keyframes and the best ranks."""
    seconds, scores = candidates.seconds, candidates.scores
    colour, mark = PALETTE[1], PALETTE[0]
    figure = sheet(one_line(title), _HEIGHT, _WIDTH)
    axis = dress(figure.add_subplot())
    starts = seconds[candidates.shots[1:, 0]]
    axis.vlines(starts, 0, 1, color=FAINT, linewidth=0.7, alpha=shot_opacity(len(starts)), zorder=0)
    # The last scored frame stands for what follows it.
    times, values = np.append(seconds, candidates.duration), np.append(scores, scores[-1])
    axis.fill_between(times, values, color=colour, alpha=0.12, linewidth=0)
    (line,) = axis.plot(times, values, color=colour, linewidth=1.3 if len(seconds) < 500 else 0.8)
    at, height = seconds[selection.keyframes], scores[selection.keyframes]
    (dots,) = axis.plot(at, height, "o", color=mark, markersize=5.5, mew=0.8, mec="white", clip_on=False)
    labels = ["score", "keyframe and its rank", "start of a shot"]
    key(figure, [line, dots, Line2D([], [], color=FAINT)], labels, f"Scored by {scored_by}")
    style: dict[str, Any] = {"ha": "center", "va": "bottom", "size": TEXT - 1, "color": INK}
    for second, score, rank in zip(at.tolist(), height.tolist(), selection.ranks.tolist(), strict=True):
        if rank <= _MOST_RANKS:
            axis.annotate(str(rank), (second, score), (0, 5), textcoords="offset points", **style)
    axis.set_xlim(seconds[0], candidates.duration)
    axis.set_ylim(0, min(max(float(np.max(scores)) * 1.15, 0.1), 1.08))
    axis.set_ylabel("importance")
    time_axis(axis)
    save_figure(figure, directory / "curve.png", _DPI)


def write_page(directory: Path, summary: Mapping[str, Any]) -> None:
    """Write `index.html` into a folder that holds the keyframes and the curve: these, and how they were made."""
    most = max(_SMALLEST, round(_PREVIEW * min(1.0, _MANY / len(summary["keyframes"])) ** 0.5))
    with TemporaryDirectory() as previews:
        images = []
        for keyframe in sorted(summary["keyframes"], key=lambda one: one["seconds"]):
            preview = (Path(previews) / keyframe["file"]).with_suffix(".jpg")
            with Image.open(directory / keyframe["file"]) as still:
                still.thumbnail((most, most), Image.Resampling.LANCZOS)
                still.save(preview, quality=85)
            time = format_clock(keyframe["seconds"], 1)
            caption = f"{time}, rank {keyframe['rank']}, score {keyframe['score']:.2f}"
            images.append(ImageFile(preview, f"The frame at {time}", caption))
        write_report(_document(directory, summary, images), directory, ("html",), "index")


def _document(directory: Path, summary: Mapping[str, Any], images: list[ImageFile]) -> Document:
    video, shots, settings = summary["video"], summary["shots"], summary["settings"]
    scored_by, length = summary["scorer"]["name"], format_clock(video["duration"], 1)
    count = "1 keyframe" if len(images) == 1 else f"{len(images)} keyframes"
    legend = "Importance of the scored frames, 1 the most; grey lines are the starts of shots."
    curve = ImageFile(directory / "curve.png", "Importance over time, with the keyframes on it", legend)
    kept = [shot["end"] - shot["start"] for shot in shots if shot["kept"]]
    facts = {
        "length": f"{length} ({video['frames']} frames, {video['fps']:.4g} per second on average)",
        "frame": f"{video['width']} x {video['height']}, {video['codec']}",
        "scored": f"{summary['scored_frames']} frames, {settings['rate']:g} per second",
        "shots": f"{len(shots)}, of which a skim keeps {len(kept)} ({format_clock(sum(kept), 1)})",
        "scored by": scored_by,
    }
    if "checkpoint_sha256" in summary["scorer"]:
        facts["checkpoint"] = f"SHA-256 {summary['scorer']['checkpoint_sha256']}"
    for name, part in (("cut by", "shots"), ("selected by", "selection"), ("read by", "reader")):
        values = dict(settings[part])
        kind = values.pop("kind")
        rest = ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)
        facts[name] = f"{kind}: {rest}" if rest else kind
    notes = [Notes(summary["notes"])] if summary["notes"] else []
    return Document(
        title=video["name"],
        lead=f"{count} of {length}, scored by {scored_by}.",
        sections=[
            Section("Keyframes", [*notes, Gallery(images)]),
            Section("Importance over time", [curve]),
            Section("How it was made", [Table([{"": name, "value": facts[name]} for name in facts], numeric=())]),
        ],
        footer=f"Made by keyframe {summary['versions']['keyframe']}.",
    )


def write_candidates(directory: Path, frames: Int64Array, candidates: Candidates) -> None:
    """Write `candidates.npy`, from which another choice needs no decoding: a row per frame, with its number (n,)."""
    columns = {name: getattr(candidates, name) for name in _COLUMNS if getattr(candidates, name) is not None}
    columns |= {"frames": frames, "shot": candidates.shot_of, "duration": np.full(len(frames), candidates.duration)}
    dtype = [(name, column.dtype, column.shape[1:]) for name, column in columns.items()]
    table = np.empty(len(frames), dtype)
    for name, column in columns.items():
        table[name] = column
    content = io.BytesIO()  # numpy's own writing to a file hides why a disk refuses it
    np.save(content, table, allow_pickle=False)
    (directory / CANDIDATES).write_bytes(content.getbuffer())


def read_candidates(directory: Path) -> tuple[Int64Array, Candidates]:
    """The numbers and the candidates that `write_candidates` has written, to the bit; KeyframeError if it has not.

    The file may come from anywhere: it is read as data, and checked.
    """
    path = directory / CANDIDATES
    try:
        if path.stat().st_size > _MOST_CANDIDATES:
            raise ValueError("it is too large")
        table = np.load(path, mmap_mode="r", allow_pickle=False)  # a mapping has no more than the file
        columns = {name: np.ascontiguousarray(table[name]) for name in table.dtype.names or ()}
        shot, duration, frames = columns.pop("shot"), columns.pop("duration"), columns.pop("frames")
        if frames.dtype != np.int64 or shot.dtype != np.int64 or not set(columns) <= set(_COLUMNS):
            raise ValueError("it has other columns")
        starts = np.flatnonzero(np.diff(shot, prepend=-1))
        shots = np.stack([starts, np.append(starts[1:], len(shot)) - 1], axis=1)
        return frames, Candidates(**columns, shots=shots, duration=float(duration[0]))
    except (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        reason = one_line(str(error))[:200]
        raise KeyframeError(f"{path} holds no candidates ({reason}): extract the video again.") from error
