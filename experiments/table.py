"""Join runs of several models, over seeds and folds, into metrics.json and a table.

    python experiments/table.py RECORD NAME=RUNS [NAME=RUNS ...]

RUNS is a folder with runs at any depth; a name may have several. The seeds and folds that all models have are compared.
A video's number is the mean over the seeds, by the runs' own test at their sampled frames; intervals, differences and
p-values are over videos.
The last column is the best epoch minus the last one, by Spearman on the validation videos.
"""

import csv
import re
import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from keyframe.evaluation.metrics import interval, paired_difference
from keyframe.files import write_metrics
from keyframe.types import Float64Array

METRICS = ("annotator_spearman", "annotator_kendall", "spearman", "mse")
PAIRED = ("annotator_spearman", "spearman")

# (seed, fold) -> video -> its METRICS
Tests = dict[tuple[int, int], dict[str, list[float]]]


def main(record: Path, models: Mapping[str, Sequence[Path]]) -> None:
    """Write RECORD/metrics.json and print a row for each model and each pair."""
    tests = {name: read(runs) for name, runs in models.items()}
    jobs = sorted(set.intersection(*(set(one) for one in tests.values())))
    if not jobs:
        raise SystemExit(f"No seed and fold is finished in all of {', '.join(models)}.")
    flat: dict[str, float] = {"runs": len(jobs)}
    print("seed and fold:", *jobs)
    means: dict[str, dict[str, Float64Array]] = {}
    for name, one in tests.items():
        videos: dict[str, list[list[float]]] = {}
        for job in jobs:
            for video, row in one[job].items():
                videos.setdefault(video, []).append(row)
        table = np.array([np.mean(videos[video], axis=0) for video in sorted(videos)])
        means[name] = dict(zip(METRICS, table.T, strict=True))
        cells = []
        for key, values in means[name].items():
            low, high = interval(values)
            flat |= {f"{name}/{key}": values.mean(), f"{name}/{key}_lo": low, f"{name}/{key}_hi": high}
            cells.append(f"{values.mean():.3f} ({low:.3f} to {high:.3f})")
        for seed in sorted({seed for seed, _ in jobs}):
            rows = [row[0] for job in jobs if job[0] == seed for row in one[job].values()]
            flat[f"{name}/{METRICS[0]}/seed{seed}"] = np.mean(rows)
            cells.append(f"{np.mean(rows):.3f}")
        gaps = [best_minus_last(path) for runs in models[name] for path in runs.rglob("train.log")]
        flat |= {f"{name}/best_minus_last": float(np.mean(gaps)), f"{name}/best_minus_last_max": max(gaps)}
        cells.append(f"{np.mean(gaps):.3f}, at most {max(gaps):.3f}")
        print("|", " | ".join([name, *cells]), "|")
    flat["videos"] = len(table)
    for first, second in combinations(means, 2):
        cells = []
        for key in PAIRED:
            gap = paired_difference(means[second][key], means[first][key])
            pair = f"difference/{second}-{first}/{key}"
            flat |= {pair: gap.value, f"{pair}_lo": gap.lo, f"{pair}_hi": gap.hi, f"{pair}_p": gap.p_value}
            cells.append(f"{gap.value:+.3f} ({gap.lo:+.3f} to {gap.hi:+.3f}) | {gap.p_value:.3f}")
        print("|", " | ".join([f"{second} - {first}", *cells]), "|")
    write_metrics(record / "metrics.json", {key: round(float(value), 5) for key, value in flat.items()})


def read(folders: Sequence[Path]) -> Tests:
    """The tests of a model's finished runs."""
    tests: Tests = {}
    for path in sorted(path for runs in folders for path in runs.rglob("per_video.csv")):
        config = OmegaConf.load(path.parent / "config.yaml")
        with path.open() as file:
            rows = {row["video"]: [float(row[key]) for key in METRICS] for row in csv.DictReader(file)}
        tests[config.seed, config.data.fold] = rows
    return tests


def best_minus_last(log: Path) -> float:
    """Spearman on the validation videos, best epoch minus last, of a run's train.log."""
    values = [float(value) for value in re.findall(r"epoch \d+/\d+, .* val Spearman (-?[\d.]+)", log.read_text())]
    return max(values) - values[-1]


if __name__ == "__main__":
    given: dict[str, list[Path]] = {}
    for argument in sys.argv[2:]:
        key, _, folder = argument.partition("=")
        given.setdefault(key, []).append(Path(folder))
    main(Path(sys.argv[1]), given)
