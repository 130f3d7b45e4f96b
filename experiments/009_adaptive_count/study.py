"""How much to keep of a video: a fixed 15 %, or a number that each run sets on its validation videos.

    python experiments/009_adaptive_count/study.py RUN [RUN ...]

Each rule keeps whole shots, from scores at every 15th frame. An annotator's own summary is every shot whose mean label
lies above the middle of the scale: as long as each annotator wants it, unlike the published protocol's 15 %.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keyframe.evaluation.metrics import f1_user, hold_scores, interval, keyshots, paired_difference
from keyframe.evaluation.video import EvalVideo
from keyframe.runs import PixelVideo, Run, load_run
from keyframe.summary.shots import KtsShots
from keyframe.types import BoolArray, Float64Array, FloatArray

MIDDLE = 0.5  # of the scale of labels
FIXED = "fixed 15 %"


@dataclass(frozen=True)
class Video:
    """A video's shots, a model's score of each frame (L,), and what each annotator would keep, (A, L)."""

    eval_video: EvalVideo
    scores: Float64Array
    wanted: BoolArray


Rule = Callable[[Video, float], BoolArray]


def by_ratio(video: Video, ratio: float) -> BoolArray:
    """The published protocol's knapsack."""
    return keyshots(video.scores, video.eval_video.shots, ratio)


def by_threshold(video: Video, threshold: float) -> BoolArray:
    """The shots whose mean score is so many deviations above the video's; the best one if there is none."""
    means = shot_means(video.scores[None], video.eval_video)[0]
    kept = means >= video.scores.mean() + threshold * video.scores.std()
    return over_frames(kept if kept.any() else means == means.max(), video.eval_video)


def shot_means(tracks: FloatArray, eval_video: EvalVideo) -> Float64Array:
    """The mean of tracks (A, L) in each shot, (A, m)."""
    lengths = np.diff(eval_video.shots, axis=1)[:, 0] + 1
    return np.add.reduceat(tracks.astype(np.float64), eval_video.shots[:, 0], axis=1) / lengths


def over_frames(kept: BoolArray, eval_video: EvalVideo) -> BoolArray:
    """Shots (..., m) -> frames (..., L)."""
    return np.repeat(kept, np.diff(eval_video.shots, axis=1)[:, 0] + 1, axis=-1)


def numbers(summary: BoolArray, video: Video) -> tuple[float, float, float]:
    """F1 with the annotators' own summaries (0 if both keep nothing), shots too many or too few, and the share kept."""
    first = video.eval_video.shots[:, 0]
    count = abs(summary[first].sum() - video.wanted[:, first].sum(axis=1).mean())
    return float(np.nan_to_num(f1_user(summary, video.wanted)).mean()), float(count), float(summary.mean())


def calibrate(rule: Rule, grid: Float64Array, videos: list[Video], for_length: bool) -> float:
    """The number of the best mean F1, or the one whose summaries are on average as long as the annotators'."""
    table = np.array([[numbers(rule(video, value), video) for video in videos] for value in grid]).mean(axis=1)
    length = np.mean([video.wanted.mean() for video in videos])
    return float(grid[np.argmin(np.abs(table[:, 2] - length)) if for_length else np.argmax(table[:, 0])])


def scored(run: Run, split: str, cut: dict[str, EvalVideo]) -> dict[str, Video]:
    """The videos of a split; `cut` keeps what does not depend on the run."""
    videos = {}
    for id_, video in run.videos(split).items():
        assert isinstance(video, PixelVideo)
        if id_ not in cut:
            cut[id_] = video.eval_video(KtsShots())
        one = cut[id_]
        scores = hold_scores(video.score(run.scorer, one), one.entries, one.n_frames)
        wanted = over_frames(shot_means(video.labels.annotators, one) > MIDDLE, one)
        videos[id_] = Video(one, scores, wanted)
    return videos


def main(places: list[str]) -> None:
    """Print what each run has calibrated, and a row for each rule."""
    cut: dict[str, EvalVideo] = {}
    rows: dict[str, list[list[tuple[float, float, float]]]] = {}  # of a rule: runs, videos
    for place in places:
        run = load_run(place)
        held_out, test = list(scored(run, "val", cut).values()), scored(run, "test", cut)
        rows.setdefault(FIXED, []).append([numbers(by_ratio(video, 0.15), video) for video in test.values()])
        for name, rule, grid in (
            ("ratio", by_ratio, np.arange(0.05, 0.5, 0.02)),
            ("threshold", by_threshold, np.arange(-0.5, 2.5, 0.1)),
        ):
            for aim in ("F1", "length"):
                value = calibrate(rule, grid, held_out, for_length=aim == "length")
                print(f"{place}: {name} for {aim} {value:.2f}")
                rows.setdefault(f"{name} for {aim}", []).append([numbers(rule(v, value), v) for v in test.values()])
        shares = np.array([video.wanted.mean(axis=1) for video in test.values()])  # (videos, annotators)
        print(f"annotators keep {shares.mean():.3f}, +- {shares.mean(axis=1).std():.3f} over videos")
    tables = {name: np.mean(runs, axis=0) for name, runs in rows.items()}
    for name, table in tables.items():
        low, high = interval(table[:, 0])
        gap = paired_difference(table[:, 0], tables[FIXED][:, 0])
        print(
            f"| {name} | {table[:, 0].mean():.3f} ({low:.3f} to {high:.3f}) "
            f"| {gap.value:+.3f} ({gap.lo:+.3f} to {gap.hi:+.3f}), p = {gap.p_value:.3f} "
            f"| {table[:, 1].mean():.1f} | {table[:, 2].mean():.3f} |"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
