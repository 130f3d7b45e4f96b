"""A detector as an ONNX file, for ONNX Runtime and all that reads ONNX."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.export import ExportedProgram
from torch.onnx import ONNXProgram

from keyframe.export.formats import FRAMES, SCORES


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
