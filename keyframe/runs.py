"""A finished training run: its model, and the videos it was and was not trained on.

An exported file as a run: the model of the file, with the data of the run that its card tells.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from keyframe.config import build
from keyframe.data.datamodule import KeyframeDataModule, VideoDataModule
from keyframe.data.feature_file import FeatureVideo
from keyframe.data.labels import label_positions, labelled_frames
from keyframe.data.packets import PacketIndex, index_packets
from keyframe.data.reader import VideoReader
from keyframe.evaluation.video import EvalVideo, Shots, at_entries, feature_eval_video, pixel_eval_video
from keyframe.export.model import ExportedModel, is_exported, load_exported, require_cpu
from keyframe.files import flat
from keyframe.models.detector import KeyframeDetector, count_parameters, find_device
from keyframe.pipeline import score_video, score_windows
from keyframe.timing import TimedModel, random_videos, weights_mb
from keyframe.training.run import read_checkpoint
from keyframe.types import FloatArray, IntArray, KeyframeError, LabelledVideo, Scores, VideoError

# Of a video without a fixed number of them, for timing.
_USUAL_FRAMES = 60

# Height in pixels.
_THUMBNAIL = 100

# Parts of the configuration that make a model what it is.
_RECIPE = ("model", "loss", "distillation", "optimizer", "finetune", "sampling", "augmentation")

Video = LabelledVideo | FeatureVideo


class BaseRun(ABC):
    """A model in whatever form, and the data of the run that trained it.

    Args:
        path: the file that holds the model.
        config: the run's whole configuration, plain nested values.
        datamodule: its data, as training divided them.
    """

    def __init__(self, path: Path, config: Mapping[str, Any], datamodule: KeyframeDataModule[Any]) -> None:
        self.path = path
        self.config = config
        self.datamodule = datamodule

    @property
    @abstractmethod
    def name(self) -> str:
        """What the model is called: its backbone and, if it was exported, the form."""

    @property
    @abstractmethod
    def timed_model(self) -> TimedModel:
        """The model and its usual input, to be timed: frames to scores, or features to scores."""

    @abstractmethod
    def to(self, device: str) -> None:
        """Move the model to a device, by a name that torch knows or "auto".

        Raises:
            KeyframeError: it is not there, or the model cannot compute there.
        """

    @abstractmethod
    def sizes(self) -> dict[str, float]:
        """Counts of parameters (`params_backbone`, `params_total` ...) and `weights_mb`."""

    @abstractmethod
    def score_frames(self, path: Path, frames: IntArray, reader: VideoReader, index: PacketIndex) -> Scores:
        """Score frames of a video, by number; how more than the model sees at once: see `keyframe.data.sampling`.

        Raises:
            VideoError: the file cannot be read.
        """

    @property
    def directory(self) -> Path:
        """The run directory, or the checkpoint's own where it lies in none."""
        parent = self.path.parent
        return parent.parent if parent.name == "checkpoints" else parent

    @property
    def label(self) -> str:
        """What tells it apart from other runs of the same model."""
        return f"seed {self.config.get('seed')}, fold {self.datamodule.fold}"

    @property
    def window(self) -> int | None:
        """How many frames the model was trained to see at once; None for any number."""
        return self.datamodule.sampling.window if isinstance(self.datamodule, VideoDataModule) else None

    @property
    def frame_shape(self) -> tuple[int, int, int] | None:
        """Frames of a usual video, their height and width; None where the model sees features, not frames."""
        if not isinstance(self.datamodule, VideoDataModule):
            return None
        return (self.window or _USUAL_FRAMES, *self.datamodule.size)

    @property
    def has_two_stages(self) -> bool:
        """Whether training released the backbone's last blocks."""
        finetune = self.config.get("finetune") or {}
        return finetune.get("switch_epoch") is not None

    @property
    def recipe(self) -> dict[str, Any]:
        """What the runs of one model have in common, flat; seeds and folds may differ."""
        # what is off may not have been there yet
        return dict(flat({key: self.config[key] for key in _RECIPE if self.config.get(key) is not None}))

    def videos(self, split: str) -> dict[str, Video]:
        """The videos of a split by id; none is decoded.

        Raises:
            KeyframeError: they are not where they were, and `data.root` does not say where.
        """
        self.datamodule.prepare_data()
        return {video.id: video for video in self.datamodule.split_videos(split)}

    def subject(self, video: Video, shots: Shots) -> EvalVideo:
        """The video as evaluation sees it, scored at every pick.

        Raises:
            VideoError: the file cannot be read.
        """
        if isinstance(video, FeatureVideo):
            return feature_eval_video(video)
        data = self._pixels
        lowest, highest = getattr(data.source, "lowest", 1.0), getattr(data.source, "highest", 5.0)
        return pixel_eval_video(video, data.reader, shots, lowest, highest)

    def sampled(self, subject: EvalVideo, video: Video) -> EvalVideo:
        """The same video scored only at the frames that the run's own sampling chooses.

        Raises:
            KeyframeError: a feature file has no other frames than its picks.
        """
        if isinstance(video, FeatureVideo):
            raise KeyframeError("protocol=sampled is for runs on pixels: a feature file is scored at every pick.")
        index = index_packets(video.path)
        frames = self._pixels.reader.grid(self._pixels.sampling.indices(index), index)
        seconds = index.timestamps[frames] - index.timestamps[0]
        entries = label_positions(len(video.labels), index.n_frames, frames, seconds, index.duration, video.path)
        entries, first = np.unique(entries, return_index=True)
        return at_entries(subject, video, entries, seconds[first])

    def score(self, video: Video, subject: EvalVideo) -> FloatArray:
        """The model's scores at the subject's entries, in [0, 1], (n,).

        Raises:
            VideoError: the file cannot be read.
        """
        if isinstance(video, FeatureVideo):
            return self.score_features(video.features)
        index = index_packets(video.path)
        frames = labelled_frames(len(video.labels), subject.entries, index)
        return self.score_frames(video.path, frames, self._pixels.reader, index).values

    def score_features(self, features: FloatArray) -> FloatArray:
        """Score somebody else's features of all frames, (N, width) -> (N,).

        Raises:
            KeyframeError: the model sees pictures only.
        """
        raise KeyframeError(f"{self.path} sees pictures, not features: give a run on a feature file.")

    def thumbnails(self, video: Video, seconds: Sequence[float]) -> list[tuple[float, npt.NDArray[np.uint8]]]:
        """Small pictures of a video near the given seconds, uint8 (h, w, 3) each; none of a feature file's."""
        if isinstance(video, FeatureVideo):
            return []
        index = index_packets(video.path)
        times = index.timestamps - index.timestamps[0]
        frames = np.unique(np.searchsorted(times, seconds, side="right") - 1).clip(0)
        height, width = index.upright_size
        size = (_THUMBNAIL, max(1, round(_THUMBNAIL * width / height)))
        try:
            pictures = self._pixels.reader.read(video.path, frames, size, index)
        except VideoError:
            return []  # its scored frames decode; these few are an ornament
        return [(float(times[frame]), pixels) for frame, pixels in zip(frames, pictures.pixels, strict=True)]

    @property
    def _pixels(self) -> VideoDataModule:
        assert isinstance(self.datamodule, VideoDataModule)
        return self.datamodule


class Run(BaseRun):
    """A trained model and its data; made by `keyframe.runs.load_run`.

    Args:
        checkpoint: the checkpoint file.
        config: the run's whole configuration, plain nested values.
        detector: its model, in eval mode.
        datamodule: its data, as training divided them.
    """

    def __init__(
        self,
        checkpoint: Path,
        config: Mapping[str, Any],
        detector: KeyframeDetector,
        datamodule: KeyframeDataModule[Any],
    ) -> None:
        super().__init__(checkpoint, config, datamodule)
        self.detector = detector

    @property
    def checkpoint(self) -> Path:
        """The checkpoint file."""
        return self.path

    @property
    def name(self) -> str:
        """The backbone's name."""
        return self.detector.backbone.name

    @property
    def timed_model(self) -> TimedModel:
        """The model and its usual input, to be timed: frames to scores, or features to scores."""
        device = self.detector.pixel_mean.device
        if self.frame_shape is not None:
            return TimedModel(self.detector, partial(random_videos, shape=self.frame_shape, device=device))
        width = self.detector.backbone.width
        return TimedModel(self.detector.score, lambda count: torch.randn(count, _USUAL_FRAMES, width, device=device))

    def to(self, device: str) -> None:
        """Move the model to a device.

        Raises:
            KeyframeError: it is not there.
        """
        self.detector.to(find_device(device))

    def sizes(self) -> dict[str, float]:
        """Counts of parameters and the MB of all weights."""
        counts = count_parameters(self.detector, self.has_two_stages)
        return {f"params_{key}": float(value) for key, value in counts.items()} | {
            "weights_mb": weights_mb(self.detector)
        }

    def score_frames(self, path: Path, frames: IntArray, reader: VideoReader, index: PacketIndex) -> Scores:
        """Score frames of a video; see `keyframe.pipeline.score_video`."""
        return score_video(path, self.detector, reader, frames, self._pixels.size, self.window, index)

    def score_features(self, features: FloatArray) -> FloatArray:
        """Score somebody else's features of all frames, (N, width) -> (N,)."""
        return score_windows(self.detector.score, torch.from_numpy(features).to(self.detector.pixel_mean.device))


class ExportedRun(BaseRun):
    """An exported model and its run's data; made by `keyframe.runs.load_run`.

    Args:
        model: the file, its card and what it computes.
        datamodule: the run's data, as training divided them.

    Raises:
        KeyframeError: the card's data are not videos.
    """

    def __init__(self, model: ExportedModel, datamodule: KeyframeDataModule[Any]) -> None:
        if not isinstance(datamodule, VideoDataModule):
            raise KeyframeError(f"{model.path} has a card without videos: export the model again.")
        super().__init__(model.path, model.card.config, datamodule)
        self.model = model

    @property
    def name(self) -> str:
        """Its backbone and its format."""
        return self.model.name

    @property
    def timed_model(self) -> TimedModel:
        """The program and its usual input, to be timed."""
        assert self.frame_shape is not None
        return TimedModel(self._score, partial(random_videos, shape=self.frame_shape))

    @property
    def recipe(self) -> dict[str, Any]:
        """What the runs of one model have in common; another format is another model."""
        return {**super().recipe, "format": self.model.card.format}

    def to(self, device: str) -> None:
        """Stay on the CPU.

        Raises:
            KeyframeError: another device was asked for.
        """
        require_cpu(self.path, device)

    def sizes(self) -> dict[str, float]:
        """Counts of the run's parameters, and the MB of the file."""
        counts = {f"params_{name}": float(value) for name, value in self.model.card.parameters.items()}
        return counts | {"weights_mb": self.path.stat().st_size / 1e6}

    def score_frames(self, path: Path, frames: IntArray, reader: VideoReader, index: PacketIndex) -> Scores:
        """Score frames of a video; see `ExportedModel.score_frames`."""
        return self.model.score_frames(path, frames, reader, index)

    def _score(self, frames: Tensor) -> Tensor:
        return torch.from_numpy(self.model.program(frames.numpy()))


# Named one by one: a module's namespace also holds what the module imports.
_DATA_CLASSES = {
    "keyframe.data.datamodule.FeatureDataModule",
    "keyframe.data.datamodule.VideoDataModule",
    "keyframe.data.decord_reader.DecordReader",
    "keyframe.data.pyav_reader.PyAVReader",
    "keyframe.data.sampling.FpsSampling",
    "keyframe.data.sampling.UniformSampling",
    "keyframe.data.folder.DemoSource",
    "keyframe.data.folder.DirectorySource",
}


_MODEL_CLASSES = {
    "keyframe.models.backbone.Backbone",
    "keyframe.models.detector.KeyframeDetector",
    "keyframe.models.head.TemporalHead",
    "keyframe.models.backbone.NoBackbone",
}


def find_run(run: str | Path, key: str = "run") -> Path:
    """The checkpoint that `run=` means: a checkpoint file, or a run directory's best one.

    Raises:
        KeyframeError: there is none.
    """
    path = Path(run).expanduser()
    if path.is_dir():
        path = path / "checkpoints" / "best.ckpt"
    if not path.is_file():
        raise KeyframeError(f"{key}={run}: there is no checkpoint {path}; give a run directory or a checkpoint.")
    return path


def load_detector(run: str | Path) -> KeyframeDetector:
    """Rebuild the trained model of a run, in eval mode, on the CPU.

    Args:
        run: a run directory (its best checkpoint), or a checkpoint file.

    Raises:
        KeyframeError: there is no checkpoint, it is damaged, or it is not one of ours.
    """
    path = find_run(run)
    return _detector(path, _read(path))


def load_run(
    run: str | Path,
    root: str | None = None,
    labels: str | None = None,
    device: str | None = None,
    key: str = "run",
) -> Run:
    """Rebuild the trained model of a run together with its data.

    All is read from the checkpoint, which holds the run's whole configuration.

    Args:
        run: a run directory (its best checkpoint), or a checkpoint file.
        root: where the data lie now (`data.root`, or `data.path` of a feature file), if they were moved.
        labels: the label file to use instead of the run's own.
        device: where the model computes, a name that torch knows, or "auto" for a GPU where there is one; None for the
            CPU.
        key: what the user calls `run`, for messages.

    Raises:
        KeyframeError: as `load_detector`, the run is of another version of keyframe, or the device is not there.
    """
    path = find_run(run, key)
    checkpoint = _read(path)
    detector = _detector(path, checkpoint)
    config = checkpoint["hyper_parameters"]
    datamodule = _datamodule(path, config, root, labels)
    if device is not None:
        detector.to(find_device(device))
    return Run(path, config, detector, datamodule)


def load_any_run(run: str | Path, root: str | None = None, labels: str | None = None) -> BaseRun:
    """The same of a run or of an exported file, whose card tells its run's configuration; on the CPU.

    Raises:
        KeyframeError: as `load_run`, or as `keyframe.export.model.load_exported`.
    """
    path = Path(run).expanduser()
    if not is_exported(path):
        return load_run(run, root, labels)

    model = load_exported(path, threads=torch.get_num_threads())
    return ExportedRun(model, _datamodule(path, model.card.config, root, labels))


def _read(path: Path) -> dict[str, Any]:

    if is_exported(path):
        raise KeyframeError(f"{path} is an exported file, which holds no checkpoint: give the run that it was made of.")
    checkpoint = read_checkpoint(path)
    if "model" not in checkpoint.get("hyper_parameters", {}):
        raise KeyframeError(f"{path} does not say how its model is built: use a checkpoint that keyframe wrote.")
    return checkpoint


def _detector(path: Path, checkpoint: dict[str, Any]) -> KeyframeDetector:
    """The model without pretrained weights, then with the checkpoint's."""
    model = copy.deepcopy(checkpoint["hyper_parameters"]["model"])
    if isinstance(model.get("backbone"), dict) and "pretrained" in model["backbone"]:
        model["backbone"] |= {"pretrained": False, "weights": None}
    detector: KeyframeDetector = build(model, _MODEL_CLASSES, path)
    prefix = "detector."
    weights = {key[len(prefix) :]: value for key, value in checkpoint["state_dict"].items() if key.startswith(prefix)}
    try:
        detector.load_state_dict(weights)
    except RuntimeError as error:
        raise KeyframeError(
            f"{path} holds other weights than its model has: it is of another version of keyframe; train it again."
        ) from error
    return detector.eval()


def _datamodule(path: Path, config: Mapping[str, Any], root: str | None, labels: str | None) -> KeyframeDataModule[Any]:
    """The data of a run's configuration, wherever they lie now."""
    data = config.get("datamodule")
    if not isinstance(data, dict):
        raise KeyframeError(f"{path} does not say which videos it was trained on (datamodule): train it again.")
    # What only training needs is left out, and may be of any class.
    data = copy.deepcopy({key: value for key, value in data.items() if key not in ("augmentation", "cache")})
    for name, value in (("root", root), ("labels", labels)):
        if value is not None:
            _replace(data, name, str(Path(value).expanduser()), path)
    datamodule: KeyframeDataModule[Any] = build(data, _DATA_CLASSES, path)
    return datamodule


def _replace(data: dict[str, Any], name: str, value: str, path: Path) -> None:
    """Set the data's place or labels, wherever this kind of data keeps them."""
    source: dict[str, Any] = data["source"] if isinstance(data.get("source"), dict) else data
    key = "path" if name == "root" and "path" in source else name
    if key not in source:
        raise KeyframeError(f"the run {path} has no data.{name} to replace: leave data.{name} out.")
    source[key] = value
