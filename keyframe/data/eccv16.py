"""What every reader of eccv16-style h5 files needs: the videos' names, and their scores at the picks.

The format is that of Zhang et al., Video summarization with LSTM, ECCV 2016, as spread by Zhou et al., AAAI 2018: a
group a video, `video_1`, `video_2` ..., with arrays whose dtypes and shapes differ from file to file.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from keyframe.data.hdf5 import member
from keyframe.data.tvsum_ids import data_set_named, official_id
from keyframe.errors import KeyframeError


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
