"""A detector as one program that other software runs: torch.export and ONNX, frames in, scores out.

Videos N and frames T are dynamic. Height and width are those the model was trained with: scores of other sizes mean
little, and fixed ones run faster. A program takes what it is given at once, so memory grows with N x T: whoever calls
it chooses the pieces.
"""

import copy
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from keyframe.errors import KeyframeError
from keyframe.models.detector import KeyframeDetector

# The name of the input and the output.
FRAMES, SCORES = "frames", "scores"


def export_program(
    detector: KeyframeDetector, size: tuple[int, int], dtype: torch.dtype = torch.uint8
) -> ExportedProgram:
    """Trace a detector into a program of plain tensor operations.

    Args:
        detector: in eval mode.
        size: (height, width) of the frames in pixels.
        dtype: of the frames: uint8, or float32 in [0, 1].

    Returns:
        The program; `torch.export.save` writes it, and `program.module()(frames)` runs it.

    Raises:
        ValueError: the detector is in training mode.
    """
    if detector.training:
        raise ValueError("the detector is in training mode: call eval() first")
    whole = copy.copy(detector)  # the same weights
    whole.chunk = None  # a loop over pieces would fix their number
    # two and three, because the exporter takes an example's 1 for a constant, and equal numbers for one
    frames = torch.zeros(2, 3, 3, *size, dtype=dtype, device=detector.pixel_mean.device)
    dynamic = {FRAMES: {0: Dim("videos", min=1), 1: Dim("time", min=1)}}
    with torch.no_grad():
        return torch.export.export(whole, (frames,), dynamic_shapes=dynamic, strict=False)


def export_onnx(
    detector: KeyframeDetector, path: Path, size: tuple[int, int], dtype: torch.dtype = torch.uint8, opset: int = 18
) -> None:
    """Write a detector as an ONNX file with the input `frames` (N, T, 3, H, W) and the output `scores` (N, T).

    Args:
        detector: in eval mode.
        path: the file; it appears whole or not at all, over one that is there.
        size: as of `export_program`.
        dtype: as of `export_program`.
        opset: version of ONNX's operators.

    Raises:
        KeyframeError: the packages of the extra `onnx` are missing.
    """
    with _onnx_packages():
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    program = export_program(detector, size, dtype)
    with _quiet(), torch.no_grad():
        exported = torch.onnx.export(
            program, dynamo=True, opset_version=opset, input_names=[FRAMES], output_names=[SCORES], verbose=False
        )
    assert exported is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as drafts:
        draft = Path(drafts) / path.name
        exported.save(draft, external_data=False)
        draft.replace(path)


def load_onnx(path: Path, threads: int = 0) -> Callable[[Tensor], Tensor]:
    """What an ONNX file computes, by ONNX Runtime on the CPU.

    Args:
        path: a file of `export_onnx`.
        threads: of one call; 0 for as many as there are cores.

    Returns:
        Frames (N, T, 3, H, W) -> scores (N, T).

    Raises:
        KeyframeError: ONNX Runtime is missing.
    """
    with _onnx_packages():
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    return lambda frames: torch.from_numpy(session.run([SCORES], {FRAMES: frames.numpy()})[0])


def largest_difference(
    exported: Callable[[Tensor], Tensor], detector: Callable[[Tensor], Tensor], frames: Tensor
) -> float:
    """How far the scores of an exported program are from the detector's own, at most, on the same frames."""
    with torch.inference_mode():
        return float((exported(frames) - detector(frames)).abs().max())


@contextmanager
def _onnx_packages() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise KeyframeError(f"ONNX needs the package {error.name}: pip install 'keyframe[onnx]'.") from error


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
