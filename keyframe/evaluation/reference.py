"""Reference lines to read a model's numbers by, on the same labels: annotators, chance, position and baselines."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keyframe.evaluation import metrics
from keyframe.evaluation.video import RIDGE, TRAINING_FREE, EvalVideo, annotators_at_picks, mean_track
from keyframe.types import Float64Array, FloatArray, Labels

RANDOM_DRAWS = 100
POOLED_DRAWS = 50
F1_DRAWS = 20
# The ridge penalties to choose from, in units of the mean eigenvalue of the features' covariance: features of any scale
# have the same choice. The strongest is first, and wins ties.
RIDGE_PENALTIES = 10.0 ** np.arange(2, -4.5, -0.5)
# What each line predicts, in the order of tables. All but `pooled` are compared with each annotator; the baselines need
# the videos, or a feature file.
LINES = {
    "one_annotator": "One annotator's scores, compared with another's: all unordered pairs.",
    "other_annotators": "The mean of all other annotators, compared with the one left out, each in turn.",
    "ceiling": "The mean of all annotators, compared with each: about the most that any predictor can reach.",
    "random": f"Independent uniform random scores: the mean of {RANDOM_DRAWS} draws.",
    "uniform": f"1 at evenly spaced picks, {metrics.SUMMARY_SHARE:.0%} of all, and 0 at the others.",
    "position": "Nearness to the middle of the video, whatever it shows.",
    TRAINING_FREE: "The baseline that needs no training: shot structure, representativeness, novelty, sharpness.",
    RIDGE: "Ridge regression of the annotators' mean on the features of single frames, fitted on the training videos; "
    "its penalty is that of the highest Spearman's rho on the validation videos.",
    "pooled": "The mean of half of the annotators, compared with the mean of the other half and not with each "
    f"annotator: the mean of {POOLED_DRAWS} draws of halves.",
}


@dataclass(frozen=True)
class Line:
    """One reference line on one video: its mean correlations, NaN if none is defined."""

    kendall: float
    spearman: float
    comparisons: int
    undefined: int  # comparisons without a correlation (one side is constant), left out of the means


def reference_table(labels: Mapping[str, Labels], seed: int = 0) -> Iterator[tuple[str, dict[str, Line]]]:
    """The `LINES` of one video after another, as (video id, line by name); each video needs an annotator."""
    for video, one in labels.items():
        yield video, reference_lines(annotators_at_picks(one), draws_of(video, seed))


def draws_of(video: str, seed: int) -> np.random.Generator:
    """The random draws of a video, independent of other videos."""
    return np.random.default_rng([seed, zlib.crc32(video.encode("utf-8", "surrogatepass"))])


def reference_lines(
    annotators: FloatArray, rng: np.random.Generator, baselines: Mapping[str, FloatArray] | None = None
) -> dict[str, Line]:
    """The `LINES` of one video; a line that needs two annotators has no comparisons if there is one.

    `annotators` are each one's scores at the video's picks, (A, n), A at least 1, in any order; `baselines` are as of
    `EvalVideo`.
    """
    annotators = annotators[np.lexsort(annotators.T)]  # sorted, so that equal draws pool the same annotators
    count, length = annotators.shape
    predictions = {
        "one_annotator": annotators,
        "other_annotators": _means_of_others(annotators),
        "ceiling": mean_track(annotators)[None],
        **_tracks_of_chance(length, RANDOM_DRAWS, rng),
        **{name: scores[None] for name, scores in (baselines or {}).items()},
    }
    # which predictions x annotators are the line's comparisons; all for the other lines
    compared = {
        "one_annotator": np.triu(np.ones((count, count), dtype=bool), 1),
        "other_annotators": np.eye(len(predictions["other_annotators"]), count, dtype=bool),
    }
    tracks = np.concatenate(list(predictions.values()))
    taus, rhos = metrics.kendall_matrix(tracks, annotators), metrics.spearman_matrix(tracks, annotators)
    lines: dict[str, Line] = {}
    start = 0
    for name, rows in predictions.items():
        part = slice(start, start + len(rows))
        chosen = compared.get(name, np.ones((len(rows), count), dtype=bool))
        lines[name] = _mean_line(taus[part][chosen], rhos[part][chosen])
        start += len(rows)
    halves = list(_halves(annotators, rng))
    taus, rhos = (np.array([agreement(*pair) for pair in halves]) for agreement in (metrics.kendall, metrics.spearman))
    lines["pooled"] = _mean_line(taus, rhos)
    return lines


def reference_metrics(table: Mapping[str, Mapping[str, Line]]) -> dict[str, float]:
    """The `mean_metrics` over videos of `reference/<line>/kendall` and `reference/<line>/spearman`.

    Besides: `reference/videos`, the number of videos; `reference/<line>/videos`, how many of them have a value;
    `reference/<line>/comparisons` and `.../undefined`, the correlations of all videos and how many are not defined.
    """
    result = {"reference/videos": float(len(table))}
    for name in [name for name in LINES if all(name in row for row in table.values())]:
        lines = [row[name] for row in table.values()]
        key = f"reference/{name}"
        result |= metrics.mean_metrics(f"{key}/kendall", [line.kendall for line in lines])
        result |= metrics.mean_metrics(f"{key}/spearman", [line.spearman for line in lines])
        result[f"{key}/videos"] = float(sum(not np.isnan(line.kendall) for line in lines))
        result[f"{key}/comparisons"] = float(sum(line.comparisons for line in lines))
        result[f"{key}/undefined"] = float(sum(line.undefined for line in lines))
    return result


def _mean_line(taus: Float64Array, rhos: Float64Array) -> Line:
    return Line(metrics.defined_mean(taus), metrics.defined_mean(rhos), taus.size, int(np.isnan(taus).sum()))


def _means_of_others(annotators: FloatArray) -> Float64Array:
    """For each annotator the mean of all others, (A, T); (0, T) for a single annotator."""
    if len(annotators) < 2:
        return np.empty((0, annotators.shape[1]))
    return np.stack([mean_track(np.delete(annotators, one, axis=0)) for one in range(len(annotators))])


def against_others(annotators: FloatArray) -> list[tuple[float, float]]:
    """Kendall's tau and Spearman's rho of each annotator (A, T) with the mean of all others; none for a single one."""
    pairs = zip(_means_of_others(annotators), annotators, strict=False)
    return [(metrics.kendall(others, one), metrics.spearman(others, one)) for others, one in pairs]


def _tracks_of_chance(length: int, draws: int, rng: np.random.Generator) -> dict[str, Float64Array]:
    """The scores of the lines that see neither labels nor frames, each (tracks, length), in [0, 1]."""
    count = max(1, round(metrics.SUMMARY_SHARE * length))
    uniform = np.zeros((1, length))
    uniform[0, ((np.arange(count) + 0.5) * length / count).astype(int)] = 1
    nearness = 1 - np.abs(2.0 * np.arange(length) - (length - 1)) / (length + 1)
    return {"random": rng.random((draws, length)), "uniform": uniform, "position": nearness[None]}


def _halves(annotators: FloatArray, rng: np.random.Generator) -> Iterator[tuple[Float64Array, Float64Array]]:
    """Means of random disjoint halves of the annotators; of an odd number one is left out."""
    half = len(annotators) // 2
    for _ in range(POOLED_DRAWS if half else 0):
        order = rng.permutation(len(annotators))
        yield mean_track(annotators[order[:half]]), mean_track(annotators[order[half : 2 * half]])


def reference_f1(video: EvalVideo, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """The F1 of each line but `pooled` on one video, as (mean over users, best user); NaN without users.

    `one_annotator` is each user's summary against all others'. `other_annotators` is the summary of the mean scores
    of all but one annotator, compared with that one's summary: it has no best user, and is NaN without scores.
    """
    count, length = len(video.users), len(video.entries)
    tracks = {
        "ceiling": video.importance[None],
        **_tracks_of_chance(length, F1_DRAWS, rng),
        **{name: scores[None] for name, scores in video.baselines.items()},
    }
    if not count:
        return dict.fromkeys(["one_annotator", "other_annotators", *tracks], (float("nan"), float("nan")))
    others = [np.delete(video.users, user, axis=0) for user in range(count)]
    between = [metrics.f1_user(video.users[user], rest) for user, rest in enumerate(others) if len(rest)]
    left_out: list[float] = []
    if len(video.annotators) == count:
        means = _means_of_others(video.annotators)
        left_out = [metrics.f1_user(video.summary(mean), video.users[[user]])[0] for user, mean in enumerate(means)]
    lines = {
        "one_annotator": _mean_and_best(between),
        "other_annotators": (metrics.defined_mean(left_out), float("nan")),
    }
    for name, rows in tracks.items():
        lines[name] = _mean_and_best([metrics.f1_user(video.summary(row), video.users) for row in rows])
    return lines


def f1_metrics(table: Sequence[Mapping[str, tuple[float, float]]]) -> dict[str, float]:
    """The `mean_metrics` over videos of `reference/<line>/f1_user_mean|f1_user_max`, from `reference_f1` of each."""
    result: dict[str, float] = {}
    for line in [name for name in LINES if all(name in row for row in table)]:
        for place, name in enumerate(("f1_user_mean", "f1_user_max")):
            result |= metrics.mean_metrics(f"reference/{line}/{name}", [row[line][place] for row in table])
    return result


def _mean_and_best(rows: Sequence[Float64Array]) -> tuple[float, float]:
    return metrics.defined_mean([row.mean() for row in rows]), metrics.defined_mean([row.max() for row in rows])


@dataclass(frozen=True)
class Ridge:
    """Scores of single frames that are linear in their features."""

    weights: Float64Array  # (d,)
    bias: float
    penalty: float  # one of `RIDGE_PENALTIES`

    def scores(self, features: FloatArray) -> Float64Array:
        """Features (n, d) -> scores on the labels' scale, not clipped, (n,)."""
        return features @ self.weights + self.bias


def fit_ridge(train: Sequence[tuple[FloatArray, FloatArray]], val: Sequence[tuple[FloatArray, FloatArray]]) -> Ridge:
    """Fit features (n, d) of videos to importance (n,) in closed form (Hoerl and Kennard, 1970).

    Each frame counts the same. The penalty is that of the highest mean Spearman's rho on the validation videos.
    """
    count = sum(len(importance) for _, importance in train)
    mean = sum(features.sum(axis=0, dtype=np.float64) for features, _ in train) / count
    level = float(sum(importance.sum(dtype=np.float64) for _, importance in train) / count)
    covariance, target = np.zeros((len(mean), len(mean))), np.zeros(len(mean))
    for features, importance in train:
        centred = features - mean
        covariance += centred.T @ centred / count
        target += centred.T @ (importance - level) / count
    values, axes = np.linalg.eigh(covariance)
    target = axes.T @ target
    unit = values.mean() or 1.0

    def fitted(penalty: float) -> Ridge:
        weights = axes @ (target / (values.clip(0) + penalty * unit))
        return Ridge(weights, level - float(mean @ weights), penalty)

    def on_validation(ridge: Ridge) -> float:
        rho = metrics.defined_mean([metrics.spearman(ridge.scores(x), y) for x, y in val])
        return -np.inf if np.isnan(rho) else rho

    return max(map(fitted, RIDGE_PENALTIES.tolist()), key=on_validation)
