"""How much of a video to keep: a fixed 15 %, or a number calibrated on the run's validation videos?

    python experiments/009_adaptive_count/study.py OUT RUN [RUN ...]

Every rule decides per whole shot, from the scores of the evaluation's picks. Its one number is set on the validation
videos of the run; test videos are only measured. People's own summary is every shot whose mean label lies above the
middle of the scale: as long as each person wants it, unlike the field's 15 % summaries.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from keyframe.data.labels import read_labels
from keyframe.drawing.plots import draw_bars
from keyframe.evaluation.metrics import f1_user_mean, hold_scores, interval, keyshots, paired_difference
from keyframe.evaluation.video import EvalVideo
from keyframe.files import write_metrics
from keyframe.runs import PixelVideo, Run, load_run
from keyframe.summary.shots import KtsShots
from keyframe.types import FloatArray

Mask = npt.NDArray[np.bool_]
MIDDLE = 0.5  # of the scale of labels
FIXED = 0.15
RATIOS = np.round(np.arange(0.05, 0.65, 0.01), 2)
THRESHOLDS = np.round(np.arange(-1.0, 2.0, 0.05), 2)  # deviations of a video's scores above their mean

Rule = Callable[[FloatArray, EvalVideo, float], Mask]


@dataclass(frozen=True)
class Scored:
    """A video, what each person would keep of it, (A, L), and a model's scores."""

    eval_video: EvalVideo
    people: Mask
    scores: FloatArray


def by_ratio(scores: FloatArray, eval_video: EvalVideo, ratio: float) -> Mask:
    """The knapsack of the field's protocol."""
    return keyshots(hold_scores(scores, eval_video.entries, eval_video.n_frames), eval_video.shots, ratio)


def by_threshold(scores: FloatArray, eval_video: EvalVideo, threshold: float) -> Mask:
    """The shots whose mean score is so many deviations above the video's; the best one where none is."""
    held = hold_scores(scores, eval_video.entries, eval_video.n_frames)
    means = shot_means(held[None], eval_video)[0]
    kept = means >= held.mean() + threshold * held.std()
    return over_frames(kept if kept.any() else means == means.max(), eval_video)


def shot_means(tracks: FloatArray, eval_video: EvalVideo) -> FloatArray:
    """Tracks (A, L) -> their mean in each shot, (A, m)."""
    return np.add.reduceat(tracks.astype(np.float64), eval_video.shots[:, 0], axis=1) / lengths(eval_video)


def lengths(eval_video: EvalVideo) -> npt.NDArray[np.int64]:
    """Frames of each shot, (m,)."""
    return np.diff(eval_video.shots, axis=1)[:, 0] + 1


def over_frames(kept: Mask, eval_video: EvalVideo) -> Mask:
    """Shots (..., m) -> frames (..., L)."""
    return np.repeat(kept, lengths(eval_video), axis=-1)


def shots_of(summary: Mask, eval_video: EvalVideo) -> float:
    """How many shots a summary (..., L) keeps, mean over people."""
    return float(summary[..., eval_video.shots[:, 0]].sum(axis=-1).mean())


def measured(summary: Mask, video: Scored) -> dict[str, float]:
    """One video's numbers."""
    return {
        "f1_own": f1_user_mean(summary, video.people),
        "f1_15": f1_user_mean(summary, video.eval_video.users),
        "count_error": abs(shots_of(summary, video.eval_video) - shots_of(video.people, video.eval_video)),
        "share": float(summary.mean()),
    }


def most_f1(rule: Rule, numbers: FloatArray, videos: Sequence[Scored]) -> float:
    """The number that agrees with people most."""
    f1 = [np.mean([f1_user_mean(rule(v.scores, v.eval_video, n), v.people) for v in videos]) for n in numbers]
    return float(numbers[np.argmax(f1)])


def as_long(rule: Rule, numbers: FloatArray, videos: Sequence[Scored]) -> float:
    """The number whose summaries are, on average, as long as people's."""
    wanted = np.mean([v.people.mean() for v in videos])
    gaps = [abs(np.mean([rule(v.scores, v.eval_video, n).mean() for v in videos]) - wanted) for n in numbers]
    return float(numbers[np.argmin(gaps)])


def scored(run: Run, split: str, seen: dict[str, tuple[EvalVideo, Mask]]) -> dict[str, Scored]:
    """The videos of a split; each is looked at once for all runs."""
    videos = {}
    for id_, video in run.videos(split).items():
        assert isinstance(video, PixelVideo)
        if id_ not in seen:
            eval_video = video.eval_video(KtsShots())
            people = over_frames(shot_means(video.labels.annotators, eval_video) > MIDDLE, eval_video)
            seen[id_] = eval_video, people
        eval_video, people = seen[id_]
        videos[id_] = Scored(eval_video, people, video.score(run.model, eval_video))
    return videos


def shares(labels: Path) -> dict[str, float]:
    """Whether the share of frames that people find important is a property of the video, in a label file."""
    people = [(one.annotators > MIDDLE).mean(axis=1) for one in read_labels(labels).values()]
    halves = np.array([(one[::2].mean(), one[1::2].mean()) for one in people])
    return {
        "share_mean": float(halves.mean()),
        "share_over_videos_std": float(halves.mean(axis=1).std()),
        "share_over_people_std": float(np.mean([one.std() for one in people])),
        "share_two_halves_r": float(np.corrcoef(halves.T)[0, 1]),
    }


def main(out: Path, places: Sequence[str], labels: Path | None = None) -> None:
    """Write metrics.json and a picture."""
    seen: dict[str, tuple[EvalVideo, Mask]] = {}
    rows: dict[str, dict[str, list[dict[str, float]]]] = {}
    flat: dict[str, float] = {}
    for number, place in enumerate(places):
        run = load_run(place)
        validation, test = (scored(run, split, seen) for split in ("val", "test"))
        held_out = list(validation.values())
        rules: dict[str, Callable[[FloatArray, EvalVideo], Mask]] = {"fixed 15 %": partial(by_ratio, ratio=FIXED)}
        for rule, numbers, key in ((by_ratio, RATIOS, "ratio"), (by_threshold, THRESHOLDS, "threshold")):
            for choose, aim in ((most_f1, "for F1"), (as_long, "for length")):
                value = choose(rule, numbers, held_out)
                rules[f"{key} {aim}"] = partial(rule, **{key: value})
                flat[f"calibrated/{key} {aim}/{number}"] = value
        for name, keep in rules.items():
            for id_, video in test.items():
                row = measured(keep(video.scores, video.eval_video), video)
                rows.setdefault(name, {}).setdefault(id_, []).append(row)
    means = {
        name: {key: np.array([np.mean([row[key] for row in one]) for one in videos.values()]) for key in row}
        for name, videos in rows.items()
    }
    for name, values in means.items():
        for key, series in values.items():
            low, high = interval(series)
            flat |= {f"{name}/{key}": float(series.mean()), f"{name}/{key}_lo": low, f"{name}/{key}_hi": high}
            if name != "fixed 15 %":
                gap = paired_difference(series, means["fixed 15 %"][key])
                flat |= {f"difference/{name}/{key}": gap.value, f"difference/{name}/{key}_lo": gap.lo}
                flat |= {f"difference/{name}/{key}_hi": gap.hi, f"difference/{name}/{key}_p": gap.p_value}
    people = [one for id_, (_, one) in seen.items() if id_ in test]
    flat |= {"people/share": float(np.mean([one.mean() for one in people]))}
    flat |= {"people/share_over_videos_std": float(np.std([one.mean() for one in people]))}
    flat |= {f"tvsum/{key}": value for key, value in (shares(labels) if labels else {}).items()}
    write_metrics(out / "metrics.json", flat)
    figure = draw_bars(
        {name: float(values["f1_own"].mean()) for name, values in means.items()},
        {name: interval(values["f1_own"]) for name, values in means.items()},
        {},
        "How much to keep: agreement with people's own summaries",
        "F1 with each person's shots above the middle of the scale",
    )
    figure.savefig(out / "f1.png", dpi=150)
    for key, value in flat.items():
        if not key.endswith(("_lo", "_hi")):
            print(f"{key:50} {value:.3f}")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    label_file = next((Path(one) for one in arguments if one.endswith(".mat")), None)
    main(Path(arguments[0]), [one for one in arguments[1:] if not one.endswith(".mat")], label_file)
