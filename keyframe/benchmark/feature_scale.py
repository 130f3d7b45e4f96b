"""The suite `feature_scale`: many videos to train on."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np

from keyframe.benchmark.report import Bar, SuiteResult, check_rising, check_whole_numbers
from keyframe.benchmark.train import Trained, epoch_seconds, time_training


@dataclass(frozen=True)
class FeatureScaleSuite:
    """Trains on feature files of more and more videos; the arguments are the node `feature_scale` of benchmark.yaml.

    The files are like Mr.HiSum's, one feature a second, but in float16.
    """

    directory: str
    recipe: Sequence[str]
    counts: Sequence[int] = (1000, 31892)
    features: int = 200
    width: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole_numbers("feature_scale", self, counts=20, features=2, width=1)
        check_rising("feature_scale.counts", self.counts, "[1000,31892]")

    def __call__(self, bar: Bar) -> SuiteResult:
        """Measure; `bar` shows progress."""
        runs = {}
        Path(self.directory).expanduser().mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=Path(self.directory).expanduser()) as place:
            for count in bar(self.counts, "Training", len(self.counts)):
                file = Path(place, "features.h5")
                self._write(file, count)
                overrides = (*self.recipe, "data=h5", f"data.path={file}", f"data.width={self.width}")
                runs[count] = time_training(overrides, Path(place), str(count))
        result = SuiteResult("feature_scale")
        add_trainings(result, runs)
        most = self.counts[-1]
        result.summary = (
            f"An epoch of {most} videos takes {result[f'seconds_epoch_{most}']:.0f} s, "
            f"{result[f'waiting_share_{most}']:.1%} of it waiting for data, in {result[f'peak_rss_mb_{most}']:.0f} MB."
        )
        result.notes = [
            f"Random features ({self.features}, {self.width}) in float16; recipe: {' '.join(self.recipe)}.",
            "Epochs hold validation, on an eighth of the videos, and checkpoints. Memory is the peak of the process.",
            "What was just written may still be in the system's memory: no cold disk is measured.",
        ]
        return result

    def _write(self, path: Path, count: int) -> None:
        rng = np.random.default_rng(self.seed)
        drawn = rng.standard_normal((2 * self.features, self.width)).astype(np.float16)
        starts = np.arange(0, self.features, 10)
        shots = np.stack([starts, np.append(starts[1:], self.features)], axis=1)
        with h5py.File(path, "w") as file:
            for number, first in enumerate(rng.integers(0, self.features, count), start=1):
                group = file.create_group(f"video_{number}")
                group["features"] = drawn[first : first + self.features]
                group["gtscore"] = 1 / (1 + np.exp(-drawn[first : first + self.features, 0].astype(np.float64)))
                group["change_points"] = shots


def add_trainings(result: SuiteResult, runs: Mapping[int, Trained]) -> None:
    """Add the figures and bars of trainings, by number of videos, from the fewest to the most; see `Trained`."""
    *_, most = runs
    seconds = {count: statistics.median(map(epoch_seconds, run.epochs)) for count, run in runs.items()}
    for count, run in runs.items():
        waiting = [epoch["wait"] / epoch_seconds(epoch) for epoch in run.epochs]
        result.add(f"seconds_epoch_{count}", map(epoch_seconds, run.epochs), "s", f"an epoch of {count} videos")
        result.add(f"waiting_share_{count}", waiting, "", "the share of an epoch spent waiting for batches")
        result.add(
            f"seconds_before_{count}", run.before, "s", "what is in the file, and the features' mean and deviation"
        )
        result.add(f"peak_rss_mb_{count}", run.peak_mb, "MB", f"peak memory of training on {count} videos")
        result.bars[f"an epoch of {count}"] = seconds[count]
        if count != most:
            value = seconds[most] / most / (seconds[count] / count)
            result.add(
                f"ratio_{most}_over_{count}", value, "", f"an epoch's time per video of {most}, over that of {count}"
            )
