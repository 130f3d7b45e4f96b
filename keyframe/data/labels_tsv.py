"""Read and write labels in the form of TVSum's official `ydata-tvsum50-anno.tsv`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from keyframe.errors import KeyframeError
from keyframe.files import draft_of
from keyframe.types import IntArray, Labels


def read_tvsum_tsv(path: str | Path, lowest: float = 1.0, highest: float = 5.0) -> dict[str, Labels]:
    """Read labels, one annotator of one video a row.

    A row is `video_id<TAB>category<TAB>scores`, the scores separated by commas, one a frame; there is no
    header. A video has as many rows as annotators, which need not follow each other. The file is read row
    by row.

    Args:
        path: `ydata-tvsum50-anno.tsv` (Song et al., TVSum, CVPR 2015) or a file of one's own in that form.
        lowest: the score that becomes 0.
        highest: the score that becomes 1.

    Returns:
        Video id -> labels, in the order in which the ids first occur; `importance` is the annotators' mean.

    Raises:
        KeyframeError: if the file is missing, empty or no text, or a row has another number of columns or
            of scores than it should, another category than the video's first row, or a score that is no
            number in [lowest, highest]; the message names the line.
    """
    path = Path(path)
    if not lowest < highest:
        raise KeyframeError(f"{path}: the lowest score, {lowest}, must be below the highest, {highest}")
    rows: dict[str, list[npt.NDArray[np.float32]]] = {}
    categories: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                where = f"{path}, line {number}"
                name, category, scores = _parse_row(line, where, lowest, highest)
                known = rows.setdefault(name, [])
                if known and len(known[0]) != len(scores):
                    raise KeyframeError(
                        f"{where}: {name} has {len(scores)} scores, its first row {len(known[0])}: "
                        "every annotator must score every frame"
                    )
                if categories.setdefault(name, category) != category:
                    raise KeyframeError(
                        f"{where}: {name} is of category {category!r}, its first row of "
                        f"{categories[name]!r}: give it one category"
                    )
                known.append(scores)
    except FileNotFoundError as error:
        raise KeyframeError(f"there is no file {path}: set data.labels to the label file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise KeyframeError(
            f"{path} cannot be read as text ({error}): give a tab-separated file as data.labels"
        ) from error
    if not rows:
        raise KeyframeError(f"{path} is empty: give a file with rows `video_id<TAB>category<TAB>scores`")
    # Popped, so that no more than one video is held twice.
    return {name: _labels(rows.pop(name), categories[name]) for name in list(rows)}


def write_tsv(
    path: str | Path, annotators: Mapping[str, IntArray], categories: Mapping[str, str] | None = None
) -> None:
    """Write labels in the form that `read_tvsum_tsv` reads.

    The file appears whole or not at all: it is written under another name and then renamed.

    Args:
        path: the file to write; its folder must exist, a file that is there is replaced.
        annotators: video id -> scores 1 ... 5, integers, shape (A, L) with A, L >= 1.
        categories: video id -> category; a video that is not named gets none.

    Raises:
        ValueError: if there is no video, an array is no (A, L) of integers from 1 to 5, or an id or
            category holds a tab or a line break.
    """
    path = Path(path)
    if not annotators:
        raise ValueError("there are no labels to write")
    for name, scores in annotators.items():
        if scores.ndim != 2 or not scores.size or not np.issubdtype(scores.dtype, np.integer):
            raise ValueError(f"scores of {name} must be integers (A, L), not {scores.dtype} {scores.shape}")
        if scores.min() < 1 or scores.max() > 5:
            raise ValueError(f"scores of {name} must lie in 1 ... 5, not {scores.min()} ... {scores.max()}")
        texts = (name, (categories or {}).get(name, ""))
        if not name or any(c in text for text in texts for c in "\t\r\n"):
            raise ValueError(f"{name!r} cannot stand in a row: no tabs or line breaks, and an id is needed")
    with draft_of(path) as draft, draft.open("w", encoding="utf-8", newline="\n") as file:
        for name, scores in annotators.items():
            category = (categories or {}).get(name, "")
            for row in scores.tolist():
                file.write(f"{name}\t{category}\t{','.join(map(str, row))}\n")


def _parse_row(line: str, where: str, lowest: float, highest: float) -> tuple[str, str, npt.NDArray[np.float32]]:
    """Split a row into id, category and scores in [0, 1]."""
    columns = [column.strip() for column in line.rstrip("\r\n").split("\t")]
    if len(columns) != 3 or not columns[0]:
        raise KeyframeError(
            f"{where}: a row needs 3 columns separated by tabs, video_id, category and scores, "
            f"not {len(columns)}{'' if columns[0] else ' with an empty id'}"
        )
    texts = columns[2].split(",")
    try:
        scores = np.array(texts, dtype=np.float64)
    except ValueError as error:
        raise KeyframeError(
            f"{where}: {_first_bad(texts)!r} is no number: the third column must hold numbers separated by commas"
        ) from error
    inside = (scores >= lowest) & (scores <= highest)  # False for NaN
    if not inside.all():
        frame = int(np.argmin(inside))
        raise KeyframeError(
            f"{where}: score {texts[frame].strip()} of frame {frame} lies outside [{lowest:g}, {highest:g}]: "
            "mend the file or give the scale it uses"
        )
    return columns[0], columns[1], ((scores - lowest) / (highest - lowest)).astype(np.float32)


def _first_bad(texts: list[str]) -> str:
    for text in texts:
        try:
            float(text)
        except ValueError:
            return text.strip()[:40]
    return ""


def _labels(rows: list[npt.NDArray[np.float32]], category: str) -> Labels:
    annotators = np.stack(rows)
    # Summed in float64, as for the .mat, so that both files give the same importance.
    importance = annotators.mean(axis=0, dtype=np.float64).astype(np.float32)
    return Labels(importance=importance, annotators=annotators, category=category)
