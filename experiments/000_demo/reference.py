"""Reference lines of the demo's test videos, from how they were made: what a model could reach, and what it must not.

    python experiments/000_demo/reference.py [data.seed ...]

Spearman against the annotators' mean at two frames per second, mean over the 24 test videos of fold 0; and the mean
Spearman of two annotators.
"""

import sys

import numpy as np
from scipy.stats import spearmanr

from keyframe.data.demo import FILLER, OBJECTS, STAR_WORTH, DemoSet, Scenario, begin, camera_of, label
from keyframe.data.splits import stratified_folds
from keyframe.evaluation.metrics import spearman

FRAMES_PER_SHOT = 4


def reference(seed: int) -> dict[str, float]:
    """Mean Spearman by predictor."""
    demo = DemoSet(seed=seed)
    split = stratified_folds({f"demo-{seed}-{number:03d}": camera_of(number) for number in range(demo.videos)})
    rows: dict[str, list[float]] = {}
    worth = pattern_worth([begin(demo, int(name[-3:]))[1] for name in split.train])
    for name in split.test:
        rng, scenario = begin(demo, int(name[-3:]))
        labels = label(rng, scenario.importance).repeat(FRAMES_PER_SHOT, axis=1)
        shots = len(scenario.importance)
        predictors = {
            "true importance (the ceiling)": scenario.importance,
            "best score from one frame alone": star_worth(scenario) + worth * (scenario.patterns != FILLER),
            "position": np.arange(shots),
            "distance from the middle": np.abs(np.arange(shots) - shots / 2),
        }
        for predictor, scores in predictors.items():
            frames = scores.repeat(FRAMES_PER_SHOT).astype(float)
            rows.setdefault(predictor, []).append(spearman(frames, labels.mean(0)))
        pairs = spearmanr(labels.T).statistic[np.triu_indices(len(labels), 1)]
        rows.setdefault("two annotators", []).append(float(np.nanmean(pairs)))
    return {predictor: float(np.mean(values)) for predictor, values in rows.items()}


def star_worth(scenario: Scenario) -> np.ndarray:
    """What the objects of a video's shots are worth, (S,)."""
    return STAR_WORTH * (scenario.objects == OBJECTS.index("star"))


def pattern_worth(scenarios: list[Scenario]) -> float:
    """What a shot of a pattern is worth on average above one of clouds."""
    rest = np.concatenate([scenario.importance - star_worth(scenario) for scenario in scenarios])
    worth = np.concatenate([scenario.patterns for scenario in scenarios]) != FILLER
    return float(rest[worth].mean() - rest[~worth].mean())


if __name__ == "__main__":
    for seed in map(int, sys.argv[1:] or ["0", "1", "2", "3"]):
        print(f"data.seed={seed}", *(f"{name} {value:.3f}" for name, value in reference(seed).items()), sep="\n  ")
