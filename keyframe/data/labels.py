"""Labels of videos in the forms in which they are shared.

TVSum's official `.mat` and `.tsv` (Song et al., CVPR 2015), SumMe's folder of `.mat` (Gygli et al., ECCV 2014), the
eccv16-style `.h5`, and the JSON and tables of `label_tables.py`.
"""

import logging
import math
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from keyframe.data import label_tables
from keyframe.data.hdf5 import TVSUM_CATEGORIES, checked_id, named_videos, open_hdf5, read_scores, room_for
from keyframe.data.label_tables import TimedLabels, check_scale, of_annotators
from keyframe.files import atomic_file, one_line, reading, unchanged
from keyframe.system import log_once
from keyframe.types import AnyArray, Float32Array, Float64Array, IntArray, KeyframeError, Labels

# In order of preference; an h5 holds only one score track at every 15th frame, and no annotators.
LABEL_SUFFIXES = (".mat", ".tsv", ".csv", ".json", ".h5")
# Those whose scores are on a scale that the user gives, `lowest` to `highest`.
SCALED_SUFFIXES = (".tsv", ".csv", ".json")
log = logging.getLogger(__name__)

_START = 2**12  # bytes that tell what a file is
_MAX_LINE = 2**25  # characters of a row: a million scores of ten digits take a third of it
# MAT-file format 5, The MathWorks: a header, then elements of type, size and content.
_MAT5_START = b"MATLAB 5.0 MAT-file"
_MAT5_HEADER = 128  # bytes
_MAT5_LARGEST = 2**28  # bytes of a file; SumMe's take less than a hundredth
_MATRIX, _COMPRESSED = 14, 15  # types of elements
_NUMBER_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMBER_CLASSES = range(6, 16)  # classes of arrays: double, single, and integers
_COMPLEX = 0x800  # a flag of an array


def read_labels(
    path: str | Path, lowest: float = 1.0, highest: float = 5.0, option: str = "data.labels"
) -> dict[str, Labels]:
    """The same as `read_video_labels`, if the file has labels for frames; KeyframeError if it has times."""
    found = read_video_labels(path, lowest, highest, option)
    labels = {name: one for name, one in found.items() if isinstance(one, Labels)}
    if len(labels) < len(found):
        raise KeyframeError(f"{path} holds times, which need the videos: give {option} as scores of each frame")
    return labels


def read_video_labels(
    path: str | Path, lowest: float = 1.0, highest: float = 5.0, option: str = "data.labels"
) -> Mapping[str, Labels | TimedLabels]:
    """Read a label file, or a folder with one file per video: video id -> labels, in file order.

    What a file holds decides how it is read. In a folder the files are those of one suffix, the first of
    `LABEL_SUFFIXES` that is there, by name. The scores `lowest` and `highest` of a file of `SCALED_SUFFIXES` become 0
    and 1; `option` is the key by which the user names the file.
    """
    path = Path(path)
    check_scale(lowest, highest)
    if not path.is_dir():
        return _read_label_file(path, lowest, highest, option)
    labels: dict[str, Labels | TimedLabels] = {}
    for file in label_files(path):
        for name, one in _read_label_file(file, lowest, highest, option).items():
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
    by_suffix: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        name, suffix = path.name.lower(), path.suffix.lower()
        known = named is None or suffix not in (".csv", ".json") or name in named
        if path.is_file() and known and not name.startswith(".") and not name.endswith("-info.tsv"):
            by_suffix.setdefault(suffix, []).append(path)
    return next((by_suffix[suffix] for suffix in LABEL_SUFFIXES if suffix in by_suffix), [])


def _read_label_file(path: Path, lowest: float, highest: float, option: str) -> Mapping[str, Labels | TimedLabels]:
    suffix = path.suffix.lower()
    if suffix in LABEL_SUFFIXES and suffix not in SCALED_SUFFIXES and (lowest, highest) != (1, 5):
        raise KeyframeError(
            f"{path} has a scale of its own: lowest and highest are those of a .tsv, .csv or .json: leave them out, or "
            "set them to 1 and 5 for this file."
        )
    if not path.is_file():  # opening a pipe would wait for its writer
        raise KeyframeError(f"there is no file {path}: set {option} to the label file.")
    if suffix not in LABEL_SUFFIXES:
        raise KeyframeError(f"{path} is not a label file: {option} must name a {', '.join(LABEL_SUFFIXES)} file.")
    with unchanged(path):
        with path.open("rb") as file:
            start = file.read(_START)
        if suffix == ".h5":
            return read_eccv16_h5(path, option)
        if suffix == ".mat":
            return (read_summe_mat if start.startswith(_MAT5_START) else read_tvsum_mat)(path, option)
        line = start.decode("utf-8-sig", "replace").lstrip().partition("\n")[0]
        if suffix == ".json" or (line.startswith(("{", "[")) and "\t" not in line):  # `[x] y` may be the id of a video
            return label_tables.read_json_labels(path, lowest, highest)
        if label_tables.is_table(line):
            return label_tables.read_label_table(path, lowest, highest)
        return read_tvsum_tsv(path, lowest, highest, option)


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
    rows: dict[str, list[Float32Array]] = {}
    categories: dict[str, str] = {}
    binary, off_scale = True, None
    with reading(path, "text", f"give a tab-separated file as {option}"), path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(iter(lambda: lines.readline(_MAX_LINE + 1), ""), start=1):
            where = f"{path}, line {number}"
            if len(line) > _MAX_LINE:
                raise KeyframeError(f"{where}: a row is longer than {_MAX_LINE} characters: one row per annotator")
            if not line.strip():
                continue
            name, category, scores = _parse_row(line, where)
            binary = binary and bool(np.isin(scores, (0, 1)).all())
            off_scale = off_scale or label_tables.outside_scale(scores, where, lowest, highest)
            if off_scale is not None and not binary:
                raise off_scale
            known = rows.setdefault(name, [])
            if known and len(known[0]) != len(scores):
                raise KeyframeError(
                    f"{where}: {name} has {len(scores)} scores, its first row {len(known[0])}: every annotator must "
                    "score every frame"
                )
            if categories.setdefault(name, category) != category:
                raise KeyframeError(
                    f"{where}: {name} is of category {category!r}, its first row of {categories[name]!r}: give it one"
                )
            known.append(((scores - lowest) / (highest - lowest)).astype(np.float32))
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
    columns = [column.strip() for column in line.rstrip("\r\n").split("\t")]
    if len(columns) != 3 or not columns[0]:
        raise KeyframeError(
            f"{where}: a row needs 3 columns separated by tabs, video_id, category and scores, "
            f"not {len(columns)}{'' if columns[0] else ' with an empty id'}"
        )
    try:
        scores = np.array(columns[2].split(","), dtype=np.float64)
    except ValueError as error:  # it quotes the text
        raise KeyframeError(
            f"{where}: the third column must hold numbers separated by commas ({one_line(str(error))[:100]})"
        ) from error
    return checked_id(columns[0], where), columns[1], scores


def write_tsv(path: Path, annotators: Mapping[str, IntArray], categories: Mapping[str, str] | None = None) -> None:
    """Write labels in the form that `read_tvsum_tsv` reads, as an atomic file in a folder that exists.

    `annotators` are scores 1 ... 5 by video id, integers, (A, L) with A, L >= 1; `categories` are by id too. No id or
    category has a tab or a line break.
    """
    known = categories or {}
    with atomic_file(path) as draft, draft.open("w", encoding="utf-8", newline="\n") as file:
        for name, scores in annotators.items():
            file.writelines(tsv_row(name, known.get(name, ""), row) for row in scores.tolist())


def tsv_row(video: str, category: str, scores: Iterable[int]) -> str:
    """A row of the form that `read_tvsum_tsv` reads."""
    return f"{video}\t{category}\t{','.join(map(str, scores))}\n"


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


def read_mat5(path: Path, names: Collection[str], option: str) -> dict[str, AnyArray]:
    """Read arrays of finite real numbers of a MATLAB 5 file by name; what the file does not hold is left out.

    Nothing else in the file is read: no cell, structure or object. It fills no more memory than a file of its size may.
    `scipy.io` reads such files too, and crashes the process on some damaged ones (1.17 at least).
    """
    if path.stat().st_size > _MAT5_LARGEST:
        raise KeyframeError(f"{path} is larger than {_MAT5_LARGEST >> 20} MiB, no label file: give another as {option}")
    with reading(path, "MATLAB 5", f"give another file as {option}"):
        raw = path.read_bytes()
        order = {b"IM": "<", b"MI": ">"}.get(raw[_MAT5_HEADER - 2 : _MAT5_HEADER])
        if order is None:
            raise ValueError("its header is damaged")
        arrays = {}
        for matrix in _matrices(raw, order, room_for(path)):
            (_, flags), (_, dims), (_, name), *values = _elements(matrix, order, 4)
            if (text := name.decode("latin-1")) in names:
                if not values or not flags or len(dims) % 4:
                    raise ValueError(f"{text} is damaged")
                arrays[text] = _array(text, struct.unpack(f"{order}I", flags[:4])[0], dims, *values[0], order)
        return arrays


def _matrices(raw: bytes, order: str, room: float) -> Iterator[bytes]:
    """The content of each array of the file, of at most `room` bytes in all."""
    for kind, content in _elements(raw[_MAT5_HEADER:], order):
        if kind == _COMPRESSED:
            content = zlib.decompressobj().decompress(content, int(room) + 1)
            room -= len(content)
            if room < 0:
                raise ValueError("it would fill more memory than is left for a file of this size")
            kind, content = next(_elements(content, order), (0, b""))
        if kind == _MATRIX:
            yield content


def _elements(content: bytes, order: str, most: float = math.inf) -> Iterator[tuple[int, bytes]]:
    """The first elements one after the other, type and content; ValueError if the last is cut off."""
    at = count = 0
    while at + 8 <= len(content) and count < most:
        kind, size = struct.unpack_from(f"{order}II", content, at)
        first, padding = at + 8, 0 if kind == _COMPRESSED else -size % 8
        if kind >> 16:  # a small element: its size stands beside the type
            kind, size, first, padding = kind & 0xFFFF, kind >> 16, at + 4, 4 - (kind >> 16)
        if first + size > len(content) or padding < 0:
            raise ValueError("it ends within an array")
        yield kind, content[first : first + size]
        at, count = first + size + padding, count + 1


def _array(name: str, flags: int, dims: bytes, kind: int, values: bytes, order: str) -> AnyArray:
    if flags & 0xFF not in _NUMBER_CLASSES or flags & _COMPLEX or kind not in _NUMBER_TYPES:
        raise ValueError(f"{name} is not an array of real numbers")
    array = np.frombuffer(values, order + _NUMBER_TYPES[kind])
    shape = struct.unpack(f"{order}{len(dims) // 4}i", dims)
    if min(shape, default=-1) < 0 or math.prod(shape) != array.size or len(shape) > 8:
        raise ValueError(f"{name} has {array.size} numbers, which do not fit its shape")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return array.reshape(shape, order="F")


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
