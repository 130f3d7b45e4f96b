"""keyframe-export: a trained model as files that other software runs."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from keyframe.cli.terminal import bar, from_here
from keyframe.config import as_list, save_config
from keyframe.export.model import OPSETS, SUFFIXES, Card, require_checkpoint, require_packages
from keyframe.export.write import Exporter, read_clips
from keyframe.report import text_table
from keyframe.runs import Run, load_run
from keyframe.types import KeyframeError, check_number

log = logging.getLogger(__name__)


def export(config: DictConfig) -> None:
    """Write the formats that the configuration names, and report on each."""
    formats = _formats(config)
    for key, value in {
        "check.videos": config.check.videos,
        "calibration.videos": config.calibration.videos,
        "repeats": config.repeats,
    }.items():
        check_number(key, value, 1)

    require_checkpoint(config.run)
    run = load_run(config.run, config.data.root, trust=config.trust)
    model, data = run.trained_model, run.video_data
    if "torchscript" in formats:
        log.info("torchscript: torch has deprecated TorchScript; prefer onnx or torch_export where you can choose")
    for note in run.data.split_notes(str(run.path)):
        log.warning("%s", note)
    part = _held_out(run)
    held_out = read_clips(data, part, config.check.videos, bar)
    calibration = read_clips(data, "train", config.calibration.videos, bar) if "onnx_int8" in formats else []
    run_dir = Path(config.run_dir)
    save_config(config, run_dir)
    exporter = Exporter(
        *(model, run.config, run.parameters, run_dir, data.kept_split, part, held_out, calibration, config.opset)
    )
    cards: list[Card] = []
    refused: list[str] = []
    for format in bar(formats, "Exporting", len(formats), unit="format"):
        try:
            cards.append(exporter.export(format))
        except KeyframeError as error:
            refused.append(str(error))
    if cards:
        log.info("Measuring speed ...")
        seconds = exporter.seconds([card.format for card in cards], config.repeats)
        rows = [_row(card, exporter.path(card.format).name, seconds) for card in cards]
        log.info(_table(rows, len(seconds["eager"]), part, len(held_out), run_dir))
    if refused:
        raise KeyframeError(" ".join(refused))


def _formats(config: DictConfig) -> list[str]:
    """The formats asked for, each once, after the checks that need no model."""
    formats = list(dict.fromkeys(map(str, as_list(config.format))))
    for format in formats:
        if format not in SUFFIXES:
            raise KeyframeError(f"format={format} is none of {', '.join(SUFFIXES)}.")
    if not formats:
        raise KeyframeError(f"format=[] names none of {', '.join(SUFFIXES)}.")
    if any(format.startswith("onnx") for format in formats):
        if config.opset not in OPSETS:
            raise KeyframeError(f"opset={config.opset} is not supported: choose one from {OPSETS[0]} to {OPSETS[-1]}.")
        require_packages()
    return formats


def _held_out(run: Run) -> str:
    """The part whose videos files are checked on."""
    for part in ("test", "val"):
        if run.videos(part):
            return part
    raise KeyframeError(
        f"no test or validation video of {run.directory} is there, and files are checked on these: say where they lie "
        "with data.root."
    )


def _row(card: Card, file: str, seconds: Mapping[str, Sequence[float]]) -> dict[str, str]:
    ratios = np.array(seconds[card.format]) / seconds["eager"]
    bounds = (card.check[f"spearman_change{end}"] for end in ("", "_lo", "_hi"))
    value, lowest, highest = ("-" if bound is None else f"{bound:+.4f}" for bound in bounds)
    return {
        "format": card.format,
        "MB": f"{card.file_mb:.1f}",
        "largest difference": f"{card.check['largest_difference']:.1e}",
        "Spearman": f"{value} ({lowest} to {highest})",
        "time": f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})",
        "file": file,
    }


def _table(rows: Sequence[Mapping[str, str]], rounds: int, part: str, videos: int, run_dir: Path) -> str:
    """The last lines: size, agreement, time, and where the files lie."""
    lines = (
        *("", text_table(rows, {"MB"}), ""),
        f"Compared with the run's own model on {videos} {part} videos: the largest difference of a score, and the",
        "change in Spearman with the annotators' mean at the frames that the run samples (95 % interval).",
        f"Time: of a window, over the model's in torch, median and range of {rounds} rounds.",
        f"Files, a card (.json) beside each: {from_here(run_dir)}",
    )
    return "\n".join(lines)
