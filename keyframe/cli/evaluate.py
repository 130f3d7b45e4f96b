"""keyframe-evaluate: trained models beside annotators, chance and baselines."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger
from tqdm import tqdm

from keyframe.cli import models
from keyframe.cli.terminal import bar, report_lines, short_text
from keyframe.config import build_all, save_config
from keyframe.data.divided import DividedFeatures
from keyframe.data.folder import few
from keyframe.data.labels import read_labels
from keyframe.evaluation import reference, report, results
from keyframe.evaluation.scores import ScoreFile, check_new, write_scores_file
from keyframe.evaluation.video import RIDGE, EvalVideo
from keyframe.files import one_line, write_metrics, write_table
from keyframe.report import write_report
from keyframe.runs import LabelVideo, PixelVideo, Run
from keyframe.system import cores
from keyframe.timing import machine
from keyframe.training.trackers import finish, log_report
from keyframe.types import Float64Array, FloatArray, KeyframeError, Labels, VideoError, check_number

log = logging.getLogger(__name__)


def evaluate(config: DictConfig) -> None:
    """Evaluate the runs of one model or the score files of any system, or compute a label file's reference lines."""
    given = [key for key in ("run", "runs", "scores", "labels") if config[key] is not None]
    labelled = ["scores"] if config.data.root is not None else ["scores", "labels"]
    if given not in (["run"], ["runs"], ["labels"], ["scores", "labels"], labelled):
        found = " and ".join(f"{key}=" for key in given)
        problem = f"{found} cannot be combined" if len(given) > 1 else "there is nothing to evaluate"
        raise KeyframeError(
            f"{'scores= needs labels' if given == ['scores'] else problem}: give run=RUN for a trained model, "
            "runs=[A,B] for several runs of one, scores=FILE labels=FILE for the scores of any system, or labels=FILE "
            "for the reference lines of a label file."
        )
    written = None if config.write_scores is None else Path(str(config.write_scores)).expanduser()
    if written is not None:
        if given == ["labels"] or config.protocol != "picks":
            raise KeyframeError("write_scores= is for models and protocol=picks: leave it out.")
        check_new(written)
    if given == ["labels"]:
        _evaluate_labels(config)
        return
    check_choices(config)
    runs: list[Run] = []
    members: Sequence[Run] | Sequence[ScoreFile]
    if given[0] == "scores":
        if config.split is not None or config.protocol != "picks":
            raise KeyframeError("split= and protocol= are for runs: leave them out where scores= names score files.")
        members = models.load_scores(config.scores)
        chosen = models.choose_labelled(members, config)
    else:
        members = runs = models.load_runs(config[given[0]], given[0], config)
        if config.ensemble is None:
            models.check_one_model(runs)
        chosen = models.choose_videos([runs], config)
    scored = score_videos(chosen, runs, config)
    name = str(config.name or models.model_name(members, config.ensemble))
    labels = [one.label for one in members]
    result = results.model_result(name, scored.scores, scored.eval_videos, labels, config.ensemble)
    prefix = scored.split if config.protocol == "picks" else f"{scored.split}/sampled"
    metrics = {f"{prefix}/{key}": value for key, value in result.metrics.items()}
    evaluation = scored.evaluation([result])
    report_results(config, scored, evaluation, metrics)
    if written is not None:
        write_scores_file(written, result.scores)
        log.info("Scores:        %s", written)


def check_choices(config: DictConfig) -> None:
    """Refuse values that are none of the known ones."""
    choices = {"split": models.SPLITS, "protocol": ("picks", "sampled"), "ensemble": results.ENSEMBLES}
    for key, known in choices.items():
        if config[key] not in known and not (key != "protocol" and config[key] is None):
            raise KeyframeError(f"{key}={config[key]} is none of {', '.join(known)}.")
    check_number("pictures", config.pictures, 0)


@dataclass
class Scored(models.ChosenVideos):
    """The chosen videos of all runs, each run's scores, and what they are compared with."""

    eval_videos: dict[str, EvalVideo] = field(default_factory=dict)
    # per run, video -> scores at the entries
    scores: list[dict[str, FloatArray]] = field(init=False)
    skipped: dict[str, str] = field(default_factory=dict)  # video -> why it was left out
    protocol: str = ""  # how the scores were made, in words
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    reference: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scores = [{} for _ in self.by_run]

    def evaluation(self, measured: Sequence[results.ModelResult]) -> results.Evaluation:
        """The numbers of models on these videos."""
        parts = {id_: self.parts[id_] for id_ in self.eval_videos}
        return results.Evaluation(
            measured, self.baselines, self.reference, self.protocol, self.skipped, parts=parts, notes=self.notes
        )


def score_videos(chosen: models.ChosenVideos, runs: Sequence[Run], config: DictConfig) -> Scored:
    """Score the chosen videos by each run or file; a video that cannot be read is left out and named.

    `runs` are those among them that are runs.
    """
    scored = Scored(**vars(chosen))
    shots = instantiate(config.shots)

    def read(id_: str) -> EvalVideo | VideoError:
        video = scored.videos[id_]
        try:
            if config.protocol != "picks" or id_ not in scored.own:
                return video.eval_video(shots)
            assert isinstance(video, PixelVideo)
            number, run = scored.own[id_]
            found, scored.scores[number][id_] = video.eval_and_score(shots, run.model)
            return found
        except VideoError as error:
            return error

    with ThreadPoolExecutor(cores()) as pool:
        found = bar(pool.map(read, scored.videos), "Decoding videos", len(scored.videos))
        for id_, one in zip(scored.videos, found, strict=True):
            if isinstance(one, VideoError):
                scored.skipped[id_] = str(one)
            else:
                scored.eval_videos[id_] = one
    if config.protocol == "sampled":
        _check_sampling(runs)
        for id_, one in scored.eval_videos.items():
            video = scored.videos[id_]
            assert not isinstance(video, LabelVideo)
            scored.eval_videos[id_] = video.sampled(one)
    add_scores(scored)
    add_ridge(scored, runs)
    selections = any(video.selections for video in scored.eval_videos.values())
    notes = [report.scoring_note(config.protocol, runs[0].model.window)] if runs else []
    notes += [file.note(scored.eval_videos.values()) for file in scored.files]
    scored.protocol = "\n\n".join(filter(None, [*notes, report.labels_note(selections)]))
    for name in results.BASELINES:
        known = [one for one in scored.eval_videos.values() if name in one.baselines]
        if rows := [results.measure(one.baselines[name], one) for one in known]:
            scored.baselines[name] = results.overall_metrics(rows)
    scored.reference = _reference(scored.eval_videos, config.seed)
    return scored


def add_scores(scored: Scored) -> None:
    """Add each run's scores that are not known yet; a video that one run cannot read is left out for all."""
    for number, (scorers, known) in enumerate(zip(scored.by_run, scored.scores, strict=True), start=1):
        chosen = {id_: score for id_, score in scorers.items() if id_ in scored.eval_videos and id_ not in known}
        for id_, score in bar(chosen.items(), f"Scoring, run {number} of {len(scored.by_run)}", len(chosen)):
            try:
                known[id_] = score(scored.eval_videos[id_])
            except VideoError as error:
                scored.skipped[id_] = str(error)
                del scored.eval_videos[id_]
    if not scored.eval_videos:
        raise KeyframeError(f"No video can be measured: {few(scored.skipped.values(), 1)}")


def add_ridge(scored: Scored, runs: Sequence[Run]) -> None:
    """Add ridge regression to the videos of runs on features: one fit for each split that the runs were trained on.

    A video that several splits leave out has the mean of their scores. Of several feature files the first run's count.
    """
    data = [run.data for run in runs if isinstance(run.data, DividedFeatures)]
    fits: dict[tuple[str, ...], reference.Ridge] = {}
    tracks: dict[str, list[Float64Array]] = {}
    for one in data:
        train, val = one.split_videos("train"), one.split_videos("val")
        split = tuple(video.id for video in (*train, *val))
        if split in fits or one.paths != data[0].paths:
            continue
        if not train or not val:
            scored.notes.append("No ridge line: the run's training or validation videos are missing.")
            return
        fits[split] = reference.fit_ridge(
            [(video.features, video.importance) for video in train],
            [(video.features, video.importance) for video in val],
        )
        for video in one.split_videos(scored.split):
            tracks.setdefault(video.id, []).append(fits[split].scores(video.features))
    if not fits or not tracks.keys() >= scored.eval_videos.keys():
        return
    for id_, entry in scored.eval_videos.items():
        scored.eval_videos[id_] = replace(entry, baselines={**entry.baselines, RIDGE: np.mean(tracks[id_], axis=0)})
    penalties = ", ".join(f"{fit.penalty:.2g}" for fit in fits.values())
    scored.notes.append(
        f"Ridge line: fitted on {few(path.name for path in data[0].paths)}, once for each split of the runs. Penalties "
        f"in units of the mean eigenvalue of the features' covariance: {penalties}."
    )


def _check_sampling(runs: Sequence[Run]) -> None:
    kinds = {str(run.config.get("sampling")): run for run in runs}
    if len(kinds) > 1:
        names = " and ".join(str(run.directory) for run in list(kinds.values())[:2])
        raise KeyframeError(f"{names} sample frames differently: compare them with protocol=picks.")


def report_results(
    config: DictConfig,
    scored: Scored,
    evaluation: results.Evaluation,
    metrics: Mapping[str, float],
    drawn: Sequence[str] = (),
) -> None:
    """Draw the figures, write the report, the table and the metrics, and log where they are.

    `metrics` are those of `metrics.json` that are the models' own. If no videos to be drawn are given, some from the
    first model's best to its worst are.
    """
    run_dir = Path(config.run_dir)
    config.split = scored.split
    save_config(config, run_dir)
    directory = run_dir / "figures"
    overview = results.draw_overview(evaluation, scored.eval_videos, directory)
    chosen = drawn or results.chosen_videos(evaluation.results[0], config.pictures)
    thumbnails = {id_: scored.videos[id_].thumbnails for id_ in chosen}
    curves = results.draw_videos(evaluation.results, scored.eval_videos, thumbnails, directory)
    document = report.report_document(evaluation, [overview, curves], machine())
    baselines = evaluation.baselines.items()
    flat = {**metrics, **{f"{name}/{key}": value for name, values in baselines for key, value in values.items()}}
    flat |= {**evaluation.reference, **scored.numbers, "data/videos_skipped": len(scored.skipped)}
    flat |= {f"data/videos_{part}": count for part, count in Counter(evaluation.parts.values()).items()}
    write_table(run_dir / "per_video.csv", results.per_video_rows(evaluation, scored.eval_videos))
    write_report(document, run_dir)
    write_metrics(run_dir / "metrics.json", flat)
    loggers = build_all("logger", config.logger, Logger)
    try:
        log_report(loggers, flat, sorted(directory.glob("*.png")))
    finally:
        finish(loggers)
    shown = short_text(document, 5 if evaluation.costs else 2)
    log.info(
        "\n".join([shown, *map(one_line, report.skipped_notes(scored.skipped)), *report_lines(run_dir, directory)])
    )


def _reference(videos: Mapping[str, EvalVideo], seed: int) -> dict[str, float]:
    """The reference lines on these videos; rank correlations only if every video has annotators."""
    f1, lines = [], {}
    annotated = all(len(video.annotators) for video in videos.values())
    for id_, video in bar(videos.items(), "Reference lines", len(videos)):
        f1.append(reference.reference_f1(video, reference.draws_of(id_, seed)))
        if annotated:
            draws = reference.draws_of(id_, seed)
            lines[id_] = reference.reference_lines(video.annotators, draws, video.baselines)
    return (reference.reference_metrics(lines) if annotated else {}) | reference.f1_metrics(f1)


def _evaluate_labels(config: DictConfig) -> None:
    labels = _annotated_labels(config)
    run_dir = Path(config.run_dir)
    table = dict(tqdm(reference.reference_table(labels, config.seed), "videos", len(labels), disable=None, leave=False))
    metrics = reference.reference_metrics(table)
    selections = any(one.selections for one in labels.values())
    document = report.reference_document(Path(config.labels), metrics, selections)
    save_config(config, run_dir)
    write_table(run_dir / "per_video.csv", report.reference_videos(labels, table))
    write_report(document, run_dir)
    write_metrics(run_dir / "metrics.json", metrics)
    log.info("\n".join([short_text(document, 1), *report_lines(run_dir)]))


def _annotated_labels(config: DictConfig) -> dict[str, Labels]:
    """The label file that the configuration names; it must hold annotators."""
    for key in ("root", "labels"):
        if config.data[key] is not None:
            raise KeyframeError(f"data.{key} is for a run: leave it out where labels= names a label file.")
    path = Path(str(config.labels)).expanduser()
    scale = {key: config.data[key] for key in ("lowest", "highest") if config.data[key] is not None}
    labels = read_labels(path, option="labels", **scale)
    if not labels:
        raise KeyframeError(f"{path} holds no videos: give another file as labels.")
    without = [video for video, one in labels.items() if not len(one.annotators)]
    if without:
        raise KeyframeError(
            f"{path} holds no annotators of {without[0]}, and reference lines need each annotator's scores: "
            "give a label file that has them."
        )
    return labels
