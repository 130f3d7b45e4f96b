"""The parts that the reports of an evaluation and of a comparison share."""

import math
from collections.abc import Mapping, Sequence

from keyframe.evaluation.cells import NONE, number, with_span, with_spread
from keyframe.evaluation.measure import METRICS
from keyframe.evaluation.protocol import PROTOCOL
from keyframe.evaluation.reference_report import line_meanings, line_names, reference_notes
from keyframe.evaluation.study import Study
from keyframe.report.document import Notes, Section, Table, Text

Metrics = Mapping[str, float]
TRAINING_FREE = "training-free baseline"

_F1 = (
    "Keyshot F1: each score holds until the next, a shot is worth the mean of its frames, an exact knapsack keeps "
    "shots up to 15 % of the frames, and the result is compared with what each user would keep. TVSum's papers report "
    "the mean over users, SumMe's the best user. It depends on the shots more than on the scores (Otani et al., CVPR "
    "2019): compare it with the random line beside it."
)
_INTERVALS = (
    "± is the standard deviation over videos; in brackets the 95 % percentile bootstrap interval of the mean over "
    "videos."
)


def agreement_section(models: Mapping[str, Metrics], baseline: Metrics, reference: Metrics) -> Section:
    """Models, the baseline and the reference lines in one table, by the published protocol."""
    rows = []
    for name, metrics in {**models, TRAINING_FREE: baseline}.items():
        rows.append(
            {
                "predictor": name,
                "Kendall tau [95 %]": with_span(metrics, "annotator_kendall"),
                "Spearman rho [95 %]": with_span(metrics, "annotator_spearman"),
                "F1, mean of users": number(metrics["f1_user_mean"]),
                "F1, best user": number(metrics["f1_user_max"]),
            }
        )
    for line in line_names(reference):
        if line == "training_free":
            continue
        key = f"reference/{line}"
        rows.append(
            {
                "predictor": line.replace("_", " ") + (" (against the other half's mean)" if line == "pooled" else ""),
                "Kendall tau [95 %]": with_span(reference, f"{key}/kendall"),
                "Spearman rho [95 %]": with_span(reference, f"{key}/spearman"),
                "F1, mean of users": number(reference.get(f"{key}/f1_user_mean", math.nan)),
                "F1, best user": number(reference.get(f"{key}/f1_user_max", math.nan)),
            }
        )
    return Section(
        "Agreement with each annotator",
        [
            Table(rows, "Against each annotator separately, the published protocol. Mean over videos.", numeric=()),
            line_meanings(reference) if line_names(reference) else Notes([_NO_PEOPLE]),
        ],
    )


_NO_PEOPLE = "The label file holds one track and no annotators: nothing can be said about each annotator."


def metrics_section(models: Mapping[str, Metrics], baseline: Metrics) -> Section:
    """Every metric of every model, mean ± standard deviation and interval."""
    rows = []
    for metric, meaning in METRICS.items():
        row = {"metric": metric, "what": meaning}
        for name, metrics in {**models, TRAINING_FREE: baseline}.items():
            spread = with_spread(metrics, metric)
            lo, hi = metrics[f"{metric}_lo"], metrics[f"{metric}_hi"]
            row[name] = spread if math.isnan(lo) else f"{spread} [{lo:z.3f}, {hi:z.3f}]"
        rows.append(row)
    return Section("All metrics", [Table(rows, _INTERVALS, numeric=())])


def videos_section(studies: Sequence[Study], metric: str = "annotator_spearman") -> Section:
    """A row a video."""
    rows = []
    for video in studies[0].rows:
        row = {"video": video}
        for one in studies:
            row[one.name] = number(one.rows[video][metric])
        if len(studies) == 1:
            row = {"video": video} | {name: number(studies[0].rows[video][name]) for name in METRICS}
        rows.append(row)
    caption = "" if len(studies) == 1 else f"{METRICS[metric]}. All metrics are in per_video.csv."
    return Section("Each video", [Table(rows, caption)])


def runs_sections(studies: Sequence[Study], labels: Mapping[str, Sequence[str]]) -> list[Section]:
    """A row a run, where a model has several.

    Args:
        studies: the models.
        labels: by model, what tells its runs apart.
    """
    shown = ("annotator_kendall", "annotator_spearman", "spearman", "f1_user_mean")
    rows = [
        {"model": one.name, "run": label, "videos": f"{run['videos']:.0f}"} | {key: number(run[key]) for key in shown}
        for one in studies
        if len(one.by_run) > 1
        for label, run in zip(labels[one.name], one.by_run, strict=True)
    ]
    return [Section("Each run", [Table(rows, "Mean over the run's videos.")])] if rows else []


def method_section(reference: Metrics, notes: Sequence[str], protocol: str) -> Section:
    """How everything was measured, and what is missing."""
    return Section("How it was measured", [Text(f"{protocol}\n\n{PROTOCOL}\n\n{_F1}"), Notes([*notes])])


def undefined_notes(models: Mapping[str, Metrics], reference: Metrics) -> list[str]:
    """One sentence for everything that is not defined, or that every number is."""
    notes = []
    for name, metrics in models.items():
        total, missing = int(metrics["annotators"]), metrics["undefined_annotators"]
        if missing:
            notes.append(
                f"{name}: {missing:g} of {total} correlations with annotators are not defined (scores or annotator "
                "constant) and left out of the means."
            )
        if metrics["undefined"]:
            notes.append(
                f"{name}: {int(metrics['undefined'])} of {int(metrics['videos'])} videos have no rank correlation with "
                "the annotators' mean (scores or labels constant) and are left out of that mean."
            )
        short = [key for key in METRICS if metrics[f"{key}_videos"] < metrics["videos"] and key not in _TOLD]
        notes += [
            f"{name}: {key} is {NONE} for {int(metrics['videos'] - metrics[f'{key}_videos'])} of "
            f"{int(metrics['videos'])} videos."
            for key in short
        ]
        if metrics["videos"] < 2:
            notes.append(f"{name}: intervals are not available, they need at least two videos.")
    notes += reference_notes(reference) if "reference/videos" in reference else []
    return notes or ["Every number is defined for every video."]


# Their missing videos are told as constant scores or labels.
_TOLD = ("spearman", "kendall")


def scored_as(protocol: str, window: int | None) -> str:
    """How the model's scores came about."""
    if protocol == "sampled":
        return "SAMPLED PROTOCOL: only the frames that the model's own sampling chooses are scored and compared."
    if window is None:
        return "Every pick (every 15th frame) is scored; the model sees all of a video at once, up to 1200 picks."
    return (
        f"Every pick (every 15th frame) is scored. The model sees {window} frames at once, as in training: the picks "
        f"are dealt into interleaved windows of {window}, each spread evenly over the video (over overlapping sections "
        "of 1200 picks where it is longer), and what several windows say of a pick is averaged."
    )


def run_notes(study: Study) -> list[str]:
    """How many runs stand behind the numbers."""
    if study.members == 1:
        return []
    least, most = min(study.runs.values()), max(study.runs.values())
    each = f"{least}" if least == most else f"{least} to {most}"
    joined = {
        None: "a video's numbers are the mean over the runs that did not see it in training",
        "mean": "the scores of the runs that did not see a video in training are averaged, then measured",
        "rank": "the ranks that the runs give a video's frames are averaged, then measured",
    }[study.ensemble]
    return [f"{study.name}: {study.members} runs, {each} a video; {joined}."]


def skipped_notes(skipped: Mapping[str, str]) -> list[str]:
    """The videos that could not be read."""
    if not skipped:
        return []
    return [f"{len(skipped)} videos were left out.", *(f"{video}: {reason}" for video, reason in skipped.items())]
