"""Labels of videos: the forms in which they are shared, and which label belongs to which frame.

The forms are TVSum's official `.mat` and `.tsv` (Song et al., CVPR 2015), SumMe's folder of `.mat` (Gygli et al., ECCV
2014), and the eccv16-style `.h5`.
"""

import logging
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keyframe.data.hdf5 import TVSUM_CATEGORIES, checked_id, named_videos, open_hdf5, read_scores
from keyframe.data.mat5 import MAT5_START, read_mat5
from keyframe.data.packets import PacketIndex
from keyframe.files import atomic_file, one_line, unchanged
from keyframe.system import log_once
from keyframe.types import (
    BoolArray,
    Float32Array,
    Float64Array,
    FloatArray,
    Int64Array,
    IntArray,
    KeyframeError,
    Labels,
    check_number,
)

LABEL_SUFFIXES = (".mat", ".tsv", ".h5")
"""In order of preference: the first two hold the annotators, the h5 only one score track at every 15th frame."""

log = logging.getLogger(__name__)

# Above this the file is another cut of the video, and a label would land on the wrong shot.
_TOLERANCE_PERCENT = 1

_MAX_LINE = 2**25  # characters of a row: a million scores of ten digits take a third of it


def read_labels(
    path: str | Path, lowest: float = 1.0, highest: float = 5.0, option: str = "data.labels"
) -> dict[str, Labels]:
    """Read a label file, or a folder with one file per video: video id -> labels, in file order.

    What a file holds decides how it is read. In a folder the files are those of one suffix, the first of
    `LABEL_SUFFIXES` that is there, by name.

    Args:
        path: the file or folder.
        lowest: the score of a .tsv that becomes 0.
        highest: the score of a .tsv that becomes 1.
        option: the key by which the user names the file, for messages.
    """
    path = Path(path)
    check_scale(lowest, highest)
    if not path.is_dir():
        return _read_file(path, lowest, highest, option)
    labels: dict[str, Labels] = {}
    for file in label_files(path):
        for name, one in _read_file(file, lowest, highest, option).items():
            if name in labels:
                raise KeyframeError(f"{file} has labels of {name}, as another file of {path} has: remove one of them")
            labels[name] = one
    if not labels:
        raise KeyframeError(f"{path} holds no label file ({', '.join(LABEL_SUFFIXES)}): set {option} to one")
    return labels


def label_files(folder: Path) -> list[Path]:
    """The label files in a folder: those of one suffix, the first of `LABEL_SUFFIXES` that is there, by name."""
    # macOS leaves a hidden "._<name>" beside what it unpacks. TVSum's ...-info.tsv holds no labels.
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    files = [path for path in files if not path.name.endswith("-info.tsv")]
    of_suffix = ([path for path in files if path.suffix.lower() == suffix] for suffix in LABEL_SUFFIXES)
    return next((found for found in of_suffix if found), [])


def _read_file(path: Path, lowest: float, highest: float, option: str) -> dict[str, Labels]:
    suffix = path.suffix.lower()
    if suffix in (".mat", ".h5") and (lowest, highest) != (1, 5):
        raise KeyframeError(f"{path} has a scale of its own: lowest and highest are those of a .tsv, leave them out.")
    if not path.is_file():  # opening a pipe would wait for its writer
        raise KeyframeError(f"there is no file {path}: set {option} to the label file")
    if suffix not in LABEL_SUFFIXES:
        raise KeyframeError(f"{path} is no label file: {option} must name a {', '.join(LABEL_SUFFIXES)} file")
    with unchanged(path):
        if suffix == ".tsv":
            return read_tvsum_tsv(path, lowest, highest, option)
        if suffix == ".h5":
            return read_eccv16_h5(path, option)
        with path.open("rb") as file:
            of_summe = file.read(len(MAT5_START)) == MAT5_START
        return (read_summe_mat if of_summe else read_tvsum_mat)(path, option)


def check_scale(lowest: float, highest: float) -> None:
    """Refuse a scale of label files that is no range of numbers."""
    for key, value in (("lowest", lowest), ("highest", highest)):
        check_number(key, value, -math.inf, whole=False)
    if not lowest < highest:
        raise KeyframeError(f"lowest={lowest}, a score of the label file, must be below highest={highest}.")


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
                off_scale = off_scale or _off_scale(scores, where, lowest, highest)
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
        labels[name] = _of_annotators(annotators == kept if selections else annotators, categories[name], selections)
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


def _off_scale(scores: Float64Array, where: str, lowest: float, highest: float) -> KeyframeError | None:
    """What is to be said if a score lies outside the scale."""
    inside = (scores >= lowest) & (scores <= highest)  # False for NaN
    if inside.all():
        return None
    frame = int(np.argmin(inside))
    return KeyframeError(
        f"{where}: score {scores[frame]:g} of frame {frame} lies outside [{lowest:g}, {highest:g}]: "
        "correct the file, or give its scale with lowest and highest"
    )


def _no_number(texts: list[str]) -> str:
    """The first text that is no number, at most 40 characters of it."""
    for text in texts:
        try:
            float(text)
        except ValueError:
            return text.strip()[:40]
    return ""


def _of_annotators(annotators: FloatArray | BoolArray, category: str, selections: bool = False) -> Labels:
    """Labels of scores in [0, 1], (A, L)."""
    # float64, so that all forms give the same
    importance = annotators.mean(axis=0, dtype=np.float64).astype(np.float32)
    return Labels(importance, np.asarray(annotators, np.float32), category, selections)


def write_tsv(
    path: str | Path, annotators: Mapping[str, IntArray], categories: Mapping[str, str] | None = None
) -> None:
    """Write labels in the form that `read_tvsum_tsv` reads, as an atomic file.

    Args:
        path: the file; its folder must exist.
        annotators: video id -> scores 1 ... 5, integers, shape (A, L) with A, L >= 1.
        categories: video id -> category; "" without.
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
            labels[name] = _of_annotators((raw - 1) / 4, file.text(category))
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
    return {checked_id(path.stem, str(path)): _of_annotators((score != 0).T, "", selections=True)}


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


def check_alignment(n_labels: int, n_frames: int, duration: float, video: str | Path) -> None:
    """Check that a label track fits a video of that many frames and seconds: one entry per frame, within 1 %."""
    if n_labels == n_frames:
        return
    if 100 * abs(n_labels - n_frames) > _TOLERANCE_PERCENT * n_labels:
        raise KeyframeError(
            f"{video} has {n_frames} frames and its labels {n_labels}, over {_TOLERANCE_PERCENT} % apart: "
            "use the video file that was labelled, or labels made for this file"
        )
    if not (np.isfinite(duration) and duration > 0):
        raise KeyframeError(
            f"{video} has {n_frames} frames, its labels {n_labels}, and no duration to align them by: "
            "re-encode the file or label each of its frames"
        )
    message = "%s has %d frames and its labels %d: aligned by time"
    log_once(log, logging.WARNING, (str(video), "labels"), message, video, n_frames, n_labels)


def label_positions(
    n_labels: int, n_frames: int, indices: IntArray, seconds: FloatArray, duration: float, video: str | Path
) -> Int64Array:
    """Find the entry of the label track, in [0, L), that belongs to each chosen frame, int64 (T,).

    A track with one entry per frame is read by frame number. Another one that passes `check_alignment` is read by time,
    entry floor(t / duration * n_labels), which is logged once per video. The chosen frames are given by their numbers
    `indices`, (T,), and by `seconds`, (T,), their timestamps minus the video's first.
    """
    if indices.ndim != 1 or indices.shape != seconds.shape:
        raise ValueError(f"indices and seconds must both be (T,), not {indices.shape} and {seconds.shape}")
    if indices.size and (indices.min() < 0 or indices.max() >= n_frames):
        raise ValueError(f"frame numbers must lie in [0, {n_frames}), not {indices.min()} ... {indices.max()}")
    check_alignment(n_labels, n_frames, duration, video)
    if n_labels == n_frames:
        return indices.astype(np.int64)
    entries = np.floor(np.asarray(seconds, dtype=np.float64) / duration * n_labels)
    return np.clip(entries, 0, n_labels - 1).astype(np.int64)


def labelled_frames(n_labels: int, entries: IntArray, index: PacketIndex) -> Int64Array:
    """Find the frame of each chosen entry of a label track, int64 (T,): the inverse of `label_positions`.

    A track with one entry per frame is read by frame number; another one by time, the frame that is shown at
    entry / n_labels * duration. Entries are (T,), in [0, n_labels).
    """
    check_alignment(n_labels, index.n_frames, index.duration, index.path)
    if n_labels == index.n_frames:
        return entries.astype(np.int64)
    times = index.timestamps[0] + entries / n_labels * index.duration
    frames = np.searchsorted(index.timestamps, times + 1e-6, side="right") - 1
    return np.clip(frames, 0, index.n_frames - 1).astype(np.int64)


def sample_labels(
    labels: Labels, n_frames: int, indices: IntArray, seconds: FloatArray, duration: float, video: str | Path
) -> tuple[Float32Array, Float32Array]:
    """The importance, float32 (T,), and each annotator's scores, float32 (A, T), in [0, 1] at `label_positions`."""
    entries = label_positions(len(labels), n_frames, indices, seconds, duration, video)
    return labels.importance[entries], labels.annotators[:, entries]
