"""An exported file as a function of frames."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from keyframe.errors import KeyframeError
from keyframe.export.formats import FRAMES, SCORES, onnx_packages

# Frames uint8 (N, T, 3, H, W) -> scores float32 (N, T).
Program = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


def load_program(path: Path, format: str, threads: int = 0) -> Program:
    """What an exported file computes, on the CPU.

    An ONNX file is data. The others are programs that torch unpickles and runs: a file from somebody else can do
    anything that its user can.

    Args:
        path: the file.
        format: one of `keyframe.export.formats.SUFFIXES`.
        threads: that it computes with; 0 leaves it to the library.

    Raises:
        KeyframeError: ONNX Runtime is missing, or the file is damaged.
    """
    if format in ("onnx", "onnx_int8"):
        return load_onnx(path, threads)
    import torch

    if threads:
        torch.set_num_threads(threads)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated, which keyframe-export has told
            model = torch.jit.load(path) if format == "torchscript" else torch.export.load(path).module()
    except Exception as error:  # of a damaged file torch raises whatever its bytes lead to
        raise _unreadable(path, error) from error

    @torch.inference_mode()
    def program(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        scores: npt.NDArray[np.float32] = model(torch.from_numpy(frames)).numpy()
        return scores

    return program


def load_onnx(path: Path, threads: int = 0) -> Program:
    """What an ONNX file computes, by ONNX Runtime on the CPU; no torch is needed.

    Raises:
        KeyframeError: as `load_program`.
    """
    with onnx_packages():
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # remarks on shapes that it cannot infer
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own classes, one a status
        raise _unreadable(path, error) from error

    def program(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        scores: npt.NDArray[np.float32] = session.run([SCORES], {FRAMES: frames})[0]
        return scores

    return program


def _unreadable(path: Path, error: Exception) -> KeyframeError:
    reason = " ".join(str(error).split())[:200]
    return KeyframeError(f"{path} cannot be loaded ({type(error).__name__}: {reason}): export the model again.")
