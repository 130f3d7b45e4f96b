"""keyframe-compare: several models on the same videos, in one report."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from omegaconf import DictConfig

from keyframe.cli.evaluate import check_choices, report_results, score_videos
from keyframe.cli.models import ChosenVideos, choose_videos, load_models
from keyframe.cli.terminal import bar
from keyframe.evaluation.report import REFERENCE_DESIGN
from keyframe.evaluation.results import compare_pairs, model_result, pair_metrics
from keyframe.pipeline import TrainedModel
from keyframe.runs import Run, load_detector
from keyframe.timing import peak_memory, speeds
from keyframe.trust import Trust
from keyframe.types import KeyframeError, check_number

log = logging.getLogger(__name__)


def compare(config: DictConfig) -> None:
    """Score the videos by all models and score files, measure what the models cost, and report both."""
    check_choices(config)
    check_number("speed.repeats", config.speed.repeats, 1)
    for key, numbers in (("speed.videos", config.speed.videos), ("memory.videos", config.memory.videos)):
        for number in numbers:
            check_number(key, number, 1)
    if config.scores is not None and config.protocol != "picks":
        raise KeyframeError("protocol=sampled is for runs: leave it out where scores= names score files.")
    models = load_models(config)
    chosen = choose_videos(list(models.values()), config)
    asked = _asked_videos(chosen, config)
    members = [member for group in models.values() for member in group]
    runs = [member for member in members if isinstance(member, Run)]
    scored = score_videos(chosen, runs, config)
    scores = dict(zip(map(id, members), scored.scores, strict=True))
    results = [
        model_result(name, [scores[id(one)] for one in group], scored.eval_videos, [one.label for one in group])
        for name, group in models.items()
    ]
    if config.ensemble is not None:
        labels = [member.label for member in members]
        name = f"{config.ensemble} of all"
        results.append(model_result(name, scored.scores, scored.eval_videos, labels, config.ensemble))
    measured = {name: group[0] for name, group in models.items() if isinstance(group[0], Run)}
    costs = _costs(measured, config)
    by_backbone = {run.name: name for name, run in reversed(measured.items())}
    model1, model2 = (by_backbone.get(backbone) for backbone in REFERENCE_DESIGN)
    evaluation = replace(
        scored.evaluation(results),
        pairs=compare_pairs(results),
        costs=costs,
        reference_design=(model1, model2) if model1 and model2 else None,
    )
    metrics = {f"{one.name}/{scored.split}/{key}": value for one in results for key, value in one.metrics.items()}
    metrics |= {f"{name}/{key}": value for name, values in costs.items() for key, value in values.items()}
    metrics |= pair_metrics(evaluation.pairs)
    report_results(config, scored, evaluation, metrics, [id_ for id_ in asked if id_ in scored.eval_videos])


def _asked_videos(chosen: ChosenVideos, config: DictConfig) -> list[str]:
    """The videos of `videos=`; one that no model was tested on is refused before anything takes long."""
    asked = [str(video) for video in config.videos or ()]
    for video in asked:
        if video not in chosen.parts:
            raise KeyframeError(
                f"videos={video} is none of the {len(chosen.parts)} compared videos: see per_video.csv."
            )
    return asked


def _costs(runs: Mapping[str, Run], config: DictConfig) -> dict[str, dict[str, float]]:
    """Size and speed of each model, and peak memory of those in torch; seeds and folds of one cost the same."""
    log.info("Measuring speed ...")
    timed = {name: run.timed_model for name, run in runs.items()}
    timings = speeds(timed, list(config.speed.videos), config.speed.repeats)
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
            load = partial(load_detector, run.path, Trust.of(config.trust))
            device = str(run.detector.pixel_mean.device)
            peaks = peak_memory(load, run.frame_shape, list(config.memory.videos), device)
            costs[name] |= {f"peak_mb_{count}": peak for count, peak in peaks.items()}
    return costs
