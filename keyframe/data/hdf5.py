"""Open HDF5 files so that what is wrong with them is said in one sentence.

The 50 videos of TVSum in the official order, a constant of the benchmark.

The eccv16-style h5 files and every published split name a video `video_N`: the N-th block, counted from 1, of
the official `ydata-tvsum50-anno.tsv`, which is the order of `ydata-tvsum50.mat` too.

Source: Song, Vallmitjana, Stent, Jaimes: TVSum: Summarizing web videos using titles. CVPR 2015, release 1.1.

What every reader of eccv16-style h5 files needs: the videos' names, and their scores at the picks.

The format is that of Zhang et al., Video summarization with LSTM, ECCV 2016, as spread by Zhou et al., AAAI 2018: a
group a video, `video_1`, `video_2` ..., with arrays whose dtypes and shapes differ from file to file.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from keyframe.types import KeyframeError


@contextmanager
def open_hdf5(path: Path, option: str = "data.labels") -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Args:
        path: the file.
        option: the key of the configuration that named it, for messages.

    Raises:
        KeyframeError: if the file is missing or no HDF5 file, or what is read from it inside the `with` is
            damaged or of the wrong kind.
    """
    if not path.is_file():
        raise KeyframeError(f"there is no file {path}: set {option} to the file")
    try:
        with h5py.File(path, "r") as file:
            yield file
    # h5py raises any of these on damaged files and on arrays of another kind than the format says.
    except (OSError, RuntimeError, LookupError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        remedy = ", or save it with MATLAB's -v7.3" if path.suffix.lower() == ".mat" else ""
        raise KeyframeError(f"{path} cannot be read as HDF5 ({reason}): copy the file again{remedy}") from error


def member(group: Any, name: str, path: Path, option: str = "data.labels") -> h5py.Dataset:
    """Return the dataset `name` of what should be a group; for `path` and `option` see `open_hdf5`.

    Raises:
        KeyframeError: if there is none; the message names the file and the key.
    """
    found = group.get(name) if isinstance(group, h5py.Group) else None
    if not isinstance(found, h5py.Dataset):
        key = f"{group.name if isinstance(group, h5py.Group) else ''}/{name}".replace("//", "/")
        raise KeyframeError(f"{path} lacks the dataset {key}: give the official file as {option}")
    return found


TVSUM_VIDEOS: tuple[tuple[str, str], ...] = (
    ("AwmHb44_ouw", "VT"),
    ("98MoyGZKHXc", "VT"),
    ("J0nA4VgnoCo", "VT"),
    ("gzDbaEs1Rlg", "VT"),
    ("XzYM3PfTM4w", "VT"),
    ("HT5vyqe0Xaw", "VU"),
    ("sTEELN-vY30", "VU"),
    ("vdmoEJ5YbrQ", "VU"),
    ("xwqBXPGE9pQ", "VU"),
    ("akI8YFjEmUw", "VU"),
    ("i3wAGJaaktw", "GA"),
    ("Bhxk-O1Y7Ho", "GA"),
    ("0tmA_C6XwfM", "GA"),
    ("3eYKfiOEJNs", "GA"),
    ("xxdtq8mxegs", "GA"),
    ("WG0MBPpPC6I", "MS"),
    ("Hl-__g2gn_A", "MS"),
    ("Yi4Ij2NM7U4", "MS"),
    ("37rzWOQsNIw", "MS"),
    ("LRw_obCPUt0", "MS"),
    ("cjibtmSLxQ4", "PK"),
    ("b626MiF1ew4", "PK"),
    ("XkqCExn6_Us", "PK"),
    ("GsAD1KT1xo8", "PK"),
    ("PJrm840pAUI", "PK"),
    ("91IHQYk1IQM", "PR"),
    ("RBCABdttQmI", "PR"),
    ("z_6gVvQb2d0", "PR"),
    ("fWutDQy1nnY", "PR"),
    ("4wU_LUjG5Ic", "PR"),
    ("VuWGsYPqAX8", "FM"),
    ("JKpqYvAdIsw", "FM"),
    ("xmEERLqJ2kU", "FM"),
    ("byxOvuiIJV0", "FM"),
    ("_xMr-HKMfVA", "FM"),
    ("WxtbjNsCQ8A", "BK"),
    ("uGu_10sucQo", "BK"),
    ("EE-bNr36nyA", "BK"),
    ("Se3oxnaPsz0", "BK"),
    ("oDXZc0tZe04", "BK"),
    ("qqR6AEXwxoQ", "BT"),
    ("EYqVtI9YWJA", "BT"),
    ("eQu1rNs0an0", "BT"),
    ("JgHubY5Vw3Y", "BT"),
    ("iVt07TCkFM0", "BT"),
    ("E11zDS9XGzg", "DS"),
    ("NyBmCxDoHJU", "DS"),
    ("kLxoNp-UchI", "DS"),
    ("jcoYJXDG9sw", "DS"),
    ("-esJrBWj2d8", "DS"),
)
"""YouTube id and category of each video; entry N - 1 is `video_N`."""

TVSUM_CATEGORIES: dict[str, str] = dict(TVSUM_VIDEOS)
"""YouTube id -> category, one of VT VU GA MS PK PR FM BK BT DS."""

_KEY = re.compile(r"video_([1-9][0-9]?)")


def official_id(key: str) -> str | None:
    """Return the YouTube id that the benchmark's key `video_N` stands for.

    Args:
        key: `video_1` ... `video_50`.

    Returns:
        The id, or None where `key` is no such key.
    """
    match = _KEY.fullmatch(key)
    if match is None or int(match[1]) > len(TVSUM_VIDEOS):
        return None
    return TVSUM_VIDEOS[int(match[1]) - 1][0]


def data_set_named(text: str) -> str | None:
    """Return which of the field's data sets a file name speaks of: each of them has its own `video_1`, `video_2` ....

    Args:
        text: e.g. `eccv16_dataset_summe_google_pool5.h5`.

    Returns:
        `tvsum`, `summe`, `ovp` or `youtube`, or None where it names none of them.
    """
    return next((name for name in ("tvsum", "summe", "ovp", "youtube") if name in text.lower()), None)


@dataclass(frozen=True)
class ScoreTrack:
    """The reference scores of one video.

    Attributes:
        scores: one a pick, in [0, 1], float64 (n,).
        picks: frame number of each score, rising, int64 (n,).
        n_frames: frames of the video, more than the last pick.
    """

    scores: npt.NDArray[np.float64]
    picks: npt.NDArray[np.int64]
    n_frames: int


def named_groups(file: h5py.File, path: Path, option: str) -> Iterator[tuple[str, str, h5py.Group]]:
    """The videos of a file, in the order of N.

    Args:
        file: an open eccv16-style file.
        path: its path, for messages.
        option: the key of the configuration that named it, for messages.

    Yields:
        The key `video_N`, the video's id, and its group. The id is the group's `video_name` where it has one (SumMe),
        else the N-th of TVSum's official order.

    Raises:
        KeyframeError: if there is no video, or one that cannot be named, or two of one name.
    """
    keys = sorted((key for key in file if key.startswith("video_")), key=_by_number)
    if not keys:
        raise KeyframeError(f"{path} holds no group video_N: give an eccv16-style h5 as {option}")
    seen: set[str] = set()
    for key in keys:
        group = file[key]
        name = _name(group, key, path, option)
        if name in seen:
            raise KeyframeError(f"{path}: {key} is the second video named {name}: give each its own video_name")
        seen.add(name)
        yield key, name, group


def read_scores(group: h5py.Group, key: str, path: Path, option: str) -> ScoreTrack:
    """Read `gtscore`, `picks` and `n_frames` of one video.

    A gtscore outside [0, 1] is scaled by its own minimum and maximum, as DSNet does.

    Args:
        group: the video.
        key: its name in the file, for messages.
        path: the file, for messages.
        option: the key of the configuration that named the file, for messages.

    Raises:
        KeyframeError: if a dataset is missing, a score is not finite, or the arrays do not fit each other.
    """
    scores = np.asarray(member(group, "gtscore", path, option)[()], dtype=np.float64).ravel()
    picks = np.asarray(member(group, "picks", path, option)[()], dtype=np.int64).ravel()
    n_frames = int(np.asarray(member(group, "n_frames", path, option)[()]).item())
    if not scores.size or scores.size != picks.size or not np.isfinite(scores).all():
        raise KeyframeError(
            f"{path}: {key} has {scores.size} gtscores and {picks.size} picks: it needs one finite score a pick"
        )
    if picks[0] < 0 or picks[-1] >= n_frames or (np.diff(picks) <= 0).any():
        raise KeyframeError(f"{path}: the picks of {key} must rise within its {n_frames} frames: mend the file")
    if scores.min() < 0 or scores.max() > 1:
        span = scores.max() - scores.min()
        scores = (scores - scores.min()) / (span or 1.0)
    return ScoreTrack(scores, picks, n_frames)


def _by_number(key: str) -> tuple[int, str]:
    digits = re.search(r"\d+$", key)
    return int(digits[0]) if digits else 0, key


def _name(group: h5py.Group, key: str, path: Path, option: str) -> str:
    """Return the video's id: its own `video_name`, or what `video_N` stands for in TVSum."""
    if isinstance(group, h5py.Group) and "video_name" in group:
        value = np.asarray(member(group, "video_name", path, option)[()]).ravel()[0]
        return value.decode("utf-8") if isinstance(value, bytes) else str(value)
    name = official_id(key) if data_set_named(path.name) in (None, "tvsum") else None
    if name is None:
        raise KeyframeError(f"{path}: {key} is none of TVSum's 50 videos: store its id as {key}/video_name")
    return name
