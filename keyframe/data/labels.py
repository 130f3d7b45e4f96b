"""Labels of videos: the forms in which they are shared.

The forms are TVSum's official `.mat` and `.tsv` (Song et al., CVPR 2015), SumMe's folder of `.mat` (Gygli et al., ECCV
2014), the eccv16-style `.h5`, and the JSON and tables of `label_tables.py`.
"""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from keyframe.data.hdf5 import TVSUM_CATEGORIES, checked_id, named_videos, open_hdf5, read_scores
from keyframe.data.label_tables import (
    TimedLabels,
    check_scale,
    is_table,
    of_annotators,
    outside_scale,
    read_json_labels,
    read_label_table,
)
from keyframe.data.mat5 import MAT5_START, read_mat5
from keyframe.files import atomic_file, one_line, unchanged
from keyframe.system import log_once
from keyframe.types import Float32Array, Float64Array, IntArray, KeyframeError, Labels

LABEL_SUFFIXES = (".mat", ".tsv", ".csv", ".json", ".h5")
"""In order of preference; an h5 holds only one score track at every 15th frame, and no annotators."""

SCALED_SUFFIXES = (".tsv", ".csv", ".json")
"""Those whose scores are on a scale that the user gives, `lowest` to `highest`."""

log = logging.getLogger(__name__)

_START = 2**12  # bytes that tell what a file is
_MAX_LINE = 2**25  # characters of a row: a million scores of ten digits take a third of it


def read_labels(
    path: str | Path, lowest: float = 1.0, highest: float = 5.0, option: str = "data.labels"
) -> dict[str, Labels]:
    """The same as `read_video_labels`, if the file has labels for frames; KeyframeError if it has times."""
    labels: dict[str, Labels] = {}
    for name, one in read_video_labels(path, lowest, highest, option).items():
        if isinstance(one, TimedLabels):
            raise KeyframeError(
                f"{path} holds times, which need the videos: give {option} as scores for every frame here"
            )
        labels[name] = one
    return labels


def read_video_labels(
    path: str | Path, lowest: float = 1.0, highest: float = 5.0, option: str = "data.labels"
) -> dict[str, Labels | TimedLabels]:
    """Read a label file, or a folder with one file per video: video id -> labels, in file order.

    What a file holds decides how it is read. In a folder the files are those of one suffix, the first of
    `LABEL_SUFFIXES` that is there, by name. The scores `lowest` and `highest` of a file of `SCALED_SUFFIXES` become 0
    and 1; `option` is the key by which the user names the file.
    """
    path = Path(path)
    check_scale(lowest, highest)
    if not path.is_dir():
        return _read_file(path, lowest, highest, option)
    labels: dict[str, Labels | TimedLabels] = {}
    for file in label_files(path):
        for name, one in _read_file(file, lowest, highest, option).items():
            if name in labels:
                raise KeyframeError(f"{file} has labels of {name}, as another file of {path} has: remove one of them")
            labels[name] = one
    if not labels:
        raise KeyframeError(f"{path} holds no label file ({', '.join(LABEL_SUFFIXES)}): set {option} to one")
    return labels


def label_files(folder: Path, named: Collection[str] | None = None) -> list[Path]:
    """The label files in a folder: those of one suffix, the first of `LABEL_SUFFIXES` that is there, by name.

    Of .csv and .json it takes only those called as `named` says, if it is given.
    """
    # macOS leaves a hidden "._<name>" beside what it unpacks. TVSum's ...-info.tsv holds no labels.
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    files = [path for path in files if not path.name.endswith("-info.tsv")]
    if named is not None:
        files = [path for path in files if path.suffix.lower() not in (".csv", ".json") or path.name.lower() in named]
    of_suffix = ([path for path in files if path.suffix.lower() == suffix] for suffix in LABEL_SUFFIXES)
    return next((found for found in of_suffix if found), [])


def _read_file(path: Path, lowest: float, highest: float, option: str) -> dict[str, Labels | TimedLabels]:
    suffix = path.suffix.lower()
    if suffix in LABEL_SUFFIXES and suffix not in SCALED_SUFFIXES and (lowest, highest) != (1, 5):
        raise KeyframeError(
            f"{path} has a scale of its own: lowest and highest are those of a .tsv, .csv or .json: leave them out, or "
            "set them to 1 and 5 for this file."
        )
    if not path.is_file():  # opening a pipe would wait for its writer
        raise KeyframeError(f"there is no file {path}: set {option} to the label file")
    if suffix not in LABEL_SUFFIXES:
        raise KeyframeError(f"{path} is no label file: {option} must name a {', '.join(LABEL_SUFFIXES)} file")
    with unchanged(path):
        match _form(path):
            case "mat5":
                return dict(read_summe_mat(path, option))
            case "mat":
                return dict(read_tvsum_mat(path, option))
            case "h5":
                return dict(read_eccv16_h5(path, option))
            case "json":
                return read_json_labels(path, lowest, highest)
            case "table":
                return dict(read_label_table(path, lowest, highest))
            case _:
                return dict(read_tvsum_tsv(path, lowest, highest, option))


def _form(path: Path) -> str:
    """What a label file is, by how it begins; of HDF5 by its suffix."""
    with path.open("rb") as file:
        start = file.read(_START)
    suffix = path.suffix.lower()
    if suffix not in SCALED_SUFFIXES:
        return "mat5" if suffix == ".mat" and start.startswith(MAT5_START) else suffix[1:]
    text = start.decode("utf-8-sig", "replace").lstrip()
    if suffix == ".json" or text.startswith(("{", "[")):
        return "json"
    return "table" if is_table(text.partition("\n")[0]) else "tsv"


def read_tvsum_tsv(
    path: str | Path, lowest: float = 1.0, highest: float = 5.0, option: str = "data.labels"
) -> dict[str, Labels]:
    """Read labels with one row per annotator and video: id -> labels, in the order in which the ids first occur.

    A row is `video_id<TAB>category<TAB>scores`, one score per frame, separated by commas; there is no header. A video
    has as many rows as annotators, in any place. The scores `lowest` and `highest` become 0 and 1; `importance` is the
    annotators' mean.

    If every score of the file is 0 or 1, and the scale is 0 to 1 or has no room for a 0 (as 1 to 5), the annotators
    have selected frames, as SumMe's did: the labels are `selections`.
    """
    path = Path(path)
    if not path.is_file():  # opening a pipe would wait for its writer
        raise KeyframeError(f"there is no file {path}: set {option} to the label file")
    check_scale(lowest, highest)
    rows: dict[str, list[Float32Array]] = {}
    categories: dict[str, str] = {}
    binary, off_scale = True, None
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(iter(lambda: lines.readline(_MAX_LINE + 1), ""), start=1):
                where = f"{path}, line {number}"
                if len(line) > _MAX_LINE:
                    raise KeyframeError(
                        f"{where}: the row is longer than {_MAX_LINE} characters: one row per annotator"
                    )
                if not line.strip():
                    continue
                name, category, scores = _parse_row(line, where)
                binary = binary and bool(np.isin(scores, (0, 1)).all())
                off_scale = off_scale or outside_scale(scores, where, lowest, highest)
                if off_scale is not None and not binary:
                    raise off_scale
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
                known.append(((scores - lowest) / (highest - lowest)).astype(np.float32))
    except (OSError, UnicodeDecodeError, MemoryError) as error:
        raise KeyframeError(
            f"{path} cannot be read as text ({error or 'memory ran out'}): give a tab-separated file as {option}"
        ) from error
    if not rows:
        raise KeyframeError(f"{path} is empty: give a file with rows `video_id<TAB>category<TAB>scores`")
    selections = binary and (off_scale is not None or (lowest, highest) == (0, 1))
    if selections:
        log_once(log, logging.INFO, (path, "selections"), "%s: all scores are 0 or 1: taken as selected frames", path)
    kept = np.float32((1 - lowest) / (highest - lowest))
    labels: dict[str, Labels] = {}
    for name in list(rows):
        annotators = np.stack(rows.pop(name))  # popped, so that only one video is in memory twice
        labels[name] = of_annotators(annotators == kept if selections else annotators, categories[name], selections)
    return labels


def _parse_row(line: str, where: str) -> tuple[str, str, Float64Array]:
    """Split a row into id, category and scores."""
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
            f"{where}: {_no_number(texts)!r} is no number: the third column must hold numbers separated by commas"
        ) from error
    return checked_id(columns[0], where), columns[1], scores


def _no_number(texts: list[str]) -> str:
    """The first text that is no number, at most 40 characters of it."""
    for text in texts:
        try:
            float(text)
        except ValueError:
            return text.strip()[:40]
    return ""


def write_tsv(
    path: str | Path, annotators: Mapping[str, IntArray], categories: Mapping[str, str] | None = None
) -> None:
    """Write labels in the form that `read_tvsum_tsv` reads, as an atomic file in a folder that exists.

    `annotators` are scores 1 ... 5 by video id, integers, (A, L) with A, L >= 1; `categories` are by video id too.
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
    with atomic_file(path) as draft, draft.open("w", encoding="utf-8", newline="\n") as file:
        for name, scores in annotators.items():
            category = (categories or {}).get(name, "")
            for row in scores.tolist():
                file.write(f"{name}\t{category}\t{','.join(map(str, row))}\n")


def read_tvsum_mat(path: str | Path, option: str = "data.labels") -> dict[str, Labels]:
    """Read the official annotation of TVSum, `ydata-tvsum50.mat`: video id -> labels, in file order.

    The file is MATLAB v7.3, which is HDF5: `/tvsum50` holds one (50, 1) array of object references per field; behind
    them `video` and `category` are uint16 character codes and `user_anno` is float64 (20, n_frames) in 1 ... 5. A score
    x becomes (x - 1) / 4, `importance` is the annotators' mean.
    """
    path = Path(path)
    labels: dict[str, Labels] = {}
    with open_hdf5(path, option) as file:
        videos, categories, scores = (file.references(f"tvsum50/{name}") for name in ("video", "category", "user_anno"))
        if not len(videos) == len(categories) == len(scores):
            raise KeyframeError(
                f"{path} has {len(videos)} videos, {len(categories)} categories and {len(scores)} user_anno: "
                "copy the file again"
            )
        for video, category, annotators in zip(videos, categories, scores, strict=True):
            name = checked_id(file.text(video), str(path))
            raw = file.numbers(annotators, np.float64)
            if name in labels or raw.ndim != 2 or not raw.size or not (raw.min() >= 1 and raw.max() <= 5):
                raise KeyframeError(
                    f"{path}: user_anno of {name} is not one array (annotators, frames) with scores from 1 to 5: "
                    f"give the official ydata-tvsum50.mat as {option}"
                )
            labels[name] = of_annotators((raw - 1) / 4, file.text(category))
    return labels


def read_summe_mat(path: str | Path, option: str = "data.labels") -> dict[str, Labels]:
    """Read the annotation of one video of SumMe, `GT/<id>.mat`: the id -> labels that are selections.

    The file is MATLAB 5. `user_score` is (n_frames, users); what is not 0 is in the user's summary. `nFrames` must
    agree. `importance` is the share of users that keep a frame, which is the file's `gt_score`.
    """
    path = Path(path)
    arrays = read_mat5(path, ("user_score", "nFrames"), option)
    score = arrays.get("user_score", np.empty(0))
    if score.ndim != 2 or not score.size:
        raise KeyframeError(f"{path} holds no user_score (frames, users): give a file of SumMe's GT as {option}")
    frames = arrays.get("nFrames", np.array(len(score)))
    if frames.size != 1 or frames.item() != len(score):
        raise KeyframeError(
            f"{path} has a user_score of {len(score)} rows and nFrames {one_line(str(frames.ravel()[:3]))}: "
            "it needs one row per frame"
        )
    return {checked_id(path.stem, str(path)): of_annotators((score != 0).T, "", selections=True)}


def read_eccv16_h5(path: str | Path, option: str = "data.labels") -> dict[str, Labels]:
    """Read the importance track of each video of an eccv16-style h5 file: id -> labels without annotators.

    A score holds from its pick to the next. `user_summary` is not read: the mean of binary keyshots is no importance.
    """
    labels: dict[str, Labels] = {}
    with open_hdf5(Path(path), option) as file:
        for key, name in named_videos(file).items():
            track = read_scores(file, key)
            step = np.searchsorted(track.picks, np.arange(track.n_frames), side="right") - 1
            labels[name] = Labels(
                importance=track.scores[np.maximum(step, 0)].astype(np.float32),
                annotators=np.empty((0, track.n_frames), dtype=np.float32),
                category=TVSUM_CATEGORIES.get(name, ""),
            )
    return labels
