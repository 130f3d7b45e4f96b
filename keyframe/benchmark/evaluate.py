"""The suite `evaluate`: what evaluation costs once videos are decoded and scored."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.stats import kendalltau

from keyframe.benchmark import Bar, SuiteResult, check_whole_numbers
from keyframe.benchmark.footage import SyntheticVideo, synthetic_video
from keyframe.evaluation import reference
from keyframe.evaluation.metrics import kendall_matrix
from keyframe.evaluation.results import measure, model_result, overall_metrics
from keyframe.evaluation.video import TRAINING_FREE, Shots, annotators_at_picks, eval_video_from_appearance
from keyframe.summary.shots import KtsShots, kts
from keyframe.system import in_child, resident_mb
from keyframe.timing import Timer, in_turns
from keyframe.types import Float64Array, FloatArray, Int64Array, IntArray

# What an evaluation of 50 videos of 10 000 frames may take on two cores.
LIMIT_S = 60.0

EVALUATION_PARTS = {
    "kts": "shots by Kernel Temporal Segmentation",
    "people": "what each annotator would keep of those shots, and the training-free scores",
    "measure": "all metrics of the model and of the training-free baseline",
    "reference_f1": "keyshot F1 of the reference lines",
    "reference_lines": "rank correlations of the reference lines",
    "means": "means over videos with their bootstrap intervals",
}


@dataclass(frozen=True)
class EvaluateSuite:
    """Times an evaluation, two parts against plain code; the arguments are a node of conf/benchmark.yaml."""

    shots: Shots
    videos: int = 50
    frames: int = 10_000
    annotators: int = 20
    seed: int = 0
    repeats: int = 5

    def __post_init__(self) -> None:
        check_whole_numbers("evaluate", self, videos=1, frames=30, annotators=1, repeats=1)

    def __call__(self, bar: Bar) -> SuiteResult:
        result = SuiteResult("evaluate")
        *_, (seconds, peak) = bar(in_child(self.evaluation, "the evaluation"), "Evaluating", self.videos + 1)
        total = sum(seconds.values())
        size = f"{self.videos} videos of {self.frames} frames with {self.annotators} annotators"
        result.add("seconds", total, "s", f"the whole evaluation of {size}")
        limit = f"the seconds over {LIMIT_S:.0f} s, the limit for 50 videos of 10000 frames on two cores"
        result.add("ratio_to_limit", total / LIMIT_S, "", limit)
        result.add("peak_mb", peak, "MB", "peak resident memory of its process, Python and torch included")
        for part, meaning in EVALUATION_PARTS.items():
            result.add(f"seconds_{part}", seconds[part], "s", meaning)

        video = synthetic_video(0, self.frames, self.annotators, self.seed)
        count, picks = self.annotators, len(video.appearance)
        pairs = f"Kendall's tau-b of {(count + reference.RANDOM_DRAWS) * count} pairs of {picks} picks at once"
        meaning = f"KTS of {picks} picks, over the plain dynamic programme, O(m n^2), in numpy"
        contests = [
            ("ratio_kendall_to_scipy", kendall_calls(video), f"{pairs}, over a loop of scipy's kendalltau"),
            ("ratio_kts_to_plain", kts_calls(video), meaning),
        ]
        for name, calls, meaning in bar(contests, "Comparing", len(contests)):
            taken = in_turns(calls, self.repeats)
            result.add_ratio(name, taken["ours"], taken["theirs"], meaning)

        slowest = max(seconds, key=seconds.__getitem__)
        result.summary = (
            f"Evaluating {size} takes {total:.1f} s, most of it {EVALUATION_PARTS[slowest]} "
            f"({seconds[slowest]:.1f} s), and {peak:.0f} MB at the peak."
        )
        result.bars = seconds
        result.notes = [
            "Decoding is not in it: labels, descriptors and scores are generated, untimed. Nor is the report.",
            "Ratios are times of calls that take turns on one video: below 1 is faster than the baseline.",
        ]
        return result

    def evaluation(self) -> Iterator[tuple[dict[str, float], float]]:
        """Do all that evaluation does; yield, per video and at the end, seconds by part so far and the peak in MB."""
        videos = [synthetic_video(number, self.frames, self.annotators, self.seed) for number in range(self.videos)]
        rows: list[dict[str, float]] = []
        baseline, f1, lines = [], [], {}
        kept = []  # as an evaluation keeps them
        timer = Timer()
        for video in videos:
            cut = self.shots(video.appearance.descriptors, video.seconds)
            timer.lap("kts")
            entry = eval_video_from_appearance(video.id, video.labels, video.appearance, video.seconds, cut)
            kept.append(entry)
            timer.lap("people")
            rows += model_result("model", [{video.id: video.scores}], {video.id: entry}).rows.values()
            baseline.append(measure(entry.baselines[TRAINING_FREE], entry))
            timer.lap("measure")
            f1.append(reference.reference_f1(entry, reference.draws_of(video.id, self.seed)))
            timer.lap("reference_f1")
            draws = reference.draws_of(video.id, self.seed)
            lines[video.id] = reference.reference_lines(entry.annotators, draws, entry.baselines)
            timer.lap("reference_lines")
            yield timer.seconds, resident_mb()[1]
        for table in (rows, baseline):
            overall_metrics(table)
        reference.f1_metrics(f1)
        reference.reference_metrics(lines)
        timer.lap("means")
        yield timer.seconds, resident_mb()[1]


def kendall_calls(video: SyntheticVideo) -> dict[str, Callable[[], FloatArray]]:
    """Tau of the annotators' and random tracks with each annotator, (A + draws, A): `ours`, and `theirs` by scipy."""
    annotators = annotators_at_picks(video.labels)
    random = np.random.default_rng(0).random((reference.RANDOM_DRAWS, annotators.shape[1]))
    tracks = np.concatenate([annotators, random])
    return {
        "ours": partial(kendall_matrix, tracks, annotators),
        "theirs": lambda: np.array([[kendalltau(track, one).statistic for one in annotators] for track in tracks]),
    }


def kts_calls(video: SyntheticVideo) -> dict[str, Callable[[], IntArray]]:
    """Shots of the same frames, (m, 2): `ours`, and `theirs` by the plain programme."""
    features = video.appearance.descriptors
    return {
        "ours": partial(kts, features, penalty=KtsShots.penalty),
        "theirs": partial(plain_kts, features, KtsShots.penalty),
    }


def plain_kts(features: FloatArray, penalty: float) -> Int64Array:
    """KTS of features (n, d) by the textbook's dynamic programme over all numbers of change points, O(n^3).

    Potapov et al., Category-specific video summarization, ECCV 2014, algorithm 1. Each number of change points is one
    pass of numpy over all segments; the penalty and the result, (m + 1, 2), are those of `keyframe.summary.shots.kts`.
    """
    n = len(features)
    scatters = np.ascontiguousarray(_scatters(features.astype(np.float64)).T)  # [end, start]
    best = scatters[:, 0]  # of the first t steps, in one segment
    totals = [best[n]]
    last = np.zeros((n, n + 1), dtype=np.int64)
    for changes in range(1, n):
        sums = scatters[changes + 1 :, changes:] + best[changes:]
        last[changes, changes + 1 :] = changes + sums.argmin(axis=1)
        best = np.append(np.full(changes + 1, np.inf), sums.min(axis=1))
        totals.append(best[n] + penalty / 2 * changes * (np.log(n / changes) + 1))
    starts = [n]
    for changes in range(int(np.argmin(totals)), 0, -1):
        starts.append(int(last[changes, starts[-1]]))
    first = np.array([0, *starts[:0:-1]])
    return np.stack([first, np.append(first[1:], n) - 1], axis=1)


def _scatters(rows: Float64Array) -> Float64Array:
    """The scatter of every segment [s, t), (n + 1, n + 1); infinite for t <= s."""
    n = len(rows)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    kernel = rows @ rows.T
    diagonal = np.append(0.0, np.cumsum(np.diag(kernel)))
    sums = np.zeros((n + 1, n + 1))
    sums[1:, 1:] = kernel.cumsum(axis=0).cumsum(axis=1)
    corners = np.diag(sums)
    inside = corners[None, :] + corners[:, None] - sums - sums.T
    lengths = np.arange(n + 1)[None, :] - np.arange(n + 1)[:, None]
    scatter = diagonal[None, :] - diagonal[:, None] - inside / np.where(lengths > 0, lengths, 1)
    return np.where(lengths > 0, scatter, np.inf)
