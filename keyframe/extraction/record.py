"""What an extraction says of itself in files: a row a scored frame, and all that is needed to redo it."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import keyframe
from keyframe.data.packets import PacketIndex
from keyframe.evaluation.record import write_table
from keyframe.extraction.folder import MADE_BY, SUMMARY
from keyframe.extraction.scorers import Scorer
from keyframe.files import write_text
from keyframe.summary.candidates import Candidates, Selection
from keyframe.summary.stills import Still
from keyframe.types import IntArray

# Decimals: a millionth of a second, of a score.
_DIGITS = 6
_LIBRARIES = ("av", "decord", "numpy", "scipy", "pillow", "matplotlib")


def write_scores(path: Path, frames: IntArray, candidates: Candidates, selection: Selection) -> None:
    """Write a CSV row a scored frame: frame, seconds, score, shot (from 1), selected (0 or 1)."""
    chosen = set(selection.keyframes.tolist())
    columns = zip(frames.tolist(), candidates.seconds, candidates.scores, candidates.shot_of.tolist(), strict=True)
    write_table(
        path,
        [
            {
                "frame": frame,
                "seconds": f"{seconds:.{_DIGITS}f}",
                "score": f"{score:.{_DIGITS}f}",
                "shot": shot + 1,
                "selected": int(place in chosen),
            }
            for place, (frame, seconds, score, shot) in enumerate(columns)
        ],
    )


def shot_spans(candidates: Candidates) -> list[tuple[float, float]]:
    """Start and end of each shot in seconds; the first starts at 0, the last ends with the video."""
    starts = [0.0, *candidates.seconds[candidates.shots[1:, 0]].tolist()]
    return list(zip(starts, [*starts[1:], candidates.duration], strict=True))


def summary_of(
    index: PacketIndex,
    content: str,
    candidates: Candidates,
    selection: Selection,
    stills: Sequence[Still],
    scorer: Scorer,
    settings: Mapping[str, Any],
    fingerprint: str,
    libraries: Sequence[str],
) -> dict[str, Any]:
    """All that is needed to redo an extraction and to know it again, and what came out; plain values.

    Neither a clock nor a place of this machine is in it: redone, it is the same to the byte.
    """
    height, width = index.upright_size
    places = selection.keyframes.tolist()
    return {
        "made_by": MADE_BY,
        "fingerprint": fingerprint,
        "versions": {"keyframe": keyframe.__version__, **_versions([*_LIBRARIES, *scorer.libraries, *libraries])},
        "scorer": {**scorer.description, "name": scorer.name},
        "settings": dict(settings),
        "video": {
            "name": index.path.name,
            "content": content,
            "codec": index.codec,
            "width": width,
            "height": height,
            "frames": index.n_frames,
            "fps": round(index.fps, _DIGITS),
            "duration": round(index.duration, _DIGITS),
        },
        "scored_frames": len(candidates),
        "shots": [
            {"shot": number, "start": round(start, _DIGITS), "end": round(end, _DIGITS), "kept": bool(kept)}
            for number, ((start, end), kept) in enumerate(
                zip(shot_spans(candidates), selection.shots_kept, strict=True), start=1
            )
        ],
        "asked": selection.asked,
        "keyframes": [
            {
                "rank": still.rank,
                "file": still.path.name,
                "frame": still.frame,
                "seconds": round(still.seconds, _DIGITS),
                "score": round(float(candidates.scores[place]), _DIGITS),
                "shot": int(candidates.shot_of[place]) + 1,
            }
            for still, place in zip(stills, places, strict=True)
        ],
        "notes": list(selection.notes),
    }


def write_summary(directory: Path, summary: Mapping[str, Any]) -> None:
    """Write `summary.json` into a folder that is otherwise complete; it lists the files there."""
    files = sorted([*(path.name for path in directory.iterdir()), SUMMARY])
    write_text(directory / SUMMARY, json.dumps({**summary, "files": files}, indent=2, sort_keys=True) + "\n")


def _versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of those that are installed."""
    return {name: version for name in names if (version := _version(name)) is not None}


@cache
def _version(name: str) -> str | None:
    """Read once a process: it opens and parses a file."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
