"""Who says how much a frame matters: a trained model, or a rule that needs none."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from keyframe.data.packets import PacketIndex
from keyframe.data.readers import VideoReader
from keyframe.errors import KeyframeError
from keyframe.extraction.identity import file_hash
from keyframe.summary.descriptor import Look
from keyframe.summary.training_free import training_free
from keyframe.types import FloatArray, IntArray

if TYPE_CHECKING:  # torch takes seconds to import, and who has no model needs none of it
    from keyframe.runs import Run


class Scorer(Protocol):
    """Scores frames of one video.

    Attributes:
        name: in a few words, for a report.
        description: what it is, for a record: equal descriptions give equal scores.
        libraries: the distributions that its scores depend on.
    """

    name: str
    description: Mapping[str, Any]
    libraries: Sequence[str]

    def __call__(
        self, index: PacketIndex, frames: IntArray, look: Look, shots: IntArray, reader: VideoReader
    ) -> FloatArray:
        """Score frames.

        Args:
            index: of the video.
            frames: their numbers in presentation order, increasing, (n,), n >= 1.
            look: what they look like.
            shots: first and last of them of each shot, inclusive, (m, 2), covering 0 ... n - 1 in order.
            reader: decodes frames.

        Returns:
            Scores in [0, 1], (n,).

        Raises:
            VideoError: the file cannot be read.
        """
        ...


class TrainingFree:
    """Scores by shot structure, novelty, typicality and sharpness; see `keyframe.summary.training_free`."""

    name = "a training-free rule, without a trained model"
    description: Mapping[str, Any] = {"kind": "training-free"}
    libraries: Sequence[str] = ()

    def __call__(
        self, index: PacketIndex, frames: IntArray, look: Look, shots: IntArray, reader: VideoReader
    ) -> FloatArray:
        """Score frames; nothing is decoded again."""
        return training_free(look, shots)


class TrainedModel:
    """Scores by a run's model, in a pass of its own over the video: a model has its own size of pictures.

    Args:
        run: what `keyframe.config.load_run` gave, its detector on the device to be used.

    Raises:
        KeyframeError: the run was trained on a feature file and cannot look at pictures.
    """

    def __init__(self, run: "Run") -> None:
        if run.frame_shape is None:
            raise KeyframeError(
                f"{run.checkpoint} was trained on a feature file and sees no pictures: give a run on videos."
            )
        self.run = run
        self.size = run.frame_shape[1:]
        self.name = f"a trained model, {run.detector.backbone.name}"
        self.description: Mapping[str, Any] = model_description(run.checkpoint)
        self.libraries: Sequence[str] = ("torch", "timm")

    def __call__(
        self, index: PacketIndex, frames: IntArray, look: Look, shots: IntArray, reader: VideoReader
    ) -> FloatArray:
        """Score frames; how more of them than the model saw in training are scored is said in `models.windows`."""
        from keyframe.pipeline import score_video

        return score_video(index.path, self.run.detector, reader, frames, self.size, self.run.window, index).values


def model_description(checkpoint: Path) -> dict[str, Any]:
    """What makes a trained model's scores what they are."""
    return {"kind": "model", "checkpoint_sha256": file_hash(checkpoint)}


def load_scorer(run: Path | None, device: str = "auto") -> Scorer:
    """The scorer of a run, on a device; without a run the training-free one.

    Args:
        run: a run directory (its best checkpoint), or a checkpoint file.
        device: a name that torch knows, or "auto" for a GPU where there is one.

    Raises:
        KeyframeError: it is no such run, or the device is not there.
    """
    if run is None:
        return TrainingFree()
    from keyframe.config import load_run

    return TrainedModel(load_run(run, device=device))
