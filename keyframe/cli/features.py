"""keyframe-features: a feature file of anybody's videos, as published systems read them."""

import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from keyframe.cli.app import Number
from keyframe.types import KeyframeError

if TYPE_CHECKING:
    from keyframe.extraction.inputs import Refused
    from keyframe.models.detector import KeyframeDetector
    from keyframe.types import Labels

log = logging.getLogger(__name__)

# Pixels that the models here are trained at unless asked otherwise.
_USUAL_SIZE = 224
_NUMBERS = {
    "step": Number(1),
    "size": Number(1, optional=True),
    "lowest": Number(float("-inf"), whole=False),
    "highest": Number(float("-inf"), whole=False),
}


def features(config: DictConfig) -> None:
    """Encode the videos that the configuration names into one file, and say how to train on it."""
    from keyframe.extraction.inputs import find_inputs

    _check(config)
    out = Path(str(config.out)).expanduser()
    entries = config.input if OmegaConf.is_list(config.input) else [config.input]
    videos = _by_id(find_inputs([str(entry) for entry in entries], bool(config.recursive), [out]))
    labels = _labels(config, videos)

    from hydra.utils import instantiate
    from tqdm.contrib.logging import logging_redirect_tqdm

    from keyframe.cli.terminal import bar
    from keyframe.config import save_config
    from keyframe.data.feature_file import FeatureFile, video_numbers
    from keyframe.extraction.features import features_of

    detector, size, weights = _detector(config)
    width = _width(detector, size)
    reader, shots = instantiate(config.reader), instantiate(config.shots)
    save_config(config, Path(config.run_dir))
    about = {
        "backbone": detector.backbone.name,
        "weights": weights,
        "height": size[0],
        "width": size[1],
        "step": config.step,
    }
    failed: dict[str, str] = {}
    with logging_redirect_tqdm(), FeatureFile(out, about) as file:
        numbers = video_numbers(list(videos))
        for name, number in bar(numbers.items(), "Encoding", len(numbers)):
            try:
                video = features_of(
                    *(name, videos[name], detector, reader, shots, size, config.step),
                    *(labels.get(name), config.lowest, config.highest),
                )
            except KeyframeError as error:
                failed[name] = str(error)
                continue
            file.add(number, video)
        if len(failed) == len(videos):
            first = next(iter(failed.values()))
            raise KeyframeError(first if len(failed) == 1 else f"none of {len(failed)} videos can be used: {first}")
    encoded = [name for name in videos if name not in failed]
    log.info("%s", _result(out, width, encoded, labels, failed))


def _check(config: DictConfig) -> None:
    """Tell what cannot be before the heavy imports.

    Raises:
        KeyframeError: no input, a number out of range, an `out` that is there, or two backbones.
    """
    for key, number in _NUMBERS.items():
        if not number.takes(config[key]):
            raise KeyframeError(f"{key}={config[key]} must be {number}.")
    if config.input is None:
        raise KeyframeError("there is no video to encode: name some, such as keyframe-features videos out=features.h5.")
    out = Path(str(config.out)).expanduser()
    if out.is_dir():
        raise KeyframeError(f"out={out} is a folder: name a file, such as out={out / 'features.h5'}.")
    if out.exists() and not config.overwrite:
        raise KeyframeError(f"out={out} is there already: choose another file, or replace it with overwrite=true.")
    chosen = [override.split("=")[0] for override in HydraConfig.get().overrides.task]
    stray = [key for key in chosen if key == "backbone" or key.startswith("backbone.")]
    if config.run is not None and stray:
        raise KeyframeError(f"run= and {stray[0]}= exclude each other: a run brings its own backbone.")


def _by_id(found: "Sequence[Path | Refused]") -> dict[str, Path]:
    """Videos by the stems of their files.

    Raises:
        KeyframeError: an input leads to no video, or two have one id: a file of features is made as a whole.
    """
    videos: dict[str, Path] = {}
    for path in found:
        if not isinstance(path, Path):
            raise KeyframeError(path.reason)
        # a name that is no UTF-8 could not be stored
        other = videos.setdefault(path.stem.encode("utf-8", "replace").decode(), path)
        if other != path:
            raise KeyframeError(f"{other} and {path} are both the video {path.stem}: rename one of them.")
    return videos


def _labels(config: DictConfig, videos: Mapping[str, Path]) -> "dict[str, Labels]":
    """The labels of these videos by id; fewer than videos where the file does not know them all.

    Raises:
        KeyframeError: the file cannot be read, or knows none of them.
    """
    from keyframe.data.labels import read_labels

    if config.labels is None:
        return {}
    path = Path(str(config.labels)).expanduser()
    try:
        found = read_labels(path, config.lowest, config.highest)
    except KeyframeError as error:  # which calls it as training does
        raise KeyframeError(str(error).replace("data.labels", "labels")) from error
    labels = {name: found[name] for name in videos if name in found}
    if not labels:
        raise KeyframeError(
            f"{path} has labels of {_few(list(found))}, but of none of the videos {_few(list(videos))}: "
            "call each file by its id."
        )
    return labels


def _detector(config: DictConfig) -> "tuple[KeyframeDetector, tuple[int, int], str]":
    """The model in eval mode whose backbone encodes, the (height, width) it sees, and where its weights are from.

    Raises:
        KeyframeError: there is no such run or backbone, it sees no pictures, or the device is not there.
    """
    import torch
    from hydra.utils import instantiate

    from keyframe.models.backbone import Backbone
    from keyframe.models.detector import KeyframeDetector, find_device
    from keyframe.models.head import TemporalHead
    from keyframe.runs import load_run

    device = find_device(config.device)
    size = (_USUAL_SIZE, _USUAL_SIZE)
    if config.run is not None:
        run = load_run(config.run)
        detector, size = run.detector, run.frame_shape[1:] if run.frame_shape is not None else size
    else:
        torch.manual_seed(config.seed)
        # as a detector it normalises pictures and takes them in chunks; its head is not asked
        detector = KeyframeDetector(instantiate(config.backbone, _convert_="all"), TemporalHead)
    if not isinstance(detector.backbone, Backbone):
        raise KeyframeError(
            "A model on feature files sees no pictures: give a backbone (backbone=resnet50) or a run on videos."
        )
    if config.size is not None:
        size = (config.size, config.size)
    return detector.eval().to(device), size, _weights(config)


def _weights(config: DictConfig) -> str:
    if config.run is not None:
        return "of a training run"
    if config.backbone.weights is not None:
        return Path(str(config.backbone.weights)).name
    if config.backbone.pretrained:
        return "timm, pretrained"
    log.warning("backbone.pretrained=false: these will be features of random weights (seed=%s)", config.seed)
    return f"random, seed {config.seed}"


def _width(detector: "KeyframeDetector", size: tuple[int, int]) -> int:
    """Channels of a feature; some models take pictures of one size only, which is better told before the first video.

    Raises:
        KeyframeError: the backbone does not take pictures of this size.
    """
    import torch

    try:
        with torch.inference_mode():
            detector.encode("pixels", torch.zeros(1, 1, 3, *size, device=detector.pixel_mean.device))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise KeyframeError(
            f"{detector.backbone.name} does not take pictures of {size[0]}x{size[1]} "
            f"({' '.join(str(error).split())[:120]}): set size."
        ) from error
    return detector.backbone.width


def _result(
    out: Path, width: int, encoded: Sequence[str], labels: Mapping[str, "Labels"], failed: Mapping[str, str]
) -> str:
    """The last lines: what is in the file, what is not, and how to train on it."""
    from keyframe.cli.terminal import from_here

    out = from_here(out)
    lines = []
    if failed:
        lines += [f"{len(failed)} of {len(encoded) + len(failed)} videos were left out:"]
        lines += [f"  {name}: {reason}" for name, reason in failed.items()]
    without = [name for name in encoded if name not in labels]
    lines.append(f"Features: {out} ({len(encoded)} videos, {width} channels, {out.stat().st_size / 1e6:.1f} MB)")
    if not without:
        place = shlex.quote(f"data.path={out}")
        lines.append(f"Train on it: keyframe-train data=h5 {place} data.width={width}")
    elif labels:
        lines.append(
            f"Without labels: {len(without)} of {len(encoded)} ({_few(without)}); keyframe-train data=h5 wants labels "
            "of all: give only those that have them as input"
        )
    else:
        lines.append("There are no labels in it, which keyframe-train data=h5 wants: give them with labels=FILE")
    return "\n".join(lines)


def _few(names: Sequence[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (" ..." if len(names) > limit else "")


def main() -> None:
    """Stand in for keyframe.cli.main until the console scripts are installed anew."""
    from keyframe.cli import main as scripts

    scripts.features()


if __name__ == "__main__":
    main()
