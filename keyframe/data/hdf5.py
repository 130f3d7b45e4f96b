"""HDF5 files of the field: how they are opened, TVSum's official order, and names and scores of eccv16-style files.

An eccv16-style file (Zhang et al., Video summarization with LSTM, ECCV 2016, as spread by Zhou et al., AAAI 2018) has
one group per video, `video_1`, `video_2` ..., with arrays whose dtypes and shapes differ from file to file. `video_N`
is the N-th of TVSum's videos in the order of the official annotation (Song, Vallmitjana, Stent, Jaimes: TVSum:
Summarizing web videos using titles, CVPR 2015, release 1.1), which `tvsum50.tsv` lists; published splits use it too.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from keyframe.files import natural_key, one_line
from keyframe.types import Float64Array, Int64Array, KeyframeError

_TVSUM = Path(__file__).with_name("tvsum50.tsv").read_text(encoding="utf-8")

TVSUM_CATEGORIES: dict[str, str] = dict(line.split("\t") for line in _TVSUM.splitlines())
"""YouTube id -> category, one of VT VU GA MS PK PR FM BK BT DS, in the official order."""

TVSUM_IDS: tuple[str, ...] = tuple(TVSUM_CATEGORIES)
"""YouTube id of each video; entry N - 1 is `video_N`."""

_KEY = re.compile(r"video_([1-9][0-9]?)")


def official_id(key: str) -> str | None:
    """The YouTube id of the benchmark's `video_1` ... `video_50`; None for any other key."""
    match = _KEY.fullmatch(key)
    return None if match is None or int(match[1]) > len(TVSUM_IDS) else TVSUM_IDS[int(match[1]) - 1]


def data_set_named(text: str) -> str | None:
    """The data set that a file name contains: `tvsum`, `summe`, `ovp` or `youtube`; each has its own `video_1`."""
    return next((name for name in ("tvsum", "summe", "ovp", "youtube") if name in text.lower()), None)


@contextmanager
def open_hdf5(path: Path, option: str = "data.labels") -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; what is wrong in it, also within the block, is a KeyframeError."""
    if not path.is_file():
        raise KeyframeError(f"there is no file {path}: set {option} to the file")
    try:
        with h5py.File(path, "r") as file:
            yield file
    # h5py raises any of these on damaged files and on arrays of another kind than the format says.
    except (OSError, RuntimeError, LookupError, TypeError, ValueError) as error:
        reason = one_line(str(error))
        remedy = ", or save it with MATLAB's -v7.3" if path.suffix.lower() == ".mat" else ""
        raise KeyframeError(f"{path} cannot be read as HDF5 ({reason}): copy the file again{remedy}") from error


def member(group: h5py.Group | h5py.Dataset, name: str, option: str = "data.labels") -> h5py.Dataset:
    """The dataset `name` of what should be a group; a KeyframeError names file and dataset if there is none."""
    found = group.get(name) if isinstance(group, h5py.Group) else None
    if not isinstance(found, h5py.Dataset):
        key = f"{group.name}/{name}".replace("//", "/")
        raise KeyframeError(f"{group.file.filename} lacks the dataset {key}: give the official file as {option}")
    return found


@dataclass(frozen=True)
class ScoreTrack:
    """The reference scores of one video.

    Attributes:
        scores: one per pick, in [0, 1], float64 (n,).
        picks: frame number of each score, rising, int64 (n,).
        n_frames: frames of the video, more than the last pick.
    """

    scores: Float64Array
    picks: Int64Array
    n_frames: int


def named_groups(file: h5py.File, option: str = "data.labels") -> Iterator[tuple[str, str, h5py.Group]]:
    """Yield the key `video_N`, the id and the group of each video of an eccv16-style file, in the order of N.

    The id is the group's `video_name` if it has one (SumMe), else the N-th of TVSum's official order.
    """
    path = Path(file.filename)
    keys = sorted((key for key in file if key.startswith("video_")), key=natural_key)
    if not keys:
        raise KeyframeError(f"{path} holds no group video_N: give an eccv16-style h5 as {option}")
    of_tvsum = data_set_named(path.name) in (None, "tvsum")
    seen: set[str] = set()
    for key in keys:
        group = file[key]
        name = official_id(key) if of_tvsum else None
        if isinstance(group, h5py.Group) and "video_name" in group:
            value = np.asarray(member(group, "video_name", option)[()]).ravel()[0]
            name = value.decode("utf-8") if isinstance(value, bytes) else str(value)
        if name is None:
            raise KeyframeError(f"{path}: {key} is none of TVSum's 50 videos: store its id as {key}/video_name")
        if name in seen:
            raise KeyframeError(f"{path}: {key} is the second video named {name}: give each its own video_name")
        seen.add(name)
        yield key, name, group


def read_scores(group: h5py.Group, option: str = "data.labels") -> ScoreTrack:
    """Read one video; a gtscore outside [0, 1] is scaled by its own minimum and maximum, as in DSNet."""
    where = f"{group.file.filename}: {group.name[1:]}"
    scores = np.asarray(member(group, "gtscore", option)[()], dtype=np.float64).ravel()
    picks = np.asarray(member(group, "picks", option)[()], dtype=np.int64).ravel()
    n_frames = int(np.asarray(member(group, "n_frames", option)[()]).item())
    if not scores.size or scores.size != picks.size or not np.isfinite(scores).all():
        raise KeyframeError(
            f"{where} has {scores.size} gtscores and {picks.size} picks: it needs one finite score per pick"
        )
    if picks[0] < 0 or picks[-1] >= n_frames or (np.diff(picks) <= 0).any():
        raise KeyframeError(f"{where} has picks that do not rise within its {n_frames} frames: correct the file")
    if scores.min() < 0 or scores.max() > 1:
        span = scores.max() - scores.min()
        scores = (scores - scores.min()) / (span or 1.0)
    return ScoreTrack(scores, picks, n_frames)
