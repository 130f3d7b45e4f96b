"""A detector as an ONNX file, for ONNX Runtime and all that reads ONNX."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from keyframe.export.formats import FRAMES, SCORES, require_packages
from keyframe.export.program import export_program
from keyframe.models.detector import KeyframeDetector


def export_onnx(
    detector: KeyframeDetector, path: Path, size: tuple[int, int], dtype: torch.dtype = torch.uint8, opset: int = 18
) -> None:
    """Write a detector as an ONNX file with the input `frames` (N, T, 3, H, W) and the output `scores` (N, T).

    Args:
        detector: in eval mode.
        path: the file, written over one that is there.
        size: as of `export_program`.
        dtype: as of `export_program`.
        opset: version of ONNX's operators, one of `OPSETS`.

    Raises:
        KeyframeError: a package of the extra `onnx` is missing.
    """
    require_packages()
    program = export_program(detector, size, dtype)
    with _quiet(), torch.no_grad():
        exported = torch.onnx.export(
            program, dynamo=True, opset_version=opset, input_names=[FRAMES], output_names=[SCORES], verbose=False
        )
    assert exported is not None
    exported.save(path, external_data=False)


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
