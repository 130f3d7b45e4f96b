"""Windows of labelled videos: what an exported file is checked and calibrated on.

A detector as a program of plain tensor operations: torch.export.

Videos N and frames T are dynamic. Height and width are those the model was trained with: scores of other sizes mean
little, and fixed ones run faster. A program takes what it is given at once, so memory grows with N x T: whoever calls
it chooses the pieces.

A detector as an ONNX file, for ONNX Runtime and all that reads ONNX.

A detector as TorchScript: deprecated by torch, and here for phones and C++ programs that know nothing newer.

A trained model to a file that is kept only if it says what the model says.
"""

import copy
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch.export import Dim, ExportedProgram
from torch.onnx import ONNXProgram

from keyframe.data.datamodule import VideoDataModule
from keyframe.data.dataset import VideoDataset
from keyframe.evaluation.metrics import Difference, paired_difference, spearman
from keyframe.export.model import (
    FRAMES,
    SCORES,
    SUFFIXES,
    Card,
    Program,
    card_path,
    load_program,
    onnx_packages,
    versions,
    write_card,
)
from keyframe.files import file_hash
from keyframe.models.detector import KeyframeDetector, count_parameters
from keyframe.runs import Run
from keyframe.timing import in_turns
from keyframe.types import FloatArray, KeyframeError, VideoError

T = TypeVar("T")

# Of a model that sees any number of frames at once.
_MOST_FRAMES = 60


@dataclass(frozen=True)
class Clip:
    """What a model sees of one video at once.

    Attributes:
        video: id.
        frames: uint8 (T, 3, H, W).
        importance: the annotators' mean of each, (T,).
    """

    video: str
    frames: npt.NDArray[np.uint8]
    importance: FloatArray


def read_clips(
    data: VideoDataModule, split: str, most: int, bar: Callable[[Iterable[int], str, int], Iterator[int]]
) -> list[Clip]:
    """Decode a window of each video of a split, by the run's own sampling; what cannot be read is left out.

    Args:
        data: of the run.
        split: `train`, `val` or `test`.
        most: how many videos at most, spread evenly over the split.
        bar: shows progress.

    Raises:
        KeyframeError: none can be read.
    """
    data.prepare_data()
    videos = _spread(data.split_videos(split), most)
    dataset = VideoDataset(split, videos, data.reader, data.sampling, data.size)
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
        raise KeyframeError(f"no video of the {split} split can be read ({reason}): say where they lie with data.root.")
    return clips


def _spread(items: Sequence[T], most: int) -> list[T]:
    """So many of them at most, spread evenly."""
    count = min(most, len(items))
    return [items[(2 * number + 1) * len(items) // (2 * count)] for number in range(count)]


def export_program(
    detector: KeyframeDetector, size: tuple[int, int], dtype: torch.dtype = torch.uint8
) -> ExportedProgram:
    """Trace a detector into a program.

    Args:
        detector: in eval mode.
        size: (height, width) of the frames in pixels.
        dtype: of the frames: uint8, or float32 in [0, 1].

    Returns:
        The program; `torch.export.save` writes it, and `program.module()(frames)` runs it.

    Raises:
        ValueError: the detector is in training mode.
    """
    # two and three, because the exporter takes an example's 1 for a constant, and equal numbers for one
    frames = torch.zeros(2, 3, 3, *size, dtype=dtype, device=detector.pixel_mean.device)
    dynamic = {FRAMES: {0: Dim("videos", min=1), 1: Dim("time", min=1)}}
    with torch.no_grad():
        return torch.export.export(unchunked(detector), (frames,), dynamic_shapes=dynamic, strict=False)


def write_program(program: ExportedProgram, path: Path) -> None:
    """Write a program; `torch.export.load` reads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about how weights that share memory are stored
        torch.export.save(program, path)


def unchunked(detector: KeyframeDetector) -> KeyframeDetector:
    """A detector of the same weights that takes all frames at once: a loop over pieces would fix their number.

    Raises:
        ValueError: the detector is in training mode.
    """
    if detector.training:
        raise ValueError("the detector is in training mode: call eval() first")
    whole = copy.copy(detector)
    whole.chunk = None
    return whole


def onnx_program(program: ExportedProgram, opset: int = 18) -> ONNXProgram:
    """A program as an ONNX model with the input `frames` (N, T, 3, H, W) and the output `scores` (N, T).

    Args:
        program: what `export_program` gave.
        opset: version of ONNX's operators, one of `OPSETS`.

    Returns:
        The model; `write_onnx` writes it.
    """
    with _quiet(), torch.no_grad():
        exported = torch.onnx.export(
            program, dynamo=True, opset_version=opset, input_names=[FRAMES], output_names=[SCORES], verbose=False
        )
    assert exported is not None
    return exported


def write_onnx(model: ONNXProgram, path: Path) -> None:
    """Write a model as one file, over one that is there."""
    model.save(path, external_data=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on its own insides from a user."""
    levels = {log: log.level for log in map(logging.getLogger, ("torch.onnx", "onnxscript", "onnx_ir"))}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for log in levels:
                log.setLevel(logging.ERROR)
            yield
    finally:
        for log, level in levels.items():
            log.setLevel(level)


def write_torchscript(detector: KeyframeDetector, path: Path, size: tuple[int, int]) -> None:
    """Trace a detector and write it, norm layers folded into convolutions; `torch.jit.load` reads it.

    Args:
        detector: in eval mode.
        path: the file.
        size: (height, width) of the frames, uint8, in pixels.

    Raises:
        ValueError: the detector is in training mode.
    """
    frames = torch.zeros(2, 3, 3, *size, dtype=torch.uint8, device=detector.pixel_mean.device)
    with torch.no_grad(), warnings.catch_warnings():
        # that torch.jit is deprecated, and that a check of shapes was followed one way
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(unchunked(detector), (frames,), check_trace=False)
        torch.jit.freeze(traced).save(path)


# How far scores in [0, 1] of a float file may be from the model's own.
PARITY = 1e-4

# Where an export goes from bytes to megabytes.
_MB = 1e6
_TORCH, _ONNX = ("torch", "timm"), ("onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True)
class Exported:
    """A file that was kept.

    Attributes:
        path: the file; its card lies beside it.
        card: what is known of it.
        largest_difference: of its scores to the model's own.
        change: its Spearman less the model's own, over the held-out videos.
    """

    path: Path
    card: Card
    largest_difference: float
    change: Difference


class Exporter:
    """Writes a run's model in several formats.

    Args:
        run: the run, its model on the CPU.
        directory: where the files go.
        split: which the held-out videos are of.
        held_out: what files are checked on.
        calibration: of training videos, for int8; may be empty without it.
        opset: version of ONNX's operators.
    """

    def __init__(
        self,
        run: Run,
        directory: Path,
        split: str,
        held_out: Sequence[Clip],
        calibration: Sequence[Clip] = (),
        opset: int = 18,
    ) -> None:
        self.run, self.directory, self.opset = run, directory, opset
        self.split, self.held_out, self.calibration = split, held_out, calibration
        assert run.frame_shape is not None
        self.size = run.frame_shape[1:]
        self.eager = [self._eager(clip) for clip in held_out]

    def export(self, format: str) -> Exported:
        """Write a file and its card, once its scores are checked.

        Args:
            format: one of `SUFFIXES`.

        Raises:
            KeyframeError: the scores of a float file differ from the model's own, a package is missing, or there is
                nothing to calibrate int8 on.
        """
        path = self.directory / f"{self.run.name.replace('/', '_')}{SUFFIXES[format]}"
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=self.directory) as drafts:
            draft = Path(drafts) / path.name
            making = self._write(format, draft)
            scores = self._scores(load_program(draft, format, torch.get_num_threads()))
            largest = max(float(np.abs(a - b).max()) for a, b in zip(scores, self.eager, strict=True))
            if format != "onnx_int8" and not largest <= PARITY:
                raise KeyframeError(
                    f"{path.name} was not kept: its scores differ from the model's own by up to {largest:.1e}, more "
                    f"than {PARITY:g}; use another format."
                )
            change = self._change(scores)
            card = self._card(format, draft, largest, change, making)
            write_card(draft, card)
            # The card first: a file that is there has its card.
            card_path(draft).replace(card_path(path))
            draft.replace(path)
        return Exported(path, card, largest, change)

    def seconds(self, exported: Sequence[Exported], repeats: int) -> dict[str, list[float]]:
        """Seconds of a window, by format and `eager`, which take turns; one a round."""
        frames = self.held_out[0].frames[None]
        calls: dict[str, Any] = {"eager": partial(self._eager, self.held_out[0])}
        for one in exported:
            calls[one.card.format] = partial(load_program(one.path, one.card.format, torch.get_num_threads()), frames)
        return in_turns(calls, repeats)

    @cached_property
    def _program(self) -> ExportedProgram:
        """What all formats but TorchScript come from."""
        return export_program(self.run.detector, self.size)

    @cached_property
    def _onnx(self) -> ONNXProgram:
        """What both ONNX formats come from."""
        return onnx_program(self._program, self.opset)

    def _write(self, format: str, path: Path) -> dict[str, Any]:
        """Write an unchecked file; what its card says of how."""
        match format:
            case "torchscript":
                write_torchscript(self.run.detector, path, self.size)
                return {}
            case "torch_export":
                write_program(self._program, path)
                return {}
            case "onnx":
                write_onnx(self._onnx, path)
                return {"opset": self.opset}
            case "onnx_int8":
                return self._write_int8(path)
            case _:
                raise ValueError(f"format must be one of {', '.join(SUFFIXES)}, not {format}")

    def _write_int8(self, path: Path) -> dict[str, Any]:
        with onnx_packages():
            from keyframe.export.int8 import METHOD, OF_A_VIDEO, quantize
        if not self.calibration:
            raise KeyframeError("onnx_int8 needs training videos to calibrate on: raise calibration.videos.")
        source = path.with_name("float32.onnx")
        write_onnx(self._onnx, source)
        quantize(source, path, [clip.frames for clip in self.calibration])
        videos = [clip.video for clip in self.calibration]
        frames = sum(min(len(clip.frames), OF_A_VIDEO) for clip in self.calibration)
        return {
            "opset": self.opset,
            "int8": METHOD,
            "calibration": {"split": "train", "videos": videos, "frames": frames},
        }

    @torch.inference_mode()
    def _eager(self, clip: Clip) -> FloatArray:
        scores: FloatArray = self.run.detector(torch.from_numpy(clip.frames)[None])[0].numpy()
        return scores

    def _scores(self, program: Program) -> list[FloatArray]:
        return [program(clip.frames[None])[0] for clip in self.held_out]

    def _change(self, scores: Sequence[FloatArray]) -> Difference:
        own, theirs = (
            [spearman(one, clip.importance) for one, clip in zip(some, self.held_out, strict=True)]
            for some in (self.eager, scores)
        )
        return paired_difference(theirs, own)

    def _card(self, format: str, draft: Path, largest: float, change: Difference, making: Mapping[str, Any]) -> Card:
        run = self.run
        check = {
            "against": "the run's own model, eager, in float32",
            "split": self.split,
            "videos": [clip.video for clip in self.held_out],
            "frames": sum(len(clip.frames) for clip in self.held_out),
            "largest_difference": largest,
            "limit": None if format == "onnx_int8" else PARITY,
            "spearman_change": _or_none(change.value),
            "spearman_change_lo": _or_none(change.lo),
            "spearman_change_hi": _or_none(change.hi),
        }
        return Card(
            format=format,
            sha256=file_hash(draft),
            checkpoint_sha256=file_hash(run.checkpoint),
            backbone=run.name,
            size=self.size,
            window=run.window,
            parameters={
                name: float(count) for name, count in count_parameters(run.detector, run.has_two_stages).items()
            },
            file_mb=draft.stat().st_size / _MB,
            making=making,
            check=check,
            config=run.config,
            versions=versions([*_TORCH, *(_ONNX if format.startswith("onnx") else ())]),
        )


def _or_none(value: float) -> float | None:
    """JSON knows no NaN."""
    return None if np.isnan(value) else value
