"""Who says how much a frame matters: a trained model, or a rule that needs none."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from keyframe.data.packets import PacketIndex
from keyframe.data.reader import VideoReader
from keyframe.export.model import is_exported
from keyframe.files import file_hash
from keyframe.summary.describe import Look
from keyframe.summary.training_free import training_free
from keyframe.types import FloatArray, IntArray, KeyframeError

if TYPE_CHECKING:  # torch takes seconds to import, and who has no model needs none of it
    from keyframe.export.model import ExportedModel
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
        run: what `keyframe.runs.load_run` gave, its detector on the device to be used.
        bf16: whether it computes in bfloat16 (`torch.autocast`).

    Raises:
        KeyframeError: the run was trained on a feature file and cannot look at pictures.
    """

    def __init__(self, run: "Run", bf16: bool = False) -> None:
        if run.frame_shape is None:
            raise KeyframeError(
                f"{run.checkpoint} was trained on a feature file and sees no pictures: give a run on videos."
            )
        self.run, self.bf16 = run, bf16
        self.size = run.frame_shape[1:]
        self.name = f"a trained model, {run.detector.backbone.name}"
        self.description: Mapping[str, Any] = model_description(run.checkpoint, bf16)
        self.libraries: Sequence[str] = ("torch", "timm")

    def __call__(
        self, index: PacketIndex, frames: IntArray, look: Look, shots: IntArray, reader: VideoReader
    ) -> FloatArray:
        """Score frames; `keyframe.data.sampling` says how more of them than the model saw in training are scored."""
        import torch

        with torch.autocast(self.run.detector.pixel_mean.device.type, torch.bfloat16, enabled=self.bf16):
            return self.run.score_frames(index.path, frames, reader, index).values


class Exported:
    """Scores by an exported file, also in a pass of its own.

    Args:
        model: what `keyframe.export.model.load_exported` gave.
    """

    def __init__(self, model: "ExportedModel") -> None:
        self.model = model
        self.name = f"an exported model, {model.name}"
        self.description: Mapping[str, Any] = model_description(model.path)
        self.libraries: Sequence[str] = ("onnxruntime",) if model.card.format.startswith("onnx") else ("torch",)

    def __call__(
        self, index: PacketIndex, frames: IntArray, look: Look, shots: IntArray, reader: VideoReader
    ) -> FloatArray:
        """Score frames; see `TrainedModel`."""
        return self.model.score_frames(index.path, frames, reader, index).values


def model_description(path: Path, bf16: bool = False) -> dict[str, Any]:
    """What makes a model's scores what they are, from its checkpoint or its exported file."""
    kind, file = ("exported", "file") if is_exported(path) else ("model", "checkpoint")
    return {"kind": kind, f"{file}_sha256": file_hash(path), **({"bf16": True} if bf16 else {})}


def load_scorer(run: Path | None, device: str = "auto", threads: int = 0, bf16: bool = False) -> Scorer:
    """The scorer of a run, on a device; without a run the training-free one.

    Args:
        run: a run directory (its best checkpoint), a checkpoint, or an exported file.
        device: a name that torch knows, or "auto" for a GPU where there is one.
        threads: that the model computes with; 0 leaves it to the library.
        bf16: whether a run's model computes in bfloat16; all else computes as it is.

    Raises:
        KeyframeError: it is no such run, or the device is not there, or cannot compute so.
    """
    if run is None:
        return TrainingFree()
    if is_exported(run):
        from keyframe.export.model import load_exported

        return Exported(load_exported(run, device, threads))
    import torch

    from keyframe.runs import load_run

    if threads:
        torch.set_num_threads(threads)
    loaded = load_run(run, device=device)
    if bf16 and loaded.detector.pixel_mean.is_cuda and not torch.cuda.is_bf16_supported():
        raise KeyframeError("bf16=true needs a GPU that computes in bfloat16, and this one does not: leave it out.")
    return TrainedModel(loaded, bf16)
