"""Labels in JSON and in tables: matrices of scores or selections, segments in seconds, times of keyframes."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keyframe.data.hdf5 import checked_id
from keyframe.files import one_line, read_json, read_small, reading
from keyframe.types import BoolArray, Float32Array, FloatArray, Int64Array, KeyframeError, Labels, check_number

_LARGEST = 2**26  # bytes of a file: fifty videos of ten minutes and twenty annotators take half of it
_MOST_ANNOTATORS = 1000  # of one video
_AROUND = 0.5  # seconds before and after a keyframe that it stands for: the scored frames are half a second apart
_SEGMENTS, _KEYFRAMES = {"video", "start", "end"}, {"video", "time"}
_OPTIONAL = {"score", "annotator", "category"}
_FORMS = ("user_summary", "scores", "segments", "keyframes")  # of one video in a JSON object


@dataclass(frozen=True)
class TimedLabels:
    """Labels of one video in seconds from its first frame; `sampling.frame_labels` gives each frame its own."""

    starts: FloatArray  # first second of each span, float64 (n,)
    ends: FloatArray  # its end, which is not in it, float64 (n,)
    scores: Float32Array  # of each span in [0, 1], float32 (n,); what is in no span has 0
    annotators: Int64Array  # number of each span's annotator, from 0, int64 (n,)
    selections: bool  # as of `Labels`: spans without scores
    of_keyframes: bool  # whether a span is what stands around a keyframe
    category: str  # of the video, "" if the file names none
    where: str  # the file and the video, for messages


def check_scale(lowest: float, highest: float) -> None:
    """Refuse a scale of label files that is no range of numbers."""
    for key, value in (("lowest", lowest), ("highest", highest)):
        check_number(key, value, -math.inf, whole=False)
    if not lowest < highest:
        raise KeyframeError(f"lowest={lowest}, a score of the label file, must be below highest={highest}.")


def outside_scale(scores: FloatArray, where: str, lowest: float, highest: float) -> KeyframeError | None:
    """The error of the first score that lies outside the scale, if one does."""
    inside = (scores >= lowest) & (scores <= highest)  # False for NaN
    if inside.all():
        return None
    frame = int(np.argmin(inside))
    return KeyframeError(
        f"{where}: score {scores[frame]:g} of frame {frame} lies outside [{lowest:g}, {highest:g}]: "
        "correct the file, or give its scale with lowest and highest"
    )


def of_annotators(annotators: FloatArray | BoolArray, category: str, selections: bool = False) -> Labels:
    """Labels of scores in [0, 1], (A, L)."""
    # float64, so that all forms give the same
    importance = annotators.mean(axis=0, dtype=np.float64).astype(np.float32)
    return Labels(importance, np.asarray(annotators, np.float32), category, selections)


def is_table(line: str) -> bool:
    """Whether the first line of a text names the columns of segments or keyframes."""
    names = set(_columns(line)[0])
    return names >= _SEGMENTS or names >= _KEYFRAMES


def _columns(line: str) -> tuple[list[str], str]:
    """The names of the columns, and what separates them."""
    delimiter = max("\t;,", key=line.count)
    return [name.strip().lower() for name in line.split(delimiter)], delimiter


def read_label_table(path: Path, lowest: float, highest: float) -> dict[str, TimedLabels]:
    """Read segments or keyframes from a text with a header: video id -> labels, in file order.

    The columns are `video`, and `start` and `end` or `time`, in seconds; `score` (of all segments or of none),
    `annotator` and `category` may be there. They are separated by commas, semicolons or tabs.
    """
    with reading(path, "text", "give another file"):
        lines = read_small(path, _LARGEST).splitlines()
    header = next((number for number, line in enumerate(lines) if line.strip()), 0)
    names, delimiter = _columns(lines[header])

    def rows() -> Iterator[tuple[str, Mapping[str, Any]]]:
        for number, cells in enumerate(csv.reader(lines[header + 1 :], delimiter=delimiter), start=header + 2):
            where = f"{path}, line {number}"
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(names):
                raise KeyframeError(f"{where}: a row needs {len(names)} columns as the first line, not {len(cells)}")
            yield where, {name: cell.strip() for name, cell in zip(names, cells, strict=True) if cell.strip()}

    with reading(path, "a table", "correct it"):
        return _of_rows(rows(), path, lowest, highest)


def read_json_labels(path: Path, lowest: float, highest: float) -> dict[str, Labels | TimedLabels]:
    """Read a JSON file: video id -> labels, in file order.

    It is a list of the rows of `read_label_table` as objects; or an object of one object per video, which holds one of
    `user_summary` (DSNet: 0 or 1 for each annotator and frame), `scores` (for each frame, of one or each annotator),
    `segments` ([start, end] or [start, end, score] each) and `keyframes` (seconds), and maybe `category`; or that of
    one video, whose id is the name of the file.
    """
    content = read_json(path, _LARGEST)
    if isinstance(content, list):
        return dict(_of_rows(_records(content, path), path, lowest, highest))
    if isinstance(content, dict) and any(key in _FORMS for key in content):
        content = {path.stem: content}
    if not isinstance(content, dict) or not content:
        raise KeyframeError(f"{path} holds no labels: it needs an object per video with {', '.join(_FORMS)}")
    labels: dict[str, Labels | TimedLabels] = {}
    for name, one in content.items():
        where = f"{path}: {checked_id(name, str(path))}"
        found = [key for key in _FORMS if isinstance(one, dict) and key in one]
        if len(found) != 1 or set(one) - {"category", *found}:
            raise KeyframeError(
                f"{where} needs one of {', '.join(_FORMS)}, and maybe category, "
                f"not {one_line(str(list(one) if isinstance(one, dict) else one))[:80]}"
            )
        category, values = str(one.get("category", "")), one[found[0]]
        if found[0] in ("user_summary", "scores"):
            labels[name] = _of_matrix(values, found[0], where, category, lowest, highest)
            continue
        if not isinstance(values, list):
            raise KeyframeError(f"{where}: {found[0]} must be a list")
        names = ("time",) if found[0] == "keyframes" else ("start", "end", "score")
        spans = [value if isinstance(value, list) else [value] for value in values]
        if any(not min(len(names), 2) <= len(span) <= len(names) for span in spans):
            raise KeyframeError(f"{where}: each of {found[0]} must be [{', '.join(names)}]")
        rows = ({"video": name, "category": category} | dict(zip(names, span, strict=False)) for span in spans)
        labels |= _of_rows(((where, row) for row in rows), path, lowest, highest)
    return labels


def _records(content: list[Any], path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, row in enumerate(content, start=1):
        where = f"{path}, row {number}"
        if not isinstance(row, dict):
            raise KeyframeError(f"{where} is not an object with video, start and end, or video and time")
        yield where, {key: value for key, value in row.items() if value is not None}


def _of_matrix(values: Any, form: str, where: str, category: str, lowest: float, highest: float) -> Labels:
    """Labels of a list per annotator, or of one list."""
    try:
        array = np.atleast_2d(np.array(values))
    except ValueError:  # of several lengths
        array = np.empty(0, dtype=object)
    if array.ndim != 2 or not array.size or array.dtype.kind not in "biuf":
        raise KeyframeError(f"{where}: {form} must be numbers, a list of one length per annotator")
    if len(array) > _MOST_ANNOTATORS:
        raise KeyframeError(f"{where} has {len(array)} annotators, over {_MOST_ANNOTATORS}: one list per annotator")
    if form == "user_summary":
        if not np.isin(array, (0, 1)).all():
            raise KeyframeError(f"{where}: user_summary must be 0 and 1: call it scores if it has a scale")
        return of_annotators(array == 1, category, selections=True)
    for annotator in array.astype(np.float64):
        if (error := outside_scale(annotator, where, lowest, highest)) is not None:
            raise error
    return of_annotators((array - lowest) / (highest - lowest), category)


def _of_rows(
    rows: Iterable[tuple[str, Mapping[str, Any]]], path: Path, lowest: float, highest: float
) -> dict[str, TimedLabels]:
    """Labels of the rows of a table, each with the place that it stands at."""
    videos: dict[str, list[tuple[str, float, float, float, str]]] = {}
    categories: dict[str, str] = {}
    first: set[str] | None = None
    for where, row in rows:
        kind = set(row) - {"annotator", "category"}
        if kind - {"score"} not in (_SEGMENTS, _KEYFRAMES) or kind == {"score", *_KEYFRAMES}:
            raise KeyframeError(
                f"{where}: the columns must be video, start and end, or video and time, and maybe "
                f"{', '.join(sorted(_OPTIONAL))}, not {one_line(', '.join(map(str, row)))[:80]}"
            )
        first = first or kind
        if kind != first:
            raise KeyframeError(f"{where} has {', '.join(sorted(kind))}, the rows before {', '.join(sorted(first))}")
        name = checked_id(str(row["video"]), where)
        if "time" in kind:
            time = _number(row, "time", where, is_time=True)
            start, end = time - _AROUND, time + _AROUND
        else:
            start, end = (_number(row, key, where, is_time=True) for key in ("start", "end"))
            if start >= end:
                raise KeyframeError(f"{where}: the segment starts at {start:g} s and ends at {end:g} s: correct it")
        score = 1.0
        if "score" in kind:
            value = _number(row, "score", where)
            if not lowest <= value <= highest:
                raise KeyframeError(
                    f"{where}: score {value:g} lies outside [{lowest:g}, {highest:g}]: correct the file, or give its "
                    "scale with lowest and highest"
                )
            score = (value - lowest) / (highest - lowest)
        category = str(row.get("category", ""))
        if categories.setdefault(name, category) != category:
            raise KeyframeError(f"{where}: {name} is of category {category!r} and {categories[name]!r}: give it one")
        videos.setdefault(name, []).append((str(row.get("annotator", "")), start, end, score, where))
    if first is None:
        raise KeyframeError(f"{path} holds no labels: give a row per segment or keyframe")
    return {
        name: _of_spans(spans, f"{path}: {name}", categories[name], "score" not in first, "time" in first)
        for name, spans in videos.items()
    }


def _of_spans(
    spans: list[tuple[str, float, float, float, str]], where: str, category: str, selections: bool, of_keyframes: bool
) -> TimedLabels:
    """Labels of the spans of one video: annotator, start, end, score and place of each."""
    numbers: dict[str, int] = {}
    for annotator, *_ in spans:
        numbers.setdefault(annotator, len(numbers))
    if len(numbers) > _MOST_ANNOTATORS:
        raise KeyframeError(f"{where} has {len(numbers)} annotators, over {_MOST_ANNOTATORS}: correct the file")
    ends: dict[str, float] = {}
    for annotator, start, end, _, place in sorted(spans, key=lambda span: span[1]):
        if not of_keyframes and start < ends.get(annotator, 0.0) - 1e-6:
            raise KeyframeError(
                f"{place}: the segment from {start:g} to {end:g} s overlaps another that ends at {ends[annotator]:g} "
                "s: tell annotators apart by a column annotator, or correct the times"
            )
        ends[annotator] = end
    return TimedLabels(
        starts=np.array([span[1] for span in spans]),
        ends=np.array([span[2] for span in spans]),
        scores=np.array([span[3] for span in spans], np.float32),
        annotators=np.array([numbers[span[0]] for span in spans], np.int64),
        selections=selections,
        of_keyframes=of_keyframes,
        category=category,
        where=where,
    )


def _number(row: Mapping[str, Any], key: str, where: str, is_time: bool = False) -> float:
    try:
        number = math.nan if isinstance(row[key], bool) else float(row[key])
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise KeyframeError(f"{where}: {key} {one_line(str(row[key]))[:40]!r} is not a number")
    if is_time and number < 0:
        raise KeyframeError(f"{where}: {key} {number:g} lies before the video: times are seconds from its start")
    return number
