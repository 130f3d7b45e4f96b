"""keyframe-evaluate: how far people, chance and models agree with the annotators."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from keyframe.types import KeyframeError

if TYPE_CHECKING:
    from keyframe.types import Labels

log = logging.getLogger(__name__)


def evaluate(config: DictConfig) -> None:
    """Evaluate runs, or compute the reference lines of a label file, and say where the results lie."""
    given = [key for key in ("run", "runs", "labels") if config[key] is not None]
    if len(given) != 1:
        found = " and ".join(f"{key}=" for key in given)
        raise KeyframeError(
            f"{f'{found} exclude each other' if given else 'there is nothing to evaluate'}: give run=RUN for a trained "
            "model, runs=[A,B] for several runs of one, or labels=FILE for the reference lines of a label file."
        )
    if config.labels is not None:
        _evaluate_labels(config)
    else:
        _evaluate_runs(config)


def _evaluate_runs(config: DictConfig) -> None:
    from hydra.utils import instantiate

    from keyframe.cli.load_runs import (
        as_list,
        baseline_metrics,
        check_choices,
        check_one_model,
        load_runs,
        model_name,
        reference_of,
        run_paths,
        score_runs,
        thumbnails_of,
        track,
    )
    from keyframe.cli.terminal import report_lines, short_text
    from keyframe.config import save_config
    from keyframe.evaluation.figures import accuracy_pictures, chosen_videos, video_pictures
    from keyframe.evaluation.report import run_notes, scored_as, skipped_notes, study_document
    from keyframe.evaluation.results import over_videos, study
    from keyframe.files import write_metrics, write_table
    from keyframe.report.render import write_report

    check_choices(config)
    key = "run" if config.run is not None else "runs"
    runs = load_runs([path for entry in as_list(config[key]) for path in run_paths(entry, key)], config)
    if config.ensemble is None:
        check_one_model(runs)
    scored = score_runs(runs, config, instantiate(config.shots))
    name = str(config.name or model_name(runs, config.ensemble))
    result = study(name, scored.scores, scored.subjects, config.ensemble)
    metrics = over_videos(list(result.rows.values()))
    baseline = baseline_metrics(scored.subjects)
    reference = reference_of(scored.subjects, config.seed)

    run_dir = Path(config.run_dir)
    save_config(config, run_dir)
    figures = run_dir / "figures"
    pictures = [
        accuracy_pictures([result], {name: metrics}, baseline, reference, scored.subjects, figures),
        video_pictures(
            [result], scored.subjects, chosen_videos(result, config.pictures), thumbnails_of(scored), figures
        ),
    ]
    document = study_document(
        result,
        metrics,
        baseline,
        reference,
        pictures,
        [run.label for run in runs],
        [*run_notes(result), *skipped_notes(scored.skipped)],
        scored_as(config.protocol, runs[0].model.window),
    )
    write_table(
        run_dir / "per_video.csv",
        [
            {"video": video, "category": scored.subjects[video].category, "runs": result.runs[video], **row}
            for video, row in result.rows.items()
        ],
    )
    prefix = config.split if config.protocol == "picks" else f"{config.split}/sampled"
    flat = {f"{prefix}/{key}": value for key, value in metrics.items()}
    flat |= {f"{prefix}/{key}": value for key, value in result.over_runs().items()}
    flat |= {f"training_free/{key}": value for key, value in baseline.items()}
    flat |= {**reference, "data/videos_skipped": len(scored.skipped)}
    write_report(document, run_dir)
    write_metrics(run_dir / "metrics.json", flat)
    track(config, flat, figures)
    log.info(
        "%s", "\n".join([short_text(document, 2), *skipped_notes(scored.skipped), *report_lines(run_dir, figures)])
    )


def _evaluate_labels(config: DictConfig) -> None:
    from tqdm import tqdm

    from keyframe.cli.terminal import report_lines, short_text
    from keyframe.config import save_config
    from keyframe.evaluation.reference import reference_metrics, reference_table
    from keyframe.evaluation.report import reference_document, reference_videos
    from keyframe.files import write_metrics, write_table
    from keyframe.report.render import write_report

    labels = _labels(config)
    run_dir = Path(config.run_dir)
    table = dict(tqdm(reference_table(labels, config.seed), "videos", len(labels), disable=None, leave=False))
    metrics = reference_metrics(table)
    document = reference_document(Path(config.labels), metrics)
    save_config(config, run_dir)
    write_table(run_dir / "per_video.csv", reference_videos(labels, table))
    write_report(document, run_dir)
    write_metrics(run_dir / "metrics.json", metrics)
    log.info("%s", "\n".join([short_text(document, 1), *report_lines(run_dir)]))


def _labels(config: DictConfig) -> "dict[str, Labels]":
    """The label file that the configuration names.

    Raises:
        KeyframeError: it is one without annotators, or what the file's reader raises.
    """
    from keyframe.data.labels import read_labels

    for key in ("lowest", "highest"):
        if isinstance(config[key], bool) or not isinstance(config[key], int | float):
            raise KeyframeError(f"{key}={config[key]} must be a number, a score of the label file's scale.")
    path = Path(str(config.labels)).expanduser()
    labels = read_labels(path, config.lowest, config.highest)
    if not labels:
        raise KeyframeError(f"{path} holds no videos: give another file as labels.")
    without = [video for video, one in labels.items() if not len(one.annotators)]
    if without:
        raise KeyframeError(
            f"{path} holds no annotators of {without[0]}, and reference lines need each annotator's scores: "
            "give a .mat or .tsv file as labels."
        )
    return labels


def main() -> None:
    """Stand in for keyframe.cli.main until the console scripts are installed anew."""
    from keyframe.cli import main as scripts

    scripts.evaluate()


if __name__ == "__main__":
    main()
