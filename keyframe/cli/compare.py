"""keyframe-compare: several models on the same videos, in one report."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from omegaconf import DictConfig

from keyframe.types import KeyframeError

if TYPE_CHECKING:
    from keyframe.runs import Run

log = logging.getLogger(__name__)


def compare(config: DictConfig) -> None:
    """Score, measure, draw, and say where the results lie."""
    from hydra.utils import instantiate

    from keyframe.cli.load_runs import (
        baseline_metrics,
        check_choices,
        check_same_videos,
        load_groups,
        reference_of,
        score_runs,
        thumbnails_of,
        track,
    )
    from keyframe.cli.terminal import report_lines, short_text
    from keyframe.config import save_config
    from keyframe.evaluation.figures import (
        accuracy_pictures,
        chosen_videos,
        pair_pictures,
        tradeoff_picture,
        video_pictures,
    )
    from keyframe.evaluation.report import MODELS, comparison_document, run_notes, scored_as, skipped_notes
    from keyframe.evaluation.results import over_videos, pair_metrics, pairs, study
    from keyframe.files import write_metrics, write_table
    from keyframe.report.document import Section
    from keyframe.report.render import write_report
    from keyframe.timing import machine

    check_choices(config)
    groups = load_groups(config)
    if len(groups) < 2:
        raise KeyframeError("runs= names one model, and a comparison needs two: for one model use keyframe-evaluate.")
    check_same_videos(groups, config.split)
    _check_drawn(groups, config)
    runs = [run for group in groups.values() for run in group]
    scored = score_runs(runs, config, instantiate(config.shots))
    scores = dict(zip(map(id, runs), scored.scores, strict=True))
    studies = [study(name, [scores[id(run)] for run in group], scored.subjects) for name, group in groups.items()]
    if config.ensemble is not None:
        studies.append(study(f"{config.ensemble} of all", scored.scores, scored.subjects, config.ensemble))
    means = {one.name: over_videos(list(one.rows.values())) for one in studies}
    baseline = baseline_metrics(scored.subjects)
    reference = reference_of(scored.subjects, config.seed)
    found = pairs(studies)
    costs = _costs({name: group[0] for name, group in groups.items()}, config)

    asked = [str(video) for video in config.videos or ()]
    drawn = [video for video in asked if video in scored.subjects] or chosen_videos(studies[0], config.pictures)
    run_dir = Path(config.run_dir)
    save_config(config, run_dir)
    figures = run_dir / "figures"
    overview = accuracy_pictures(studies, means, baseline, reference, scored.subjects, figures)
    pictures = [
        Section(
            overview.title,
            [*overview.blocks, *pair_pictures(studies, figures), tradeoff_picture(means, costs, figures)],
        ),
        video_pictures(studies, scored.subjects, drawn, thumbnails_of(scored), figures),
    ]
    notes = [note for one in studies for note in run_notes(one)]
    by_backbone = {group[0].name: name for name, group in reversed(groups.items())}
    document = comparison_document(
        studies,
        means,
        baseline,
        reference,
        found,
        costs,
        machine(),
        (by_backbone[MODELS[0]], by_backbone[MODELS[1]]) if set(MODELS) <= by_backbone.keys() else None,
        pictures,
        {name: [run.label for run in group] for name, group in groups.items()},
        [*notes, *skipped_notes(scored.skipped)],
        scored_as(config.protocol, runs[0].model.window),
    )
    flat = {f"{name}/{config.split}/{key}": value for name, values in means.items() for key, value in values.items()}
    for one in studies:
        flat |= {f"{one.name}/{config.split}/{key}": value for key, value in one.over_runs().items()}
    flat |= {f"{name}/{key}": value for name, values in costs.items() for key, value in values.items()}
    flat |= {f"training_free/{key}": value for key, value in baseline.items()}
    flat |= {**reference, **pair_metrics(found), "data/videos_skipped": len(scored.skipped)}
    rows = [{"model": one.name, "video": video, **row} for one in studies for video, row in one.rows.items()]
    write_table(run_dir / "per_video.csv", rows)
    write_report(document, run_dir)
    write_metrics(run_dir / "metrics.json", flat)
    track(config, flat, figures)
    log.info("%s", "\n".join([short_text(document, 5), *report_lines(run_dir, figures)]))


def _costs(runs: "Mapping[str, Run]", config: DictConfig) -> dict[str, dict[str, float]]:
    """Size and speed of each model, and peak memory of those in torch; seeds and folds of one cost the same."""
    from keyframe.cli.terminal import bar
    from keyframe.pipeline import TrainedModel
    from keyframe.runs import load_detector
    from keyframe.timing import peak_memory, speeds

    log.info("Measuring speed ...")
    timings = speeds(
        {name: run.timed_model for name, run in runs.items()}, list(config.speed.videos), config.speed.repeats
    )
    costs: dict[str, dict[str, float]] = {}
    for name, run in bar(runs.items(), "Measuring memory", len(runs), unit="model"):
        costs[name] = run.sizes
        for count in config.speed.videos:
            taken = timings[name, count]
            lower, median, upper = np.quantile(taken, [0.25, 0.5, 0.75]).tolist()
            costs[name] |= {
                f"seconds_{count}": median,
                f"seconds_{count}_p25": lower,
                f"seconds_{count}_p75": upper,
                "repeats": float(min(len(taken), costs[name].get("repeats", len(taken)))),
            }
        if isinstance(run.model, TrainedModel) and run.frame_shape is not None:
            load = partial(load_detector, run.path)
            device = str(run.detector.pixel_mean.device)
            peaks = peak_memory(load, run.frame_shape, list(config.memory.videos), device)
            costs[name] |= {f"peak_mb_{count}": peak for count, peak in peaks.items()}
    return costs


def _check_drawn(groups: "Mapping[str, Sequence[Run]]", config: DictConfig) -> None:
    """Refuse `videos=` that no model was tested on, before anything takes long."""
    known = {video for group in groups.values() for run in group for video in run.videos(config.split)}
    for video in config.videos or ():
        if str(video) not in known:
            raise KeyframeError(
                f"videos={video} is none of the {len(known)} videos compared: see a run's per_video.csv."
            )


def main() -> None:
    """Stand in for keyframe.cli.main until the console scripts are installed anew."""
    from keyframe.cli import main as scripts

    scripts.compare()


if __name__ == "__main__":
    main()
