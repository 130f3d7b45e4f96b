"""The report of one model: its numbers beside what people, chance and a training-free baseline reach."""

from collections.abc import Mapping, Sequence

from keyframe.evaluation.cells import with_span
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
from keyframe.report.document import Document, Section


def study_document(
    study: Study,
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
            f"{with_span(metrics, 'spearman')}; the training-free baseline at {with_span(baseline, 'spearman')}."
        )
    return (
        f"On {videos}, {name} agrees with each annotator at Spearman's rho {with_span(metrics, 'annotator_spearman')}. "
        f"One annotator agrees with another at {with_span(reference, 'reference/one_annotator/spearman')}, the mean of "
        f"all with each at {with_span(reference, 'reference/ceiling/spearman')}; the training-free baseline at "
        f"{with_span(baseline, 'annotator_spearman')}."
    )
