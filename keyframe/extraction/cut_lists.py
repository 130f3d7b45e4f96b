"""Shots and keyframes for other software: tables and timelines for editors, WebVTT for players.

All are written from the values of `summary.json`. A timeline holds the shots that a skim keeps, one after the other,
and counts frames at the video's average rate: exact for a constant frame rate.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

from keyframe.files import one_line, write_table, write_text
from keyframe.types import KeyframeError

# (x, y, width, height) of a keyframe on the contact sheet in pixels.
Box = tuple[int, int, int, int]
_Summary = Mapping[str, Any]


def check_cut_lists(kinds: Sequence[str]) -> None:
    """Refuse kinds that cannot be written."""
    if isinstance(kinds, str) or not set(kinds) <= _WRITERS.keys():
        given = kinds if isinstance(kinds, str) else list(kinds)
        raise KeyframeError(f"cut_lists={given} must be a list of any of {', '.join(_WRITERS)}.")


def write_cut_lists(directory: Path, summary: _Summary, boxes: Sequence[Box], kinds: Sequence[str]) -> None:
    """Write files of these kinds into a folder that holds the contact sheet.

    Kinds are any of `csv` (shots.csv), `edl` (cuts.edl), `otio` (cuts.otio), `vtt` (chapters.vtt, thumbnails.vtt);
    `boxes` are where the keyframes lie on the contact sheet, in order of time; `summary` is that of `summary.json`.
    """
    for kind in kinds:
        _WRITERS[kind](directory, summary, boxes)


def _write_csv(directory: Path, summary: _Summary, boxes: Sequence[Box]) -> None:
    """A row per shot: seconds, first frame and one past the last, whether a skim keeps it, and its keyframes."""
    rows = []
    for shot, (first, stop) in zip(summary["shots"], _frames(summary), strict=True):
        own = sorted((one for one in summary["keyframes"] if one["shot"] == shot["shot"]), key=lambda one: one["rank"])
        row = {"shot": shot["shot"], "start": f"{shot['start']:.6f}", "end": f"{shot['end']:.6f}"}
        row |= {"first_frame": first, "stop_frame": stop, "kept": int(shot["kept"])}
        rows.append(row | {"keyframes": " ".join(one["file"] for one in own)})
    write_table(directory / "shots.csv", rows)


def _write_edl(directory: Path, summary: _Summary, boxes: Sequence[Box]) -> None:
    """CMX 3600, without drop frames: number, reel, track, cut, source in and out, record in and out."""
    name, base = one_line(summary["video"]["name"]), max(1, round(_rate(summary)))
    lines, at = [f"TITLE: {name}", "FCM: NON-DROP FRAME", ""], 0
    for number, (first, stop) in enumerate(_kept(summary), start=1):
        times = (_timecode(frame, base) for frame in (first, stop, at, at + stop - first))
        lines += [f"{number:03}  AX       V     C        {' '.join(times)}", f"* FROM CLIP NAME: {name}", ""]
        at += stop - first
    write_text(directory / "cuts.edl", "\n".join(lines))


def _timecode(frame: int, base: int) -> str:
    seconds, frames = divmod(frame, base)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{frames:02}"


def _write_otio(directory: Path, summary: _Summary, boxes: Sequence[Box]) -> None:
    """OpenTimelineIO's JSON: a clip per kept shot, with a marker at each keyframe."""
    rate, name = float(_rate(summary)), summary["video"]["name"]

    def otio(schema: str, **values: Any) -> dict[str, Any]:
        return {"OTIO_SCHEMA": schema, **values}

    def span(first: int, stop: int) -> dict[str, Any]:
        start, length = (otio("RationalTime.1", rate=rate, value=float(frame)) for frame in (first, stop - first))
        return otio("TimeRange.1", start_time=start, duration=length)

    whole = span(0, max(stop for _, stop in _frames(summary)))
    media = {"DEFAULT_MEDIA": otio("ExternalReference.1", target_url=quote(name), available_range=whole)}
    clips = []
    frames = [(one, round(one["seconds"] * rate)) for one in summary["keyframes"]]
    for first, stop in _kept(summary):
        markers = [
            otio("Marker.2", name=f"keyframe {one['rank']}", marked_range=span(frame, frame + 1))
            for one, frame in frames
            if first <= frame < stop
        ]
        clip = otio("Clip.2", name=name, source_range=span(first, stop), media_references=media)
        clips.append({**clip, "active_media_reference_key": "DEFAULT_MEDIA", "markers": markers})
    track = otio("Track.1", name="shots", kind="Video", children=clips)
    timeline = otio("Timeline.1", name=name, tracks=otio("Stack.1", name="tracks", children=[track]))
    write_text(directory / "cuts.otio", json.dumps(timeline, indent=2) + "\n")


def _write_vtt(directory: Path, summary: _Summary, boxes: Sequence[Box]) -> None:
    """WebVTT: a chapter per shot; and for each moment the nearest keyframe, as its place on the contact sheet."""
    chapters = [(shot["start"], shot["end"], f"Shot {shot['shot']}") for shot in summary["shots"]]
    write_text(directory / "chapters.vtt", _webvtt(chapters))
    seconds = [one["seconds"] for one in sorted(summary["keyframes"], key=lambda one: one["seconds"])]
    edges = [summary["shots"][0]["start"], *((one + other) / 2 for one, other in pairwise(seconds))]
    ends = [*edges[1:], summary["shots"][-1]["end"]]
    areas = [f"contact_sheet.jpg#xywh={','.join(map(str, box))}" for box in boxes]
    write_text(directory / "thumbnails.vtt", _webvtt(list(zip(edges, ends, areas, strict=True))))


def _webvtt(cues: Sequence[tuple[float, float, str]]) -> str:
    """A WebVTT file (W3C) of cues (start, end, text); those shorter than a millisecond are left out."""
    shown = [(round(start * 1000), round(end * 1000), text) for start, end, text in cues]
    blocks = [f"{_clock(start)} --> {_clock(end)}\n{text}\n" for start, end, text in shown if start < end]
    return "\n".join(["WEBVTT\n", *blocks])


def _clock(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{rest:03}"


def _rate(summary: _Summary) -> Fraction:
    """Frames per second; the record has six decimals of 30000/1001 and its like."""
    return max(Fraction(summary["video"]["fps"]).limit_denominator(1001), Fraction(1, 1001))


def _frames(summary: _Summary) -> list[tuple[int, int]]:
    """First frame of each shot, and one past its last, counted at `_rate`."""
    rate = float(_rate(summary))
    return [(round(shot["start"] * rate), round(shot["end"] * rate)) for shot in summary["shots"]]


def _kept(summary: _Summary) -> list[tuple[int, int]]:
    """`_frames` of the shots that a skim keeps and that last a frame."""
    shots = zip(_frames(summary), summary["shots"], strict=True)
    return [(first, stop) for (first, stop), shot in shots if shot["kept"] and first < stop]


_WRITERS: dict[str, Callable[[Path, _Summary, Sequence[Box]], None]] = {
    "csv": _write_csv,
    "edl": _write_edl,
    "otio": _write_otio,
    "vtt": _write_vtt,
}
