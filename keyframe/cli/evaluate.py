"""keyframe-evaluate: how far people, chance and models agree with the annotators."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from keyframe.cli.app import command
from keyframe.cli.arguments import prepare
from keyframe.errors import KeyframeError

if TYPE_CHECKING:
    from keyframe.types import Labels

log = logging.getLogger(__name__)


def evaluate(config: DictConfig) -> None:
    """Compute the reference lines of a label file and say where they lie."""
    from tqdm import tqdm

    from keyframe.cli.results import from_here
    from keyframe.cli.text_table import text_table
    from keyframe.config import save_config
    from keyframe.evaluation.record import write_metrics, write_table
    from keyframe.evaluation.reference import reference_metrics, reference_table
    from keyframe.evaluation.reference_report import (
        reference_notes,
        reference_page,
        reference_rows,
        reference_videos,
    )
    from keyframe.files import write_text

    labels = _labels(config)
    run_dir = Path(config.run_dir)
    table = dict(tqdm(reference_table(labels, config.seed), "videos", len(labels), disable=None, leave=False))
    metrics = reference_metrics(table)
    save_config(config, run_dir)
    write_table(run_dir / "per_video.csv", reference_videos(labels, table))
    write_text(run_dir / "report.md", reference_page(Path(config.labels), metrics))
    write_metrics(run_dir / "metrics.json", metrics)
    shown = from_here(run_dir)
    lines = [
        f"Reference lines of {len(labels)} videos, mean over videos and its 95 % bootstrap interval",
        "",
        text_table(reference_rows(metrics)),
        "",
        *reference_notes(metrics),
        f"Metrics:       {shown / 'metrics.json'}, {shown / 'per_video.csv'}",
        f"Report:        {shown / 'report.md'}",
        f"Run directory: {shown}",
    ]
    log.info("%s", "\n".join(lines))


def _labels(config: DictConfig) -> "dict[str, Labels]":
    """The label file that the configuration names.

    Raises:
        KeyframeError: it names none, or one without annotators, or what the file's reader raises.
    """
    from keyframe.data.labels import read_labels

    if config.labels is None:
        raise KeyframeError(
            "there is nothing to evaluate: add labels=FILE, a .mat or .tsv label file, to see its reference lines."
        )
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
    """Console script."""
    sys.argv[1:] = prepare(sys.argv[1:])
    command("evaluate", evaluate)


if __name__ == "__main__":
    main()
