"""One model's scores on many videos, whether it is one run, the folds of a cross-validation, seeds, or an ensemble."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from keyframe.evaluation.measure import METRICS, mean_row, measure
from keyframe.evaluation.subject import Subject
from keyframe.types import FloatArray

ENSEMBLES = ("mean", "rank")


@dataclass(frozen=True)
class Study:
    """What a model did on the videos it was not trained on.

    Attributes:
        name: of the model.
        rows: video -> its numbers (`measure`); where several runs scored a video, the mean of theirs, or with an
            ensemble the numbers of the joined scores.
        scores: video -> scores at the subject's entries, (n,), the mean over runs; for pictures.
        runs: video -> how many runs scored it.
        by_run: for each run, the means over its videos, NaN without any, and `videos`; none for an ensemble.
        members: how many runs there are in all; folds have a part of the videos each.
        ensemble: how the runs' scores were joined; None where their numbers were.
    """

    name: str
    rows: dict[str, dict[str, float]]
    scores: dict[str, FloatArray]
    runs: dict[str, int]
    by_run: list[dict[str, float]]
    members: int = 1
    ensemble: str | None = None

    def over_runs(self) -> dict[str, float]:
        """Standard deviation over runs of each mean, `<name>_over_runs`: what training by itself leaves to chance.

        Empty where there is one run, or runs were tested on different videos.
        """
        if (
            len(self.by_run) < 2
            or len(set(self.runs.values())) > 1
            or len(self.by_run) != next(iter(self.runs.values()))
        ):
            return {}
        return {f"{name}_over_runs": float(np.std([one[name] for one in self.by_run], ddof=1)) for name in METRICS}


def study(
    name: str,
    scored: Sequence[Mapping[str, FloatArray]],
    subjects: Mapping[str, Subject],
    ensemble: str | None = None,
) -> Study:
    """Join what the runs of one model say.

    Args:
        name: of the model.
        scored: for each run, video -> scores at the subject's entries, (n,); folds have different videos.
        subjects: video -> what scores are compared with.
        ensemble: None measures each run by itself and takes the mean of the numbers. `mean` measures the mean of the
            scores, `rank` the mean of their ranks within the video; ranks are no scores, so `mse` and `mae` are NaN.

    Raises:
        ValueError: if `ensemble` is none of these.
    """
    if ensemble not in (None, *ENSEMBLES):
        raise ValueError(f"ensemble must be None, {' or '.join(ENSEMBLES)}, not {ensemble}")
    rows, scores, runs = {}, {}, {}
    each: list[list[dict[str, float]]] = [[] for _ in scored]
    for video, subject in subjects.items():
        tracks = [one[video] for one in scored if video in one]
        if not tracks:
            continue
        if ensemble is None:
            measured = {place: measure(one[video], subject) for place, one in enumerate(scored) if video in one}
            rows[video] = mean_row(list(measured.values()))
            for place, row in measured.items():
                each[place].append(row)
            scores[video] = np.mean(tracks, axis=0)
        else:
            # divided last: frames whose ranks add up to the same must tie
            joined = [rankdata(track) for track in tracks] if ensemble == "rank" else tracks
            scores[video] = np.mean(joined, axis=0) / (len(subject.entries) if ensemble == "rank" else 1)
            rows[video] = measure(scores[video], subject)
            if ensemble == "rank":
                rows[video] |= {"mse": float("nan"), "mae": float("nan")}
        runs[video] = len(tracks)
    nothing = dict.fromkeys(METRICS, float("nan"))
    by_run = [(mean_row(measured) if measured else nothing) | {"videos": float(len(measured))} for measured in each]
    return Study(name, rows, scores, runs, [] if ensemble else by_run, len(scored), ensemble)
