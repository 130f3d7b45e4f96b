"""A trained model to files that are kept only if they say what the model says.

Formats: torch.export's program, ONNX (for ONNX Runtime and all that reads ONNX; in int8 too), and TorchScript, which
torch has deprecated, for phones and C++ programs that know nothing newer. In all of them the numbers of videos N and
frames T are dynamic. Height and width are those the model was trained with: scores of other sizes mean little, and
fixed ones run faster. A program takes its input at once, so memory grows with N x T: the caller chooses the pieces.
"""

import copy
import io
import logging
import platform
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import Dim, ExportedProgram
from torch.onnx import ONNXProgram

import keyframe
from keyframe.data.dataset import VideoDataset
from keyframe.data.divided import DividedVideos
from keyframe.data.splits import Split
from keyframe.evaluation.metrics import Difference, paired_difference, spearman
from keyframe.export.model import FRAMES, SCORES, SUFFIXES, Card, card_path, load_program, onnx_packages, write_card
from keyframe.files import file_hash, one_line
from keyframe.models.detector import KeyframeDetector
from keyframe.pipeline import TrainedModel
from keyframe.system import installed_versions
from keyframe.timing import in_turns
from keyframe.types import FloatArray, KeyframeError, UInt8Array, VideoError

PARITY = 1e-4  # the largest difference allowed between a float file's scores in [0, 1] and the model's own
# Frames of a clip, if the model sees any number of frames at once.
_MOST_FRAMES = 60
_TORCH, _ONNX = ("torch", "timm"), ("onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True)
class Clip:
    """What a model sees of one labelled video at once, to check and calibrate files on."""

    video: str  # id
    frames: UInt8Array  # uint8 (T, 3, H, W)
    importance: FloatArray  # the annotators' mean for each frame, (T,)


def read_clips(
    data: DividedVideos, split: str, most: int, bar: Callable[[Iterable[int], str, int], Iterator[int]]
) -> list[Clip]:
    """Decode a window of each video of a split, by the run's own sampling; what cannot be read is left out.

    At most `most` videos, spread evenly over the split; `bar` shows progress.
    """
    data.prepare_data()
    videos = data.split_videos(split)
    count = min(most, len(videos))
    spread = [videos[(2 * number + 1) * len(videos) // (2 * count)] for number in range(count)]
    dataset = VideoDataset(split, spread, data.reader, data.sampling, data.size)
    clips, reasons = [], []
    for number in bar(range(len(dataset)), f"Reading {split} videos", len(dataset)):
        try:
            sample = dataset.plain(number)
        except VideoError as error:
            reasons.append(str(error))
            continue
        shown = slice(0, _MOST_FRAMES if data.sampling.window is None else None)
        clips.append(Clip(sample.video, sample.inputs[shown].numpy(), sample.importance[shown].numpy()))
    if not clips:
        reason = "; ".join(reasons[:3]) or "it has none"
        raise KeyframeError(f"no video of the {split} split can be read ({reason}): set data.root to their folder.")
    return clips


@dataclass(frozen=True, eq=False)
class Exporter:
    """Writes a trained model in several formats."""

    model: TrainedModel  # of a run on videos, on the CPU
    config: Mapping[str, Any]  # the run's whole configuration, plain nested values
    parameters: Mapping[str, float]  # counts, `total` among them
    directory: Path  # where the files go
    split: Split | None  # the run's, or None if it has stored none
    part: str  # the part that the held-out videos are of
    held_out: Sequence[Clip]  # clips that files are checked on
    calibration: Sequence[Clip]  # clips of training videos, for int8
    opset: int  # version of ONNX's operators, one of `OPSETS`

    def path(self, format: str) -> Path:
        """Where the file of a format goes."""
        return self.directory / f"{self.model.backbone.replace('/', '_')}{SUFFIXES[format]}"

    def export(self, format: str) -> Card:
        """Write a file of a format and its card, once its scores are checked; KeyframeError if there is none."""
        path = self.path(format)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=self.directory) as drafts:
            draft = Path(drafts) / path.name
            try:
                making = self._write(format, draft)
            except (KeyframeError, OSError):
                raise
            except Exception as error:  # torch's exporters have classes of their own, and many
                reason = one_line(str(error))[:200]
                raise KeyframeError(
                    f"{path.name} was not written: {format} cannot hold this model ({type(error).__name__}: {reason}); "
                    "use another format, such as torchscript."
                ) from error
            program = load_program(draft, format, torch.get_num_threads())
            scores = [program(clip.frames[None])[0] for clip in self.held_out]
            largest = max(float(np.abs(a - b).max()) for a, b in zip(scores, self._own_scores, strict=True))
            if format != "onnx_int8" and not largest <= PARITY:
                raise KeyframeError(
                    f"{path.name} was not kept: its scores differ from the model's own by up to {largest:.1e}, more "
                    f"than {PARITY:g}; use another format."
                )
            change = paired_difference(self._spearman(scores), self._spearman(self._own_scores))
            card = self._card(format, draft, largest, change, making)
            write_card(draft, card)
            # the card first: a file that is there has its card
            card_path(draft).replace(card_path(path))
            draft.replace(path)
        return card

    def seconds(self, formats: Iterable[str], repeats: int) -> dict[str, list[float]]:
        """Seconds per window of the files written, by format and `eager`, in turns; one value per round."""
        frames = self.held_out[0].frames[None]
        calls: dict[str, Any] = {"eager": partial(self._eager, self.held_out[0])}
        for format in formats:
            calls[format] = partial(load_program(self.path(format), format, torch.get_num_threads()), frames)
        return in_turns(calls, repeats)

    @property
    def _size(self) -> tuple[int, int]:
        assert self.model.size is not None
        return self.model.size

    @cached_property
    def _own_scores(self) -> list[FloatArray]:
        """The model's own scores of the held-out clips, (T,) each."""
        return [self._eager(clip) for clip in self.held_out]

    @cached_property
    def _program(self) -> ExportedProgram:
        return export_program(self.model.detector, self._size)

    @cached_property
    def _onnx(self) -> ONNXProgram:
        return onnx_program(self._program, self.opset)

    def _write(self, format: str, path: Path) -> dict[str, Any]:
        """Write an unchecked file; returns its card's `making`."""
        if format == "torchscript":
            write_torchscript(self.model.detector, path, self._size)
            return {}
        if format == "torch_export":
            write_program(self._program, path)
            return {}
        source = path if format == "onnx" else path.with_name("float32.onnx")
        self._onnx.save(source, external_data=False)
        return {"opset": self.opset} | ({} if format == "onnx" else self._write_int8(source, path))

    def _write_int8(self, source: Path, path: Path) -> dict[str, Any]:
        with onnx_packages():
            from keyframe.export.int8 import FRAMES_PER_VIDEO, METHOD, quantize
        if not self.calibration:
            raise KeyframeError("onnx_int8 needs training videos to calibrate on: raise calibration.videos.")
        quantize(source, path, [clip.frames for clip in self.calibration])
        videos = [clip.video for clip in self.calibration]
        frames = sum(min(len(clip.frames), FRAMES_PER_VIDEO) for clip in self.calibration)
        return {"int8": METHOD, "calibration": {"split": "train", "videos": videos, "frames": frames}}

    @torch.inference_mode()
    def _eager(self, clip: Clip) -> FloatArray:
        return self.model.detector(torch.from_numpy(clip.frames)[None])[0].numpy()

    def _spearman(self, scores: Sequence[FloatArray]) -> list[float]:
        return [spearman(one, clip.importance) for one, clip in zip(scores, self.held_out, strict=True)]

    def _card(self, format: str, draft: Path, largest: float, change: Difference, making: Mapping[str, Any]) -> Card:
        bounds = {"": change.value, "_lo": change.lo, "_hi": change.hi}
        check = {
            "against": "the run's own model, eager, in float32",
            "split": self.part,
            "videos": [clip.video for clip in self.held_out],
            "frames": sum(len(clip.frames) for clip in self.held_out),
            "largest_difference": largest,
            "limit": None if format == "onnx_int8" else PARITY,
            # JSON knows no NaN
            **{f"spearman_change{end}": None if np.isnan(value) else value for end, value in bounds.items()},
        }
        return Card(
            format=format,
            sha256=file_hash(draft),
            checkpoint_sha256=self.model.description["checkpoint_sha256"],
            backbone=self.model.backbone,
            size=self._size,
            window=self.model.window,
            parameters=self.parameters,
            file_mb=draft.stat().st_size / 1e6,
            making=making,
            check=check,
            config=self.config,
            split=None if self.split is None else self.split.to_plain(),
            versions={
                "keyframe": keyframe.__version__,
                "python": platform.python_version(),
                **installed_versions([*_TORCH, *(_ONNX if format.startswith("onnx") else ())]),
            },
        )


def export_program(detector: KeyframeDetector, size: tuple[int, int]) -> ExportedProgram:
    """Trace a detector in eval mode into a program of plain tensor operations; `program.module()(frames)` runs it.

    Frames are uint8 of `size`, (height, width) in pixels.
    """
    # two and three, because the exporter takes an example's 1 for a constant, and equal numbers for one
    frames = torch.zeros(2, 3, 3, *size, dtype=torch.uint8, device=detector.pixel_mean.device)
    dynamic = {FRAMES: {0: Dim("videos", min=1), 1: Dim("time", min=1)}}
    whole = _unchunked(detector)
    with torch.no_grad():
        return torch.export.export(whole, (frames,), dynamic_shapes=dynamic, strict=False)


def write_program(program: ExportedProgram, path: Path) -> None:
    """Write a program for `torch.export.load`."""
    content = io.BytesIO()  # torch's own writer ends the process if the disk is full
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about how weights that share memory are stored
        torch.export.save(program, content)
    path.write_bytes(content.getbuffer())


def onnx_program(program: ExportedProgram, opset: int = 18) -> ONNXProgram:
    """A program as an ONNX model, `frames` (N, T, 3, H, W) -> `scores` (N, T); `opset` is one of `OPSETS`."""
    with _quiet(), torch.no_grad():
        exported = torch.onnx.export(
            program, dynamo=True, opset_version=opset, input_names=[FRAMES], output_names=[SCORES], verbose=False
        )
    assert exported is not None
    return exported


def write_torchscript(detector: KeyframeDetector, path: Path, size: tuple[int, int]) -> None:
    """Trace a detector in eval mode and write it for `torch.jit.load`, norm layers folded into convolutions.

    Frames are uint8 of `size`, (height, width) in pixels.
    """
    frames = torch.zeros(2, 3, 3, *size, dtype=torch.uint8, device=detector.pixel_mean.device)
    with torch.no_grad(), warnings.catch_warnings():
        # that torch.jit is deprecated, and that a check of shapes was followed one way
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(_unchunked(detector), (frames,), check_trace=False)
        content = io.BytesIO()  # as in `write_program`
        torch.jit.save(torch.jit.freeze(traced), content)
    path.write_bytes(content.getbuffer())


def _unchunked(detector: KeyframeDetector) -> KeyframeDetector:
    """A detector of the same weights that takes all frames at once: a loop over chunks would fix their number."""
    if detector.training:
        raise ValueError("the detector is in training mode: call eval() first")
    whole = copy.copy(detector)
    whole.chunk = None
    return whole


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's remarks on its own insides."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
