"""The report of a comparison: accuracy, pair by pair, size, speed, memory, claims, pictures."""

import math
from collections.abc import Mapping, Sequence

from keyframe.evaluation.cells import NONE, number, with_span
from keyframe.evaluation.claims import claim_rows
from keyframe.evaluation.pairs import SIGNIFICANT, Pair, pair_rows, sentence
from keyframe.evaluation.sections import (
    Metrics,
    agreement_section,
    method_section,
    metrics_section,
    runs_sections,
    undefined_notes,
    videos_section,
)
from keyframe.evaluation.study import Study
from keyframe.report.document import Block, Document, Notes, Section, Table

_PAIR_METRICS = ("annotator_spearman", "spearman", "f1_user_mean")


def comparison_document(
    studies: Sequence[Study],
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
        lead=f"{best} has the highest mean, {with_span(means[best], metric)}. {' '.join(sentences[:3])}",
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
        return NONE
    return f"{number(values[key])} ({number(values[f'{key}_p25'])} to {number(values[f'{key}_p75'])}) s"


def _megabytes(value: float) -> str:
    return NONE if math.isnan(value) else f"{value:.0f} MB"
