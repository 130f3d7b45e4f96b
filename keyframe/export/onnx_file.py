"""A detector as an ONNX file, for ONNX Runtime and all that reads ONNX."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.export import ExportedProgram

from keyframe.export.formats import FRAMES, SCORES


def write_onnx(program: ExportedProgram, path: Path, opset: int = 18) -> None:
    """Write a program as an ONNX file with the input `frames` (N, T, 3, H, W) and the output `scores` (N, T).

    Args:
        program: what `export_program` gave.
        path: the file, written over one that is there.
        opset: version of ONNX's operators, one of `OPSETS`.
    """
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
