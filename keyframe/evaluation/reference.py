"""What people, chance and position in the video reach on a label file: the lines to read a model's numbers by.

Keyshot F1 of the reference lines: on some data sets chance comes close to people, and a reader should see it.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from keyframe.evaluation.keyshot import f1_user, hold_scores, keyshots
from keyframe.evaluation.metrics import (
    SUMMARY_SHARE,
    defined_mean,
    interval,
    kendall,
    kendall_matrix,
    spearman,
    spearman_matrix,
)
from keyframe.evaluation.video import EvalVideo, annotators_at_picks, mean_track
from keyframe.types import FloatArray, KeyframeError, Labels

RANDOM_DRAWS = 100
POOLED_DRAWS = 50

# What each line predicts, in the order of tables. All but `pooled` are compared with each annotator; `training_free`
# needs the videos.
LINES = {
    "one_annotator": "One annotator's scores, compared with another's: all unordered pairs.",
    "other_annotators": "The mean of all other annotators, compared with the one left out, each in turn.",
    "ceiling": "The mean of all annotators, compared with each: about the most that any predictor can reach.",
    "random": f"Independent uniform random scores: the mean of {RANDOM_DRAWS} draws.",
    "uniform": f"1 at evenly spaced picks, {SUMMARY_SHARE:.0%} of all, and 0 at the others.",
    "position": "Nearness to the middle of the video, whatever it shows.",
    "training_free": "The baseline that needs no training: shot structure, representativeness, novelty, sharpness.",
    "pooled": "The mean of half of the annotators, compared with the mean of the other half and not with each "
    f"annotator: the mean of {POOLED_DRAWS} draws of halves.",
}


@dataclass(frozen=True)
class Line:
    """One reference line on one video.

    Attributes:
        kendall: mean Kendall's tau-b of the line's comparisons, in [-1, 1]; NaN where none is defined.
        spearman: mean Spearman's rho of the same.
        comparisons: how many there are.
        undefined: how many of them have no correlation (one side is constant), and are left out of the means.
    """

    kendall: float
    spearman: float
    comparisons: int
    undefined: int


def reference_table(labels: Mapping[str, Labels], seed: int = 0) -> Iterator[tuple[str, dict[str, Line]]]:
    """The `LINES` of one video after another, as (video id, line by name).

    A video's lines depend on its own id and labels and on the seed, not on the other videos.

    Args:
        labels: video id -> labels.
        seed: makes the draws repeatable, not negative.

    Raises:
        KeyframeError: if a video has no annotators.
    """
    for video, one in labels.items():
        if not len(one.annotators):
            raise KeyframeError(f"{video} has no annotators: reference lines need each annotator's scores")
        yield video, reference_lines(annotators_at_picks(one), draws_of(video, seed))


def draws_of(video: str, seed: int) -> np.random.Generator:
    """The random draws for a video: its own, whatever other videos there are."""
    return np.random.default_rng([seed, zlib.crc32(video.encode("utf-8", "surrogatepass"))])


def reference_lines(
    people: FloatArray, rng: np.random.Generator, training_free: FloatArray | None = None
) -> dict[str, Line]:
    """The `LINES` of one video.

    The order of annotators changes nothing. A line that needs two annotators has no comparisons where there is one.

    Args:
        people: each annotator's scores at the video's picks, (A, n), A at least 1.
        rng: draws the random scores and the halves.
        training_free: the baseline's scores at the picks, (n,), where the video was looked at.
    """
    people = people[np.lexsort(people.T)]  # in an order of their own, so that equal draws pool the same people
    count, length = people.shape
    random = rng.random((RANDOM_DRAWS, length))
    predictions = {
        "one_annotator": people,
        "other_annotators": _others(people),
        "ceiling": mean_track(people)[None],
        "random": random,
        "uniform": evenly_spaced(length)[None],
        "position": -np.abs(2.0 * np.arange(length) - (length - 1))[None],
    }
    if training_free is not None:
        predictions["training_free"] = training_free[None]
    # which of a line's predictions x annotators are its comparisons; all of them where nothing is said
    compared = {
        "one_annotator": np.triu(np.ones((count, count), dtype=bool), 1),
        "other_annotators": np.eye(len(predictions["other_annotators"]), count, dtype=bool),
    }
    tracks = np.concatenate(list(predictions.values()))
    taus, rhos = kendall_matrix(tracks, people), spearman_matrix(tracks, people)
    lines: dict[str, Line] = {}
    start = 0
    for name, rows in predictions.items():
        part = slice(start, start + len(rows))
        chosen = compared.get(name, np.ones((len(rows), count), dtype=bool))
        lines[name] = _line(taus[part][chosen], rhos[part][chosen])
        start += len(rows)
    halves = list(_halves(people, rng))
    taus, rhos = (np.array([measure(*pair) for pair in halves]) for measure in (kendall, spearman))
    lines["pooled"] = _line(taus, rhos)
    return lines


def reference_metrics(table: Mapping[str, Mapping[str, Line]]) -> dict[str, float]:
    """Means over videos by name, `reference/<line>/kendall` and `.../spearman`.

    With them go `..._std` and `..._lo`, `..._hi`: the spread over videos and the 95 % bootstrap interval of the mean,
    NaN for fewer than 2 videos; `reference/<line>/comparisons` and `.../undefined`: the correlations of all videos
    and how many of them are not defined; `.../videos`: how many videos have a value; `reference/videos`: how many
    there are.

    Args:
        table: video id -> line by name, what `reference_table` gives.
    """
    metrics = {"reference/videos": float(len(table))}
    for name in [name for name in LINES if all(name in row for row in table.values())]:
        lines = [row[name] for row in table.values()]
        for metric in ("kendall", "spearman"):
            values = np.array([getattr(line, metric) for line in lines])
            key = f"reference/{name}/{metric}"
            metrics[key] = defined_mean(values)
            defined = values[~np.isnan(values)]
            metrics[f"{key}_std"] = float(defined.std(ddof=1)) if len(defined) > 1 else float("nan")
            metrics[f"{key}_lo"], metrics[f"{key}_hi"] = interval(values)
        metrics[f"reference/{name}/videos"] = float(sum(not np.isnan(line.kendall) for line in lines))
        metrics[f"reference/{name}/comparisons"] = float(sum(line.comparisons for line in lines))
        metrics[f"reference/{name}/undefined"] = float(sum(line.undefined for line in lines))
    return metrics


def _line(taus: npt.NDArray[np.float64], rhos: npt.NDArray[np.float64]) -> Line:
    return Line(defined_mean(taus), defined_mean(rhos), taus.size, int(np.isnan(taus).sum()))


def _others(people: FloatArray) -> npt.NDArray[np.float64]:
    """The mean of all annotators but each in turn, (A, T), or (0, T) where there is nobody else."""
    if len(people) < 2:
        return np.empty((0, people.shape[1]))
    return np.stack([mean_track(np.delete(people, one, axis=0)) for one in range(len(people))])


def evenly_spaced(length: int) -> npt.NDArray[np.float64]:
    """1 in the middle of each of `SUMMARY_SHARE * length` equal parts, else 0."""
    count = max(1, round(SUMMARY_SHARE * length))
    track = np.zeros(length)
    track[((np.arange(count) + 0.5) * length / count).astype(int)] = 1
    return track


def _halves(
    people: FloatArray, rng: np.random.Generator
) -> Iterator[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Means of two disjoint halves of the annotators, drawn anew each time; of an odd number one sits out."""
    half = len(people) // 2
    for _ in range(POOLED_DRAWS if half else 0):
        order = rng.permutation(len(people))
        yield mean_track(people[order[:half]]), mean_track(people[order[half : 2 * half]])


F1_DRAWS = 20

# Lines that have a summary of their own; the names are those of `keyframe.evaluation.reference.LINES`.
F1_LINES = ("one_annotator", "other_annotators", "ceiling", "random", "uniform", "position", "training_free")


def reference_f1(subject: EvalVideo, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """Each line's F1 on one video, as (mean over users, best user); NaN where it has none.

    `one_annotator` is each user's summary against all others'. `other_annotators` is made from the mean scores of all
    but one annotator, compared with that one's summary; so it has no best user, and nothing where there are no scores.

    Args:
        subject: the video.
        rng: draws the random scores.
    """
    count, length = len(subject.users), len(subject.entries)
    undefined = (float("nan"), float("nan"))
    if not count:
        return dict.fromkeys(F1_LINES, undefined)
    others = [np.delete(subject.users, user, axis=0) for user in range(count)]
    between = [f1_user(subject.users[user], rest) for user, rest in enumerate(others) if len(rest)]
    left_out: list[float] = []
    if len(subject.annotators) == count > 1:
        means = [mean_track(np.delete(subject.annotators, user, axis=0)) for user in range(count)]
        left_out = [
            float(f1_user(_summary(mean, subject), subject.users[[user]])[0]) for user, mean in enumerate(means)
        ]
    tracks = {
        "ceiling": [subject.importance],
        "random": list(rng.random((F1_DRAWS, length))),
        "uniform": [evenly_spaced(length)],
        "position": [1 - np.abs(2.0 * np.arange(length) - (length - 1)) / (length + 1)],
        "training_free": [subject.training_free],
    }
    lines = {
        "one_annotator": _mean_and_best(between),
        "other_annotators": (defined_mean(left_out), float("nan")),
    }
    for name, rows in tracks.items():
        lines[name] = _mean_and_best([f1_user(_summary(row, subject), subject.users) for row in rows])
    return lines


def f1_metrics(table: Sequence[Mapping[str, tuple[float, float]]]) -> dict[str, float]:
    """Means over videos by name, `reference/<line>/f1_user_mean` and `.../f1_user_max`, each with `_lo` and `_hi`.

    Args:
        table: what `reference_f1` gives, one a video.
    """
    metrics: dict[str, float] = {}
    for line in F1_LINES:
        for place, name in enumerate(("f1_user_mean", "f1_user_max")):
            values = [row[line][place] for row in table]
            key = f"reference/{line}/{name}"
            metrics[key] = defined_mean(values)
            metrics[f"{key}_lo"], metrics[f"{key}_hi"] = interval(values)
    return metrics


def _summary(scores: FloatArray, subject: EvalVideo) -> npt.NDArray[np.bool_]:
    return keyshots(hold_scores(scores, subject.entries, subject.n_frames), subject.shots)


def _mean_and_best(rows: Sequence[npt.NDArray[np.float64]]) -> tuple[float, float]:
    """Mean over rows of their mean and of their greatest."""
    return defined_mean([row.mean() for row in rows]), defined_mean([row.max() for row in rows])
