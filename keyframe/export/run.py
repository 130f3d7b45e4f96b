"""An exported file as a run: the model of the file, with the data of the run that its card tells."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from keyframe.benchmark.cost import random_videos
from keyframe.benchmark.speed import Contender
from keyframe.data.datamodule import KeyframeDataModule, VideoDataModule
from keyframe.data.packets import PacketIndex
from keyframe.data.readers import VideoReader
from keyframe.errors import KeyframeError
from keyframe.export.model import ExportedModel, require_cpu
from keyframe.runs import BaseRun
from keyframe.types import IntArray, Scores


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
