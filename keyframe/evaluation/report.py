"""The reports of an evaluation, of a comparison, and of the reference lines of a label file."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from keyframe.data.folder import few
from keyframe.evaluation.metrics import Difference
from keyframe.evaluation.reference import LINES, Line
from keyframe.evaluation.results import BASELINES, METRICS, Evaluation, Metrics, ModelResult, Pair
from keyframe.evaluation.video import PICK_STEP, PROTOCOL
from keyframe.report import Document, Notes, Section, Table, Text, format_interval, format_mean, format_number
from keyframe.types import Labels

SIGNIFICANT = 0.05
# What a model may have to do with a video: part -> in words, from what it has learnt most from to least.
_PARTS = {
    "train": "it was trained on",
    "val": "its checkpoint was chosen by",
    "unknown": "of a split made anew, see the notes",
    "unrecorded": "that it may have been trained on, which is not known",
    "new": "in no part of its split",
    "test": "it was not trained on",
    "other": "of another data set",
}
PARTS_BY_RISK = tuple(_PARTS)
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
_PAIRED = (
    "Paired over videos: bootstrap interval of the mean difference, and the p-value of a sign-flip test. A p-value "
    f"below {SIGNIFICANT} counts as a difference; p-values are not corrected for the number of pairs."
)


def report_document(
    evaluation: Evaluation, figures: Sequence[Section], machine: Mapping[str, str] | None = None
) -> Document:
    """The report of one model, or of several models on the same videos; costs were measured on `machine`."""
    results, reference, metric = evaluation.results, evaluation.reference, evaluation.main_metric
    means = {one.name: one.metrics for one in results}
    comparison: list[Section] = []
    if len(results) == 1:
        title = f"Evaluation of {results[0].name}"
        lead = _lead(results[0], evaluation.baselines, reference, evaluation.parts)
    else:
        title = f"Comparison of {', '.join(means)}"
        best = max(means, key=lambda name: -math.inf if math.isnan(means[name][metric]) else means[name][metric])
        sentences = [pair_sentence(pair, metric) for pair in evaluation.pairs]
        lead = f"{best} has the highest mean, {format_mean(means[best], metric)}. {' '.join(sentences[:3])}"
        comparison.append(_pairs_section(evaluation.pairs, sentences, metric))
    if evaluation.costs:
        comparison += cost_sections(evaluation.costs, machine or {})
    if evaluation.reference_design:
        first, second = evaluation.reference_design
        models = ({**evaluation.costs[name], "spearman": means[name]["spearman"]} for name in (first, second))
        caption = f"From {first} to {second}. The claims are for another machine and TVSum."
        comparison.append(Section("The reference design's claims", [Table(reference_design_rows(*models), caption)]))
    notes = [
        *evaluation.notes,
        *(note for one in results for note in _run_notes(one, evaluation.parts)),
        *skipped_notes(evaluation.skipped),
        *_undefined_notes(results, reference),
    ]
    method = Text(f"{evaluation.protocol}\n\n{PROTOCOL}\n\n{_F1}")
    return Document(
        title=title,
        lead=lead,
        sections=[
            _agreement_section(evaluation.means, reference),
            *comparison,
            _metrics_section(evaluation.means),
            *_runs_sections(results),
            *figures,
            _videos_section(results, metric),
            Section("How it was measured", [method, Notes(notes)]),
        ],
    )


def labels_note(selections: bool) -> str:
    """How labels that are selections are used; "" for scores."""
    if not selections:
        return ""
    return (
        "Every label is 0 or 1: each annotator has selected frames, and the selections are the users' summaries as "
        "they are, not cut into shots again. SumMe's protocol (Gygli et al., ECCV 2014, as the field applies it) takes "
        "keyshot F1 with the best user of a video, then the mean over videos: `f1_user_max`. Most frames tie in such "
        "labels: Kendall's tau-b corrects for tied pairs, and Spearman's rho gives tied frames their mean rank, both "
        "as scipy does."
    )


def scoring_note(protocol: str, window: int | None) -> str:
    """How a model's scores are made: by which protocol, and how many frames the model sees at once (None for all)."""
    if protocol == "sampled":
        return "SAMPLED PROTOCOL: only the frames that the model's own sampling chooses are scored and compared."
    if window is None:
        return "Every pick (every 15th frame) is scored; the model sees all of a video at once, up to 1200 picks."
    return (
        f"Every pick (every 15th frame) is scored. The model sees {window} frames at once, as in training: the picks "
        f"are dealt into interleaved windows of {window}, each spread evenly over the video (over overlapping sections "
        "of 1200 picks if it is longer), and the scores of a pick in several windows are averaged."
    )


def skipped_notes(skipped: Mapping[str, str]) -> list[str]:
    """One sentence per video that was left out, and how many there are."""
    reasons = [f"{video}: {reason}" for video, reason in skipped.items()]
    return [f"Left out: {_videos(len(skipped))}.", *reasons] if skipped else []


def _lead(result: ModelResult, baselines: Mapping[str, Metrics], reference: Metrics, parts: Mapping[str, str]) -> str:
    name, metrics = result.name, result.metrics
    counts = Counter(parts.values())
    kinds = [f"{counts[part]} {words}" for part, words in _PARTS.items() if counts[part]]
    videos = _videos(int(metrics["videos"]))
    videos += f" ({', '.join(kinds)})" if len(kinds) > 1 else "".join(f" {_PARTS[part]}" for part in counts)
    metric = "annotator_spearman" if "reference/one_annotator/spearman" in reference else "spearman"
    beside = "".join(f"; the {BASELINES[name]} at {format_mean(row, metric)}" for name, row in baselines.items())
    whom = "the reference importance" if metric == "spearman" else "each annotator"
    lead = f"On {videos}, {name} agrees with {whom} at Spearman's rho {format_mean(metrics, metric)}"
    if metric != "spearman":
        one, ceiling = (format_mean(reference, f"reference/{line}/spearman") for line in ("one_annotator", "ceiling"))
        lead += f". One annotator agrees with another at {one}, the mean of all with each at {ceiling}"
    return f"{lead}{beside}."


def _agreement_section(models: Mapping[str, Metrics], reference: Metrics) -> Section:
    """Models, the baselines among them, and the reference lines in one table, by the published protocol."""
    caption = "Against each annotator separately, the published protocol. Mean over videos."
    missing = "The label file holds one track and no annotators: agreement with each annotator is not available."
    notes = Notes(_line_meanings(reference) or [missing])
    return Section(
        "Agreement with each annotator", [Table(agreement_rows(models, reference), caption, numeric=()), notes]
    )


def agreement_rows(models: Mapping[str, Metrics], reference: Metrics) -> list[dict[str, str]]:
    """One row per model and reference line: tau and rho, each with its interval, and F1 if it is known of any."""
    predictors = [(name, metrics, "annotator_", "") for name, metrics in models.items()]
    for line in _line_names(reference):
        if line not in BASELINES:
            title = line.replace("_", " ") + (" (against the other half's mean)" if line == "pooled" else "")
            predictors.append((title, reference, f"reference/{line}/", f"reference/{line}/"))
    rows = []
    for name, metrics, key, f1_key in predictors:
        taus, rhos = format_mean(metrics, f"{key}kendall"), format_mean(metrics, f"{key}spearman")
        rows.append({"predictor": name, "Kendall tau [95 %]": taus, "Spearman rho [95 %]": rhos})
        for title, which in (("F1, mean of users", "mean"), ("F1, best user", "max")) if models else ():
            rows[-1][title] = format_number(metrics.get(f"{f1_key}f1_user_{which}", math.nan))
    return rows


def _metrics_section(models: Mapping[str, Metrics]) -> Section:
    rows = []
    for metric, meaning in METRICS.items():
        means = {name: format_mean(metrics, metric, spread=True) for name, metrics in models.items()}
        rows.append({"metric": metric, "what": meaning, **means})
    return Section("All metrics", [Table(rows, _INTERVALS, numeric=())])


def _runs_sections(results: Sequence[ModelResult]) -> list[Section]:
    """One row per run, for models with several."""
    shown = ("annotator_kendall", "annotator_spearman", "spearman", "f1_user_mean")
    rows = [
        {"model": one.name, "run": label, "videos": f"{run['videos']:.0f}"}
        | {key: format_number(run[key]) for key in shown}
        for one in results
        if len(one.by_run) > 1
        for label, run in zip(one.labels, one.by_run, strict=True)
    ]
    return [Section("Each run", [Table(rows, "Mean over the run's videos.")])] if rows else []


def _videos_section(results: Sequence[ModelResult], metric: str) -> Section:
    """One row per video: all metrics of one model, or one metric of several."""
    if len(results) == 1:
        columns, caption = {name: (results[0], name) for name in METRICS}, ""
    else:
        columns = {one.name: (one, metric) for one in results}
        caption = f"{METRICS[metric]}. All metrics are in per_video.csv."
    rows = [
        {"video": video} | {title: format_number(one.rows[video][key]) for title, (one, key) in columns.items()}
        for video in results[0].rows
    ]
    return Section("Each video", [Table(rows, caption)])


def _run_notes(result: ModelResult, parts: Mapping[str, str]) -> list[str]:
    if len(result.labels) < 2:
        return []
    learnt = {"train", "val", "unknown"}.intersection(parts.values())
    runs = "all runs" if learnt else "the runs that were not trained on it"
    least, most = min(result.runs.values()), max(result.runs.values())
    each = f"{least}" if least == most else f"{least} to {most}"
    joined = {
        None: f"a video's numbers are the mean over {runs}",
        "mean": f"the scores of {runs} are averaged, then measured",
        "rank": f"the ranks of a video's frames by {runs} are averaged, then measured",
    }[result.ensemble]
    return [f"{result.name}: {len(result.labels)} runs, {each} per video; {joined}."]


def _undefined_notes(results: Sequence[ModelResult], reference: Metrics) -> list[str]:
    """One sentence per number that is not defined for some videos."""
    notes = []
    for one in results:
        name, metrics = one.name, one.metrics
        videos = int(metrics["videos"])
        if missing := metrics["undefined_annotators"]:
            notes.append(
                f"{name}: {missing:g} of {int(metrics['annotators'])} correlations with annotators are not defined "
                "(scores or annotator constant) and left out of the means."
            )
        if metrics["undefined"]:
            notes.append(
                f"{name}: {int(metrics['undefined'])} of {videos} videos have no rank correlation with the annotators' "
                "mean (scores or labels constant) and are left out of that mean: "
                f"{few(video for video, row in one.rows.items() if math.isnan(row['spearman']))}."
            )
        notes += [
            f"{name}: {key} is not available for {videos - int(metrics[f'{key}_videos'])} of {videos} videos."
            for key in METRICS
            if metrics[f"{key}_videos"] < videos and key not in ("spearman", "kendall")
        ]
        if videos < 2:
            notes.append(f"{name}: intervals are not available, they need at least two videos.")
    notes += reference_notes(reference) if "reference/videos" in reference else []
    return notes or ["Every number is defined for every video."]


def _pairs_section(pairs: Sequence[Pair], sentences: Sequence[str], metric: str) -> Section:
    names = ("annotator_spearman", "spearman", "f1_user_mean")
    shown = [name for name in names if not all(math.isnan(pair.differences[name].value) for pair in pairs)]
    return Section("Pair by pair", [Notes(sentences), Table(pair_rows(pairs, shown or [metric]), _PAIRED)])


def pair_sentence(pair: Pair, metric: str) -> str:
    """What the videos show about a pair, in words, by the p-value."""
    difference = pair.differences[metric]
    if math.isnan(difference.p_value):
        return f"{difference.videos} video(s) are too few to compare {pair.first} and {pair.second}."
    figures = (
        f"{METRICS[metric].split(',')[0]}: difference {difference.value:+.3f} [{difference.lo:+.3f}, "
        f"{difference.hi:+.3f}], p {_p_value(difference)}, {difference.videos} videos"
    )
    if difference.p_value >= SIGNIFICANT:
        return f"These videos show no difference between {pair.first} and {pair.second} ({figures})."
    better, worse = (pair.second, pair.first) if difference.value > 0 else (pair.first, pair.second)
    return f"{better} is better than {worse} ({figures})."


def pair_rows(pairs: Sequence[Pair], metrics: Sequence[str]) -> list[dict[str, str]]:
    """One row per pair and metric: difference, interval, p-value."""
    return [
        {
            "pair": f"{pair.second} - {pair.first}",
            "metric": metric,
            "difference": format_number(one.value),
            "95 %": format_interval(one.lo, one.hi),
            "p": _p_value(one).removeprefix("= "),
            "videos": str(one.videos),
        }
        for pair in pairs
        for metric, one in pair.differences.items()
        if metric in metrics
    ]


def _p_value(difference: Difference) -> str:
    """A p-value to the digits that its draws bear."""
    if math.isnan(difference.p_value):
        return format_number(math.nan)
    return "< 0.001" if difference.p_value < 0.001 else f"= {difference.p_value:.3f}"


def cost_sections(costs: Mapping[str, Metrics], machine: Mapping[str, str]) -> list[Section]:
    """Tables of size, speed and memory.

    Costs are, by model: `params_backbone`, `params_total`, `params_trainable_stage1|2`, `weights_mb`; for each number
    of videos `seconds_<n>`, `seconds_<n>_p25|_p75`, `peak_mb_<n>`; and `repeats`. NaN or absent: not available.
    """
    parameters = {
        "backbone": "params_backbone",
        "total": "params_total",
        "trainable, stage 1": "params_trainable_stage1",
        "trainable, stage 2": "params_trainable_stage2",
    }
    found = [re.fullmatch(r"(seconds|peak_mb)_(\d+)", key) for values in costs.values() for key in values]
    counts = sorted({(one[1], int(one[2])) for one in found if one})  # kinds of cost, and numbers of videos
    size, speed, memory = [], [], []
    for name, values in costs.items():
        millions = {label: f"{values[key] / 1e6:.2f} M" for label, key in parameters.items()}
        size.append({"model": name, **millions, "weights": f"{values['weights_mb']:.1f} MB"})
        speed.append({"model": name})
        memory.append({"model": name, "weights": f"{values['weights_mb']:.0f} MB"})
        for kind, count in counts:
            rows = speed if kind == "seconds" else memory
            rows[-1][_videos(count)] = _cost(values, f"{kind}_{count}")
    repeats = min(values["repeats"] for values in costs.values())
    timing = f"Seconds from frames to scores, median of {repeats:.0f} after a warm-up, models taking turns."
    on = ", ".join(f"{key} {value}" for key, value in machine.items())
    peak = "Weights, and weights with what scoring so many videos at once adds."
    return [
        Section("Size", [Table(size)]),
        Section("Speed", [Table(speed, timing), Notes([f"Measured on: {on}."])]),
        Section("Peak memory", [Table(memory, peak)]),
    ]


def _videos(count: int) -> str:
    return f"{count} video{'s' if count > 1 else ''}"


def _cost(values: Metrics, key: str) -> str:
    """Seconds with their quartiles, or MB."""
    value = values.get(key, math.nan)
    if key.startswith("seconds") and not math.isnan(value):
        return f"{format_number(value)} ({format_interval(values[f'{key}_p25'], values[f'{key}_p75'])}) s"
    return format_number(value, 0) + ("" if math.isnan(value) else " MB")


# The figures of the design that the project starts from cannot be reproduced from its public code: they are claims,
# never results. Each is the change from Model 1 (ResNet50) to Model 2 (EfficientNet-B0), with the cost it is about.
_CLAIMS = (
    ("parameters in all", -0.70, "params_total"),
    ("time for one video", -0.28, "seconds_1"),
    ("time for four videos", -0.29, "seconds_4"),
    ("time for eight videos", -0.29, "seconds_8"),
    ("memory, one video", -0.37, "peak_mb_1"),
    ("memory, four videos", -0.37, "peak_mb_4"),
)
_ACCURACY_KEPT = 0.97
REFERENCE_DESIGN = ("resnet50", "efficientnet_b0")


def reference_design_rows(model1: Metrics, model2: Metrics) -> list[dict[str, str]]:
    """One row per claim of the reference design, beside the models' costs and `spearman` here."""
    rows = [(what, claim, model2.get(k, math.nan) / model1.get(k, math.nan) - 1, "+.0%") for what, claim, k in _CLAIMS]
    kept = model2["spearman"] / model1["spearman"] if model1["spearman"] > 0 else math.nan
    rows.append(("accuracy kept (Spearman, annotators' mean)", _ACCURACY_KEPT, kept, ".0%"))
    return [
        {
            "claim of the reference design": what,
            "claimed": f"{claim:{form}}",
            "measured here": format_number(value) if math.isnan(value) else f"{value:{form}}",
        }
        for what, claim, value, form in rows
    ]


def reference_document(labels: Path, metrics: Metrics, selections: bool = False) -> Document:
    """The report of a label file: its reference lines, what each is, and the protocol; see `labels_note`."""
    one, ceiling = (format_number(metrics[f"reference/{name}/spearman"]) for name in ("one_annotator", "ceiling"))
    caption = "Against each annotator separately. Mean over videos, with the 95 % bootstrap interval over videos."
    table = Table(agreement_rows({}, metrics), caption, numeric=())
    notes = Notes(reference_notes(metrics) or ["Every correlation is defined."])
    return Document(
        title="Reference lines",
        lead=f"On the {int(metrics['reference/videos'])} videos of {labels.name} one annotator agrees with another at "
        f"Spearman's rho {one}, and the mean of all with each at {ceiling}: no predictor can do much better.",
        sections=[
            Section("Rank correlation", [table, notes]),
            Section("What each line is", [Notes(_line_meanings(metrics))]),
            Section("How it was measured", [Text(f"{PROTOCOL}\n\n{labels_note(selections)}".strip())]),
        ],
    )


def _line_names(metrics: Metrics) -> list[str]:
    return [name for name in LINES if f"reference/{name}/kendall" in metrics]


def _line_meanings(metrics: Metrics) -> list[str]:
    return [f"{name.replace('_', ' ')}: {LINES[name]}" for name in _line_names(metrics)]


def reference_notes(metrics: Metrics) -> list[str]:
    """One sentence per line with undefined correlations, and one if intervals are not available."""
    videos = int(metrics["reference/videos"])
    notes = []
    for name in _line_names(metrics):
        title, counts = name.replace("_", " "), ("comparisons", "undefined", "videos")
        total, undefined, measured = (int(metrics[f"reference/{name}/{key}"]) for key in counts)
        if undefined:
            notes.append(
                f"{title}: {undefined} of {total} correlations are not defined (one side is constant) and left out."
            )
        if measured < videos:
            notes.append(f"{title}: {videos - measured} of {videos} videos have no value and are left out of the mean.")
    if videos < 2:
        notes.append("Intervals are not available: they need at least two videos.")
    return notes


def reference_videos(labels: Mapping[str, Labels], table: Mapping[str, Mapping[str, Line]]) -> list[dict[str, object]]:
    """One row per video for `per_video.csv`."""
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
