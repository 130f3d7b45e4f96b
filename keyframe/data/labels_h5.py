"""Read the eccv16-style h5 files in which published systems get TVSum and SumMe."""

from pathlib import Path

import numpy as np

from keyframe.data.eccv16 import named_groups, read_scores
from keyframe.data.hdf5 import open_hdf5
from keyframe.data.tvsum_ids import TVSUM_CATEGORIES
from keyframe.types import Labels

_OPTION = "data.labels"


def read_eccv16_h5(path: str | Path) -> dict[str, Labels]:
    """Read the importance track of each video of an eccv16-style h5 file.

    Of a group `video_N` are read `gtscore` (n_steps,), `picks` (n_steps,) and `n_frames`; see `keyframe.data.eccv16`.
    A score holds from its pick to the next. `user_summary` is left alone: it is binary keyshots, and their mean is
    no importance score.

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
    with open_hdf5(path, _OPTION) as file:
        for key, name, group in named_groups(file, path, _OPTION):
            track = read_scores(group, key, path, _OPTION)
            step = np.searchsorted(track.picks, np.arange(track.n_frames), side="right") - 1
            labels[name] = Labels(
                importance=track.scores[np.maximum(step, 0)].astype(np.float32),
                annotators=np.empty((0, track.n_frames), dtype=np.float32),
                category=TVSUM_CATEGORIES.get(name, ""),
            )
    return labels
