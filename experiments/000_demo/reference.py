"""Reference lines of the demo's test videos, from how they were made: what a model could reach, and what it must not.

    python experiments/000_demo/reference.py [data.seed ...]

Spearman against the annotators' mean at the 60 sampled frames, mean over the 24 test videos of fold 0.
"""

import sys

import numpy as np

from keyframe.data.demo import DISC_WORTH, FILLER, STYLES, DemoSet, begin, label
from keyframe.data.splits import stratified_folds
from keyframe.evaluation.metrics import spearman

FRAMES = 60


def reference(seed: int) -> dict[str, float]:
    """Mean Spearman by predictor."""
    demo = DemoSet(seed=seed)
    split = stratified_folds(
        {f"demo-{seed}-{number:03d}": STYLES[number % len(STYLES)] for number in range(demo.videos)}
    )
    rows: dict[str, list[float]] = {}
    worth = appearance_worth(demo, [int(name[-3:]) for name in split.train])
    for name in split.test:
        rng, story = begin(demo, int(name[-3:]))
        labels = label(rng, story.importance)
        shots = len(story.importance)
        at = (np.arange(FRAMES) + 0.5) / FRAMES * shots
        mean = labels.mean(0)[at.astype(int)]
        predictors = {
            "true importance (the ceiling)": story.importance,
            "best score from one frame alone": DISC_WORTH * story.discs + worth * (story.colours != FILLER),
            "position": np.arange(shots),
            "distance from the middle": np.abs(np.arange(shots) - shots / 2),
        }
        for predictor, scores in predictors.items():
            rows.setdefault(predictor, []).append(spearman(scores[at.astype(int)].astype(float), mean))
    return {predictor: float(np.mean(values)) for predictor, values in rows.items()}


def appearance_worth(demo: DemoSet, numbers: list[int]) -> float:
    """What a coloured scene is worth on average above a grey one, over the training videos."""
    coloured, grey = [], []
    for number in numbers:
        _, story = begin(demo, number)
        rest = story.importance - DISC_WORTH * story.discs
        coloured += list(rest[story.colours != FILLER])
        grey += list(rest[story.colours == FILLER])
    return float(np.mean(coloured) - np.mean(grey))


if __name__ == "__main__":
    for seed in map(int, sys.argv[1:] or ["0", "1", "2", "3"]):
        print(f"data.seed={seed}", *(f"{name} {value:.3f}" for name, value in reference(seed).items()), sep="\n  ")
