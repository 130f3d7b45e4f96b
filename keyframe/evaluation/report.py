"""What the reference design of the two models claimed, beside what a comparison measures.

The project starts from a written design of a ResNet50 model and an EfficientNet-B0 twin, whose figures cannot be
reproduced from its public code. They are shown as claims, never as results.

The reference lines of a label file for a reader: rows of a table, and a report around them.

The parts that the reports of an evaluation and of a comparison share.

The report of one model: its numbers beside what people, chance and a training-free baseline reach.

The report of a comparison: accuracy, pair by pair, size, speed, memory, claims, pictures.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from keyframe.evaluation.reference import LINES, Line
from keyframe.evaluation.results import METRICS, SIGNIFICANT, ModelResult, Pair, pair_rows, sentence
from keyframe.evaluation.video import PICK_STEP, PROTOCOL
from keyframe.report.document import (
    NOT_AVAILABLE,
    Block,
    Document,
    Notes,
    Section,
    Table,
    Text,
    format_interval,
    format_mean,
    format_number,
)
from keyframe.types import Labels

# Claim, as the change from Model 1 (ResNet50) to Model 2 (EfficientNet-B0), and which cost it is about.
_CLAIMS = (
    ("parameters in all", -0.70, "params_total"),
    ("time for one video", -0.28, "seconds_1"),
    ("time for four videos", -0.29, "seconds_4"),
    ("time for eight videos", -0.29, "seconds_8"),
    ("memory, one video", -0.37, "peak_mb_1"),
    ("memory, four videos", -0.37, "peak_mb_4"),
)
_ACCURACY_KEPT = 0.97
MODELS = ("resnet50", "efficientnet_b0")


def claim_rows(model1: Mapping[str, float], model2: Mapping[str, float]) -> list[dict[str, str]]:
    """One row a claim: what was said, and what this comparison measured.

    Args:
        model1: costs of the ResNet50 model by name, and its `spearman`.
        model2: the same of the EfficientNet-B0 model.
    """
    rows = [
        {
            "claim of the reference design": what,
            "said": f"{said:+.0%}",
            "measured here": _share(model2.get(key, math.nan) / model1.get(key, math.nan) - 1, sign=True),
        }
        for what, said, key in _CLAIMS
    ]
    kept = model2["spearman"] / model1["spearman"] if model1["spearman"] > 0 else math.nan
    rows.append(
        {
            "claim of the reference design": "accuracy kept (Spearman, annotators' mean)",
            "said": f"{_ACCURACY_KEPT:.0%}",
            "measured here": _share(kept),
        }
    )
    return rows


def _share(value: float, sign: bool = False) -> str:
    if math.isnan(value):
        return NOT_AVAILABLE
    return f"{value:+.0%}" if sign else f"{value:.0%}"


def line_names(metrics: Mapping[str, float]) -> list[str]:
    """The reference lines that were drawn, in the order of tables."""
    return [name for name in LINES if f"reference/{name}/kendall" in metrics]


def reference_rows(metrics: Mapping[str, float]) -> list[dict[str, str]]:
    """One row a line: name, what it is compared with, tau and rho, each with its interval."""
    return [
        {
            "line": name.replace("_", " "),
            "compared with": "mean of the other half" if name == "pooled" else "each annotator",
            "Kendall tau": format_number(metrics[f"reference/{name}/kendall"]),
            "tau, 95 %": format_interval(
                metrics[f"reference/{name}/kendall_lo"], metrics[f"reference/{name}/kendall_hi"]
            ),
            "Spearman rho": format_number(metrics[f"reference/{name}/spearman"]),
            "rho, 95 %": format_interval(
                metrics[f"reference/{name}/spearman_lo"], metrics[f"reference/{name}/spearman_hi"]
            ),
        }
        for name in line_names(metrics)
    ]


def reference_notes(metrics: Mapping[str, float]) -> list[str]:
    """One sentence a line that lacks something: correlations that are not defined, or all of them, or intervals."""
    videos = int(metrics["reference/videos"])
    notes = []
    for name in line_names(metrics):
        title = name.replace("_", " ")
        total, undefined, measured = (
            int(metrics[f"reference/{name}/{key}"]) for key in ("comparisons", "undefined", "videos")
        )
        if undefined:
            notes.append(
                f"{title}: {undefined} of {total} correlations are not defined (one side is constant) and left out."
            )
        if measured < videos:
            notes.append(f"{title}: {videos - measured} of {videos} videos have no value and are left out of the mean.")
    if videos < 2:
        notes.append("Intervals are not available: they need at least two videos.")
    return notes


def line_meanings(metrics: Mapping[str, float]) -> Notes:
    """What each line is."""
    return Notes([f"{name.replace('_', ' ')}: {LINES[name]}" for name in line_names(metrics)])


def reference_document(labels: Path, metrics: Mapping[str, float]) -> Document:
    """The report: the table, the protocol it follows, and what each line is."""
    people, ceiling = (format_number(metrics[f"reference/{name}/spearman"]) for name in ("one_annotator", "ceiling"))
    return Document(
        title="Reference lines",
        lead=f"On the {int(metrics['reference/videos'])} videos of {labels.name} one annotator agrees with another at "
        f"Spearman's rho {people}, and the mean of all with each at {ceiling}: no predictor can do much better.",
        sections=[
            Section(
                "Rank correlation",
                [
                    Table(reference_rows(metrics), "Mean over videos, with the 95 % bootstrap interval over videos."),
                    Notes(reference_notes(metrics) or ["Every correlation is defined."]),
                ],
            ),
            Section("What each line is", [line_meanings(metrics)]),
            Section("How it was measured", [Text(PROTOCOL)]),
        ],
    )


def reference_videos(labels: Mapping[str, Labels], table: Mapping[str, Mapping[str, Line]]) -> list[dict[str, object]]:
    """One row a video for `per_video.csv`."""
    return [
        {
            "video": video,
            "category": labels[video].category,
            "frames": len(labels[video]),
            "picks": -(-len(labels[video]) // PICK_STEP),
            "annotators": len(labels[video].annotators),
            **{
                f"{name}/{key}": getattr(line, key)
                for name, line in lines.items()
                for key in ("kendall", "spearman", "undefined")
            },
        }
        for video, lines in table.items()
    ]


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
                "Kendall tau [95 %]": format_mean(metrics, "annotator_kendall"),
                "Spearman rho [95 %]": format_mean(metrics, "annotator_spearman"),
                "F1, mean of users": format_number(metrics["f1_user_mean"]),
                "F1, best user": format_number(metrics["f1_user_max"]),
            }
        )
    for line in line_names(reference):
        if line == "training_free":
            continue
        key = f"reference/{line}"
        rows.append(
            {
                "predictor": line.replace("_", " ") + (" (against the other half's mean)" if line == "pooled" else ""),
                "Kendall tau [95 %]": format_mean(reference, f"{key}/kendall"),
                "Spearman rho [95 %]": format_mean(reference, f"{key}/spearman"),
                "F1, mean of users": format_number(reference.get(f"{key}/f1_user_mean", math.nan)),
                "F1, best user": format_number(reference.get(f"{key}/f1_user_max", math.nan)),
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
            spread = format_mean(metrics, metric, spread=True, interval=False)
            lo, hi = metrics[f"{metric}_lo"], metrics[f"{metric}_hi"]
            row[name] = spread if math.isnan(lo) else f"{spread} [{lo:z.3f}, {hi:z.3f}]"
        rows.append(row)
    return Section("All metrics", [Table(rows, _INTERVALS, numeric=())])


def videos_section(studies: Sequence[ModelResult], metric: str = "annotator_spearman") -> Section:
    """A row a video."""
    rows = []
    for video in studies[0].rows:
        row = {"video": video}
        for one in studies:
            row[one.name] = format_number(one.rows[video][metric])
        if len(studies) == 1:
            row = {"video": video} | {name: format_number(studies[0].rows[video][name]) for name in METRICS}
        rows.append(row)
    caption = "" if len(studies) == 1 else f"{METRICS[metric]}. All metrics are in per_video.csv."
    return Section("Each video", [Table(rows, caption)])


def runs_sections(studies: Sequence[ModelResult], labels: Mapping[str, Sequence[str]]) -> list[Section]:
    """A row a run, where a model has several.

    Args:
        studies: the models.
        labels: by model, what tells its runs apart.
    """
    shown = ("annotator_kendall", "annotator_spearman", "spearman", "f1_user_mean")
    rows = [
        {"model": one.name, "run": label, "videos": f"{run['videos']:.0f}"}
        | {key: format_number(run[key]) for key in shown}
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
            f"{name}: {key} is {NOT_AVAILABLE} for {int(metrics['videos'] - metrics[f'{key}_videos'])} of "
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


def run_notes(study: ModelResult) -> list[str]:
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


def study_document(
    study: ModelResult,
    metrics: Metrics,
    baseline: Metrics,
    reference: Metrics,
    pictures: Sequence[Section],
    labels: Sequence[str],
    notes: Sequence[str],
    protocol: str,
) -> Document:
    """A report of one model.

    Args:
        study: the model's numbers by video.
        metrics: their means, from `over_videos`.
        baseline: the same of the training-free baseline.
        reference: of the reference lines, from `reference_metrics` and `f1_metrics`; may be empty.
        pictures: sections of pictures.
        labels: what tells the model's runs apart.
        notes: sentences about runs and videos left out.
        protocol: how the scores came about.
    """
    models = {study.name: metrics}
    return Document(
        title=f"Evaluation of {study.name}",
        lead=lead(study.name, metrics, baseline, reference),
        sections=[
            agreement_section(models, baseline, reference),
            metrics_section(models, baseline),
            *runs_sections([study], {study.name: labels}),
            *pictures,
            videos_section([study]),
            method_section(reference, [*notes, *undefined_notes(models, reference)], protocol),
        ],
    )


def lead(name: str, metrics: Metrics, baseline: Metrics, reference: Mapping[str, float]) -> str:
    """The sentence that matters most."""
    videos = f"{int(metrics['videos'])} video{'s' if metrics['videos'] != 1 else ''} it was not trained on"
    if "reference/one_annotator/spearman" not in reference:
        return (
            f"On {videos}, {name} agrees with the reference importance at Spearman's rho "
            f"{format_mean(metrics, 'spearman')}; the training-free baseline at {format_mean(baseline, 'spearman')}."
        )
    return (
        f"On {videos}, {name} agrees with each annotator at Spearman's rho "
        f"{format_mean(metrics, 'annotator_spearman')}. "
        f"One annotator agrees with another at {format_mean(reference, 'reference/one_annotator/spearman')}, the mean "
        f"of all with each at {format_mean(reference, 'reference/ceiling/spearman')}; the training-free baseline at "
        f"{format_mean(baseline, 'annotator_spearman')}."
    )


_PAIR_METRICS = ("annotator_spearman", "spearman", "f1_user_mean")


def comparison_document(
    studies: Sequence[ModelResult],
    means: Mapping[str, Metrics],
    baseline: Metrics,
    reference: Metrics,
    found: Sequence[Pair],
    costs: Mapping[str, Metrics],
    machine: Mapping[str, str],
    claims: tuple[str, str] | None,
    pictures: Sequence[Section],
    labels: Mapping[str, Sequence[str]],
    notes: Sequence[str],
    protocol: str,
) -> Document:
    """A report of several models.

    Args:
        studies: the models' numbers by video.
        means: their means by model, from `over_videos`.
        baseline: the same of the training-free baseline.
        reference: of the reference lines; may be empty.
        found: the pairs of models.
        costs: by model, see `cost_sections`.
        machine: what costs were measured on.
        claims: the models that the reference design's claims are about, (ResNet50, EfficientNet-B0); None without.
        pictures: sections of pictures.
        labels: by model, what tells its runs apart.
        notes: sentences about runs and videos left out.
        protocol: how the scores came about.
    """
    metric = _main_metric(means)
    sentences = [sentence(pair, metric) for pair in found]
    best = max(means, key=lambda name: -math.inf if math.isnan(means[name][metric]) else means[name][metric])
    return Document(
        title=f"Comparison of {', '.join(means)}",
        lead=f"{best} has the highest mean, {format_mean(means[best], metric)}. {' '.join(sentences[:3])}",
        sections=[
            agreement_section(means, baseline, reference),
            _pairs_section(found, sentences, metric),
            *cost_sections(costs, machine),
            *([_claims_section(claims, means, costs)] if claims else []),
            metrics_section(means, baseline),
            *runs_sections(studies, labels),
            *pictures,
            videos_section(studies, metric),
            method_section(reference, [*notes, *undefined_notes(means, reference)], protocol),
        ],
    )


def cost_sections(costs: Mapping[str, Metrics], machine: Mapping[str, str]) -> list[Section]:
    """Size, speed and memory tables.

    Args:
        costs: by model: `params_backbone`, `params_total`, `params_trainable_stage1|2`, `weights_mb`; for each number
            of videos `seconds_<n>`, `seconds_<n>_p25|_p75`, `peak_mb_<n>`; and `repeats`. NaN or absent: not available.
        machine: what they were measured on.
    """
    counts = (("backbone", "params_backbone"), ("total", "params_total"))
    stages = (("trainable, stage 1", "params_trainable_stage1"), ("trainable, stage 2", "params_trainable_stage2"))
    size = [
        {"model": name}
        | {label: f"{values[key] / 1e6:.2f} M" for label, key in (*counts, *stages)}
        | {"weights": f"{values['weights_mb']:.1f} MB"}
        for name, values in costs.items()
    ]
    numbers = sorted({int(key.split("_")[1]) for values in costs.values() for key in values if _is(key, "seconds")})
    speed = [
        {"model": name} | {_videos(count): _seconds(values, count) for count in numbers}
        for name, values in costs.items()
    ]
    sizes = sorted({int(key.split("_")[2]) for values in costs.values() for key in values if _is(key, "peak_mb")})
    memory = [
        {"model": name, "weights": f"{values['weights_mb']:.0f} MB"}
        | {_videos(count): _megabytes(values.get(f"peak_mb_{count}", math.nan)) for count in sizes}
        for name, values in costs.items()
    ]
    repeats = f"{min(values['repeats'] for values in costs.values()):.0f}"
    on = ", ".join(f"{key} {value}" for key, value in machine.items())
    return [
        Section("Size", [Table(size)]),
        Section(
            "Speed",
            [
                Table(
                    speed, f"Seconds from frames to scores, median of {repeats} after a warm-up, models taking turns."
                ),
                Notes([f"Measured on: {on}."]),
            ],
        ),
        Section("Peak memory", [Table(memory, "Weights, and weights with what scoring so many videos at once adds.")]),
    ]


def _pairs_section(found: Sequence[Pair], sentences: Sequence[str], metric: str) -> Section:
    shown = [name for name in _PAIR_METRICS if any(not math.isnan(pair.differences[name].value) for pair in found)]
    blocks: list[Block] = [
        Notes(sentences),
        Table(
            pair_rows(found, shown or [metric]),
            "Paired over videos: bootstrap interval of the mean difference, and the p-value of a sign-flip test. Below "
            f"{SIGNIFICANT} a difference is called one; p-values are not corrected for the number of pairs.",
        ),
    ]
    return Section("Pair by pair", blocks)


def _claims_section(claims: tuple[str, str], means: Mapping[str, Metrics], costs: Mapping[str, Metrics]) -> Section:
    model1, model2 = ({**costs[name], "spearman": means[name]["spearman"]} for name in claims)
    caption = f"From {claims[0]} to {claims[1]}. The claims were made for another machine and TVSum."
    return Section("The reference design's claims", [Table(claim_rows(model1, model2), caption)])


def _main_metric(means: Mapping[str, Metrics]) -> str:
    """The published protocol's, or where there are no annotators the reference track's."""
    known = all(not math.isnan(metrics["annotator_spearman"]) for metrics in means.values())
    return "annotator_spearman" if known else "spearman"


def _is(key: str, kind: str) -> bool:
    return key.startswith(f"{kind}_") and key.removeprefix(f"{kind}_").isdigit()


def _videos(count: int) -> str:
    return f"{count} video{'s' if count > 1 else ''}"


def _seconds(values: Metrics, count: int) -> str:
    key = f"seconds_{count}"
    if math.isnan(values.get(key, math.nan)):
        return NOT_AVAILABLE
    lower, median, upper = (format_number(values[name]) for name in (f"{key}_p25", key, f"{key}_p75"))
    return f"{median} ({lower} to {upper}) s"


def _megabytes(value: float) -> str:
    return NOT_AVAILABLE if math.isnan(value) else f"{value:.0f} MB"
