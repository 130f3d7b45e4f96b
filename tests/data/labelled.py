"""A user's own labelled videos, small: what `data=labelled` reads."""

from pathlib import Path

import numpy as np

from keyframe.data.labels import write_tsv
from tests.videos import write_video

FRAMES = 40


def write_labelled(root: Path, videos: int = 6) -> Path:
    """Write videos `clip0.mp4` ... of `FRAMES` frames, and `labels.tsv` with the labels of three annotators."""
    (root / "videos").mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"clip{number}" for number in range(videos)]
    for seed, name in enumerate(names):
        write_video(root / "videos" / f"{name}.mp4", frames=FRAMES, size=(64, 48), seed=seed)
    write_tsv(root / "labels.tsv", {name: rng.integers(1, 6, (3, FRAMES)) for name in names})
    return root
