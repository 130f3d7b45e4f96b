"""A finished training run: its model, and the videos it was and was not trained on.

An exported file as a run: the model of the file, with the data of the run that its card tells.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from keyframe.data.datamodule import KeyframeDataModule, VideoDataModule
from keyframe.data.feature_file import FeatureVideo
from keyframe.data.labels import label_positions, labelled_frames
from keyframe.data.packets import PacketIndex, index_packets
from keyframe.data.reader import VideoReader
from keyframe.evaluation.video import Shots, Subject, at_entries, feature_subject, pixel_subject
from keyframe.export.model import ExportedModel, require_cpu
from keyframe.files import flat
from keyframe.models.detector import KeyframeDetector, find_device, sizes
from keyframe.pipeline import score_video, score_windows
from keyframe.timing import Contender, random_videos, weights_mb
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
    def contender(self) -> Contender:
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

    def subject(self, video: Video, shots: Shots) -> Subject:
        """The video as evaluation sees it, scored at every pick.

        Raises:
            VideoError: the file cannot be read.
        """
        if isinstance(video, FeatureVideo):
            return feature_subject(video)
        data = self._pixels
        lowest, highest = getattr(data.source, "lowest", 1.0), getattr(data.source, "highest", 5.0)
        return pixel_subject(video, data.reader, shots, lowest, highest)

    def sampled(self, subject: Subject, video: Video) -> Subject:
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

    def score(self, video: Video, subject: Subject) -> FloatArray:
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
    """A trained model and its data; made by `keyframe.config.load_run`.

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
    def contender(self) -> Contender:
        """The model and its usual input, to be timed: frames to scores, or features to scores."""
        device = self.detector.pixel_mean.device
        if self.frame_shape is not None:
            return Contender(self.detector, partial(random_videos, shape=self.frame_shape, device=device))
        width = self.detector.backbone.width
        return Contender(self.detector.score, lambda count: torch.randn(count, _USUAL_FRAMES, width, device=device))

    def to(self, device: str) -> None:
        """Move the model to a device.

        Raises:
            KeyframeError: it is not there.
        """
        self.detector.to(find_device(device))

    def sizes(self) -> dict[str, float]:
        """Counts of parameters and the MB of all weights."""
        counts = sizes(self.detector, self.has_two_stages)
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
    """An exported model and its run's data; made by `keyframe.config.load_run`.

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
    def contender(self) -> Contender:
        """The program and its usual input, to be timed."""
        assert self.frame_shape is not None
        return Contender(self._score, partial(random_videos, shape=self.frame_shape))

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
