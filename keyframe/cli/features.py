"""keyframe-features: a feature file of a user's own videos, as published systems read it."""

import logging
import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from tqdm.contrib.logging import logging_redirect_tqdm

from keyframe.cli.terminal import bar, from_here
from keyframe.config import as_list, save_config
from keyframe.data.feature_file import video_numbers
from keyframe.data.folder import few
from keyframe.data.label_tables import TimedLabels, check_scale
from keyframe.data.splits import SPLIT_SUFFIXES, write_folds
from keyframe.export.model import require_checkpoint
from keyframe.extraction.features import FeatureEncoder, labels_of, videos_by_id, write_features
from keyframe.extraction.inputs import Part, find_inputs
from keyframe.extraction.staging import Staging, staged
from keyframe.files import make_folder, one_line
from keyframe.models.detector import KeyframeDetector, find_device
from keyframe.models.head import TemporalHead
from keyframe.models.weights import PACKAGES
from keyframe.runs import load_run
from keyframe.types import KeyframeError, Labels, check_number

log = logging.getLogger(__name__)

# Pixels that the models are trained at by default.
_USUAL_SIZE = 224


def features(config: DictConfig) -> None:
    """Encode the videos that the configuration names into one file, and report how to train on it."""
    out = _checked_out(config)
    named = [str(entry) for entry in as_list(config.input)]
    with staged(Path(config.run_dir) / "inputs", config.image_rate) as staging:
        found = find_inputs(named, bool(config.recursive), [out], staging)
        _encode_videos(config, out, videos_by_id(found), staging)


def _encode_videos(config: DictConfig, out: Path, videos: Mapping[str, Path], staging: Staging) -> None:
    labels: Mapping[str, Labels | TimedLabels] = {}
    if config.labels is not None:
        labels = labels_of(videos, Path(str(config.labels)).expanduser(), config.lowest, config.highest)
    splits = _checked_splits(config, len(labels.keys() & videos.keys()) or len(videos))
    encoder, weights = _encoder(config)
    save_config(config, Path(config.run_dir))
    with logging_redirect_tqdm(), closing(write_features(out, encoder, videos, labels, weights)) as written:
        reasons = dict(bar(written, "Encoding", len(videos)))
    log.info(staging.shown(_last_lines(out, encoder.channels, reasons, labels)))
    if splits:
        _write_splits(splits, config.folds, out.name, reasons, labels)


def _checked_out(config: DictConfig) -> Path:
    """The file to write, after checks that need nothing to be loaded."""
    check_number("step", config.step, 1)
    check_number("size", config.size, 1, optional=True)
    check_number("width", config.width, 1, optional=True)
    check_scale(config.lowest, config.highest)
    if config.pca is not None and config.width is None:
        raise KeyframeError(f"pca={config.pca} needs the number of channels to keep: add width=1024, or leave pca out.")
    if config.labels is not None and (config.start, config.end) != (None, None):
        raise KeyframeError("labels= are of whole videos: leave start= and end= out, or give no labels.")
    if config.input is None:
        raise KeyframeError("there is no video to encode: name some, such as keyframe-features videos out=features.h5.")
    out = Path(str(config.out)).expanduser()
    if out.is_dir():
        raise KeyframeError(f"out={out} is a folder: name a file, such as out={out / 'features.h5'}.")
    if out.exists() and not config.overwrite:
        raise KeyframeError(f"out={out} exists already: choose another file, or replace it with overwrite=true.")
    overridden = [override.split("=")[0] for override in HydraConfig.get().overrides.task]
    backbone = [key for key in overridden if key == "backbone" or key.startswith("backbone.")]
    if config.run is not None and backbone:
        raise KeyframeError(f"run= and {backbone[0]}= cannot be combined: a run has its own backbone.")
    if not out.is_symlink():
        return out
    target = Path(os.path.realpath(out))
    if not target.parent.is_dir():
        raise KeyframeError(f"out={out} is a link to {target}, whose folder is missing: make it, or remove the link.")
    return target  # The link stays.


def _encoder(config: DictConfig) -> tuple[FeatureEncoder, str]:
    """The encoder, and the origin of its backbone's weights."""
    size = (_USUAL_SIZE, _USUAL_SIZE)
    if config.run is not None:
        require_checkpoint(config.run)
        run = load_run(config.run, trust=config.trust)
        detector, size = run.detector, run.model.size or size
    else:
        torch.manual_seed(config.seed)
        # A detector normalises images and takes them in chunks; its head is not used.
        detector = KeyframeDetector(instantiate(config.backbone, _convert_="all"), TemporalHead)
    if config.size is not None:
        size = (config.size, config.size)
    detector = detector.eval().to(find_device(config.device))
    reader, shots = instantiate(config.reader), instantiate(config.shots)
    scale, pca = (config.lowest, config.highest), None if config.pca is None else Path(str(config.pca)).expanduser()
    part = Part.of(config.stream, config.start, config.end, config.region)
    encoder = FeatureEncoder(
        detector, size, reader, shots, config.step, *scale, config.width, config.unit_length, pca, part
    )
    return encoder, "of a training run" if config.run is not None else _weights(config)


def _checked_splits(config: DictConfig, count: int) -> list[Path]:
    """The split files to write for that many videos, before anything is encoded."""
    paths = [Path(str(path)).expanduser() for path in as_list(config.splits) if path is not None]
    check_number("folds", config.folds, 2)
    if paths and count < config.folds:
        raise KeyframeError(f"folds={config.folds} are too many for {count} videos: lower folds, or leave splits out.")
    for path in paths:
        if path.suffix.lower() not in SPLIT_SUFFIXES:
            raise KeyframeError(f"splits={path} has no form: end it in .json, .yml or .txt.")
        if path.exists() and not config.overwrite:
            raise KeyframeError(f"splits={path} exists already: choose another, or replace it with overwrite=true.")
        try:
            make_folder(path.parent)
        except OSError as error:
            raise KeyframeError(f"splits={path} cannot be written ({error.strerror}): choose another file.") from error
    return paths


def _write_splits(
    paths: Sequence[Path], folds: int, file: str, reasons: Mapping[str, str], labels: Mapping[str, Labels | TimedLabels]
) -> None:
    """Write folds of the encoded videos, of those with labels if there are any."""
    encoded = [name for name, reason in reasons.items() if not reason]
    chosen = [name for name in encoded if name in labels] or encoded
    if len(chosen) < folds:
        raise KeyframeError(f"{file} is written; folds={folds} are too many for its {len(chosen)} videos: lower folds.")
    groups = {name: f"video_{number}" for name, number in video_numbers(reasons, labels).items()}
    categories = {name: labels[name].category if name in labels else "" for name in chosen}
    for path in paths:
        write_folds(path, categories, folds, groups, file)
        log.info("Folds: %s (%d of %d videos)", from_here(path), folds, len(chosen))


def _weights(config: DictConfig) -> str:
    if config.backbone.weights is not None:
        return Path(str(config.backbone.weights)).name
    if config.backbone.pretrained:
        return PACKAGES[config.backbone.name][0] if config.backbone.name in PACKAGES else "timm, pretrained"
    log.warning("backbone.pretrained=false: these will be features of random weights (seed=%s)", config.seed)
    return f"random, seed {config.seed}"


def _last_lines(out: Path, width: int, reasons: Mapping[str, str], labels: Mapping[str, Labels | TimedLabels]) -> str:
    """The last lines: what is in the file, what is not, and how to train on it."""
    out = from_here(out)
    encoded = [name for name, reason in reasons.items() if not reason]
    failed = [f"  {one_line(f'{name}: {reason}')}" for name, reason in reasons.items() if reason]
    lines = [f"{len(failed)} of {len(reasons)} videos were left out:", *failed] if failed else []
    lines.append(f"Features: {out} ({len(encoded)} videos, {width} channels, {out.stat().st_size / 1e6:.1f} MB)")
    without = [name for name in encoded if name not in labels]
    if not without:
        place = shlex.quote(f"data.path={out}")
        lines.append(f"Train on it: keyframe-train data=h5 {place} data.width={width}")
    elif labels:
        lines.append(
            f"Without labels: {len(without)} of {len(encoded)} ({few(without)}); keyframe-train data=h5 needs labels "
            "of all: give only the labelled videos as input"
        )
    else:
        lines.append("It has no labels, which keyframe-train data=h5 needs: give them with labels=FILE")
    return "\n".join(lines)
