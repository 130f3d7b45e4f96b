"""The suite `evaluate`: what evaluation costs once videos are decoded and scored."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np
from scipy.stats import kendalltau

from keyframe.benchmark.baselines import plain_kts
from keyframe.benchmark.footage import SyntheticVideo, synthetic_video
from keyframe.benchmark.report import Bar, Measured, SuiteResult, ratio
from keyframe.evaluation.metrics import kendall_matrix
from keyframe.evaluation.reference import (
    RANDOM_DRAWS,
    draws_of,
    f1_metrics,
    reference_f1,
    reference_lines,
    reference_metrics,
)
from keyframe.evaluation.results import measure, over_videos, study
from keyframe.evaluation.video import EvalVideo, Shots, annotators_at_picks, subject_from_look
from keyframe.summary.shots import KtsShots, kts
from keyframe.system import in_child, resident_mb
from keyframe.timing import in_turns
from keyframe.types import FloatArray, IntArray

# What an evaluation of 50 videos of 10 000 frames may take on two cores.
LIMIT_S = 60.0

PARTS = {
    "kts": "shots by Kernel Temporal Segmentation",
    "people": "what each annotator would keep of those shots, and the training-free scores",
    "measure": "all metrics of the model and of the training-free baseline",
    "reference_f1": "keyshot F1 of the reference lines",
    "reference_lines": "rank correlations of the reference lines",
    "means": "means over videos with their bootstrap intervals",
}


@dataclass(frozen=True)
class Size:
    """How much is evaluated.

    Attributes:
        videos: how many.
        frames: of each.
        annotators: of each.
        seed: of what is generated.
    """

    videos: int = 50
    frames: int = 10_000
    annotators: int = 20
    seed: int = 0

    @property
    def steps(self) -> int:
        """What `evaluation` yields."""
        return 5 * self.videos + 2

    def __str__(self) -> str:
        return f"{self.videos} videos of {self.frames} frames with {self.annotators} annotators"


@dataclass(frozen=True)
class EvaluateSuite:
    """Times an evaluation and its parts, and two of them against what people write.

    The evaluation runs once, in a fresh process; the ratios are measured on one of its videos, in turns.

    Args:
        videos: how many are evaluated.
        frames: of each.
        annotators: of each.
        seed: of what is generated.
        shots: cuts a video; picklable.
        repeats: rounds of each ratio.
    """

    shots: Shots
    videos: int = 50
    frames: int = 10_000
    annotators: int = 20
    seed: int = 0
    repeats: int = 5

    def __call__(self, bar: Bar) -> SuiteResult:
        """Measure; `bar` shows progress."""
        size = Size(self.videos, self.frames, self.annotators, self.seed)
        return _measure(size, self.shots, self.repeats, bar)


def _measure(size: Size, shots: Shots, repeats: int, bar: Bar) -> SuiteResult:
    seconds = dict.fromkeys(PARTS, 0.0)
    peak = float("nan")
    steps = in_child(partial(evaluation, size, shots), "the evaluation")
    for name, value in bar(steps, "Evaluating", size.steps):
        if name in PARTS:
            seconds[name] += value
        else:
            peak = value
    total = sum(seconds.values())
    video = synthetic_video(0, size.frames, size.annotators, size.seed)
    picks, people = len(video.look), size.annotators
    pairs = f"Kendall's tau-b of {(people + RANDOM_DRAWS) * people} pairs of {picks} picks at once"
    contests = {
        "ratio_kendall_to_scipy": (kendall_calls(video), f"{pairs}, over a loop of scipy's kendalltau"),
        "ratio_kts_to_plain": (
            kts_calls(video),
            f"KTS of {picks} picks, over the plain dynamic programme, O(m n^2), in numpy",
        ),
    }
    ratios = []
    for name, (calls, meaning) in bar(contests.items(), "Comparing", len(contests)):
        seconds_of = in_turns(calls, repeats)
        ratios.append(ratio(f"evaluate/{name}", seconds_of["ours"], seconds_of["theirs"], meaning))
    limit = f"the seconds over {LIMIT_S:.0f} s, the limit for 50 videos of 10000 frames on two cores"
    figures = [
        Measured("evaluate/seconds", (total,), "s", f"the whole evaluation of {size}"),
        Measured("evaluate/ratio_to_limit", (total / LIMIT_S,), "", limit),
        Measured("evaluate/peak_mb", (peak,), "MB", "peak resident memory of its process, Python and torch included"),
        *(Measured(f"evaluate/seconds_{part}", (seconds[part],), "s", what) for part, what in PARTS.items()),
        *ratios,
    ]
    slowest = max(seconds, key=lambda part: seconds[part])
    return SuiteResult(
        name="evaluate",
        summary=f"Evaluating {size} takes {total:.1f} s, most of it {PARTS[slowest]} ({seconds[slowest]:.1f} s), "
        f"and {peak:.0f} MB at the peak.",
        figures=figures,
        bars=seconds,
        notes=[
            "Decoding is not in it: videos are generated as what evaluation sees of them, labels and descriptors of "
            "every 15th frame, and so are a model's scores. Nor is drawing the report.",
            "The evaluation runs once, in a fresh process that does one thing at a time; generating is not timed.",
            "Ratios are times: below 1 is faster than the baseline. Both sides take turns on one video, after one "
            "call of each to warm up, and a ratio is taken in each round.",
        ],
    )


def evaluation(size: Size, shots: Shots) -> Iterator[tuple[str, float]]:
    """All that evaluation does with decoded videos and their scores, in the same order, as (part, seconds).

    The last is ("peak_mb", the process's peak so far).
    """
    videos = [synthetic_video(number, size.frames, size.annotators, size.seed) for number in range(size.videos)]
    clock = _Laps()
    subjects: dict[str, EvalVideo] = {}
    for video in videos:
        cut = shots(video.look.descriptors, video.seconds)
        yield "kts", clock.lap()
        subjects[video.id] = subject_from_look(video.id, video.labels, video.look, video.seconds, cut)
        yield "people", clock.lap()
    rows: list[dict[str, float]] = []
    baseline: list[dict[str, float]] = []
    for video in videos:
        subject = subjects[video.id]
        rows += study("model", [{video.id: video.scores}], {video.id: subject}).rows.values()
        baseline.append(measure(subject.training_free, subject))
        yield "measure", clock.lap()
    f1 = []
    for id_, subject in subjects.items():
        f1.append(reference_f1(subject, draws_of(id_, size.seed)))
        yield "reference_f1", clock.lap()
    lines = {}
    for id_, subject in subjects.items():
        lines[id_] = reference_lines(subject.annotators, draws_of(id_, size.seed), subject.training_free)
        yield "reference_lines", clock.lap()
    for table in (rows, baseline):
        over_videos(table)
    f1_metrics(f1)
    reference_metrics(lines)
    yield "means", clock.lap()
    yield "peak_mb", resident_mb()[1]


def kendall_calls(video: SyntheticVideo) -> dict[str, Callable[[], FloatArray]]:
    """Tau of the annotators' and random tracks with each annotator, (A + draws, A): `ours`, and `theirs` by scipy."""
    people = annotators_at_picks(video.labels)
    tracks = np.concatenate([people, np.random.default_rng(0).random((RANDOM_DRAWS, people.shape[1]))])
    return {
        "ours": partial(kendall_matrix, tracks, people),
        "theirs": lambda: np.array([[kendalltau(track, one).statistic for one in people] for track in tracks]),
    }


def kts_calls(video: SyntheticVideo) -> dict[str, Callable[[], IntArray]]:
    """Shots of the same pictures, (m, 2): `ours`, and `theirs` by the plain programme."""
    features = video.look.descriptors
    return {
        "ours": partial(kts, features, penalty=KtsShots.penalty),
        "theirs": partial(plain_kts, features, KtsShots.penalty),
    }


class _Laps:
    """Seconds since the last lap."""

    def __init__(self) -> None:
        self._last = perf_counter()

    def lap(self) -> float:
        before, self._last = self._last, perf_counter()
        return self._last - before
