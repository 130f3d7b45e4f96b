"""Feature files as the field shares them, small: what `data=h5` reads."""

from pathlib import Path

import h5py
import numpy as np

from keyframe.data.hdf5 import TVSUM_IDS

WIDTH = 6


def video(steps: int, seed: int, width: int = WIDTH) -> dict[str, object]:
    """The arrays of one video, in the dtypes of the published files; the score can be seen in the features."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((steps, width))
    n_frames = 15 * steps - 7
    starts = np.arange(0, n_frames, 60)
    return {
        "features": features.astype(np.float32),
        "gtscore": 1 / (1 + np.exp(-2 * features[:, 0])),
        "picks": np.arange(0, n_frames, 15),
        "n_frames": n_frames,
        "n_steps": steps,
        "change_points": np.stack([starts, np.append(starts[1:] - 1, n_frames - 1)], axis=1),
        "user_summary": (rng.random((3, n_frames)) < 0.15).astype(np.float32),
    }


def write_features(path: Path, groups: dict[str, dict[str, object]]) -> Path:
    """Write `video_N` -> arrays; what is None is left out."""
    with h5py.File(path, "w") as file:
        for key, values in groups.items():
            for name, value in values.items():
                if value is not None:
                    file[f"{key}/{name}"] = value
    return path


def write_tvsum(path: Path, videos: int = 10, width: int = WIDTH) -> Path:
    """A file of the first videos of TVSum, cut to 20 steps and more, hence named."""
    groups = {f"video_{n}": {**video(20 + n, n, width), "video_name": TVSUM_IDS[n - 1]} for n in range(1, videos + 1)}
    return write_features(path, groups)


def write_summe(path: Path, names: list[str]) -> Path:
    """A file with names of its own, as SumMe's."""
    groups = {f"video_{n}": {**video(20, n), "video_name": name.encode()} for n, name in enumerate(names, start=1)}
    return write_features(path, groups)
