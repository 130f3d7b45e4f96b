"""SumMe as its archive unpacks, of videos that are there: what `data=summe` reads."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.io import savemat


def write_gt(path: Path, user_score: np.ndarray, /, **changes: object) -> Path:
    """Write `GT/<id>.mat` with the fields of the release, from scores (n_frames, users); None leaves a field out."""
    segments = np.empty((1, user_score.shape[1]), dtype=object)
    for user in range(user_score.shape[1]):
        segments[0, user] = np.array([[0.0, 2.0]])
    fields = {
        "all_userIDs": np.array(["a", "b"], dtype=object),
        "segments": segments,
        "nFrames": float(len(user_score)),
        "video_duration": len(user_score) / 30,
        "FPS": 30.0,
        "gt_score": (user_score > 0).mean(axis=1, keepdims=True),
        "user_score": user_score,
    }
    savemat(path, {name: value for name, value in (fields | changes).items() if value is not None}, do_compression=True)
    return path


def write_release(root: Path, videos: Mapping[str, Path], user_scores: Mapping[str, np.ndarray]) -> Path:
    """Lay out `videos/` (links) and `GT/`; scores are (n_frames, users), 0 for what is not in the summary."""
    (root / "videos").mkdir(parents=True)
    (root / "GT").mkdir()
    for name, path in videos.items():
        (root / "videos" / f"{name}{path.suffix}").symlink_to(path)
        write_gt(root / "GT" / f"{name}.mat", user_scores[name])
    return root
