"""Read the eccv16-style h5 files in which published systems get TVSum and SumMe."""

import re
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from keyframe.data.hdf5 import member, open_hdf5
from keyframe.data.tvsum_ids import TVSUM_CATEGORIES, official_id
from keyframe.errors import KeyframeError
from keyframe.types import Labels


def read_eccv16_h5(path: str | Path) -> dict[str, Labels]:
    """Read the importance track of each video of an eccv16-style h5 file.

    A group a video, `video_1`, `video_2` ..., with `gtscore` (n_steps,), `picks` (n_steps,) and `n_frames`;
    the format is that of Zhang et al., Video summarization with LSTM, ECCV 2016, as spread by Zhou et al.,
    AAAI 2018. A score holds from its pick to the next. `user_summary` is left alone: it is binary keyshots,
    and their mean is no importance score.

    Args:
        path: e.g. `eccv16_dataset_tvsum_google_pool5.h5`.

    Returns:
        Video id -> labels without annotators, in the order of N. The id is the group's `video_name` where
        it has one (SumMe), else the N-th of TVSum's official order. A gtscore outside [0, 1] is scaled by
        its own minimum and maximum, as DSNet does.

    Raises:
        KeyframeError: if the file is missing, is no HDF5, holds no video, or a video lacks a dataset,
            cannot be named, or holds arrays that do not fit each other.
    """
    path = Path(path)
    labels: dict[str, Labels] = {}
    with open_hdf5(path) as file:
        for key in sorted((key for key in file if key.startswith("video_")), key=_by_number):
            group = file[key]
            name = _name(group, key, path)
            if name in labels:
                raise KeyframeError(f"{path}: {key} is the second video named {name}: give each its own video_name")
            importance = _hold(group, key, path)
            labels[name] = Labels(
                importance=importance,
                annotators=np.empty((0, len(importance)), dtype=np.float32),
                category=TVSUM_CATEGORIES.get(name, ""),
            )
    if not labels:
        raise KeyframeError(f"{path} holds no group video_N: give an eccv16-style h5 as data.labels")
    return labels


def _by_number(key: str) -> tuple[int, str]:
    digits = re.search(r"\d+$", key)
    return int(digits[0]) if digits else 0, key


def _name(group: h5py.Group, key: str, path: Path) -> str:
    """Return the video's id: its own `video_name`, or what `video_N` stands for in TVSum."""
    if isinstance(group, h5py.Group) and "video_name" in group:
        value = np.asarray(member(group, "video_name", path)[()]).ravel()[0]
        return value.decode("utf-8") if isinstance(value, bytes) else str(value)
    name = official_id(key)
    if name is None:
        raise KeyframeError(f"{path}: {key} is none of TVSum's 50 videos: store its id as {key}/video_name")
    return name


def _hold(group: h5py.Group, key: str, path: Path) -> npt.NDArray[np.float32]:
    """Spread gtscore over the frames: each score holds until the next pick."""
    scores = np.asarray(member(group, "gtscore", path)[()], dtype=np.float64).ravel()
    picks = np.asarray(member(group, "picks", path)[()], dtype=np.int64).ravel()
    n_frames = int(np.asarray(member(group, "n_frames", path)[()]).item())
    if not scores.size or scores.size != picks.size or not np.isfinite(scores).all():
        raise KeyframeError(
            f"{path}: {key} has {scores.size} gtscores and {picks.size} picks: it needs one finite score a pick"
        )
    if picks[0] < 0 or picks[-1] >= n_frames or (np.diff(picks) <= 0).any():
        raise KeyframeError(f"{path}: the picks of {key} must rise within its {n_frames} frames: mend the file")
    if scores.min() < 0 or scores.max() > 1:
        span = scores.max() - scores.min()
        scores = (scores - scores.min()) / (span or 1.0)
    step = np.searchsorted(picks, np.arange(n_frames), side="right") - 1
    return scores[np.maximum(step, 0)].astype(np.float32)
