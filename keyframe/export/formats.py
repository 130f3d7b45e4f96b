"""The formats a model is exported in, and how their files are told apart."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keyframe.errors import KeyframeError

# By format, the end of the file's name.
SUFFIXES = {
    "torchscript": ".torchscript.pt",
    "torch_export": ".pt2",
    "onnx": ".onnx",
    "onnx_int8": ".int8.onnx",
}
# Versions of ONNX's operators that torch's exporter and ONNX Runtime both know.
OPSETS = range(18, 24)
# The input and the output of a program.
FRAMES, SCORES = "frames", "scores"


def is_exported(path: str | Path) -> bool:
    """Whether a model's file is one that was exported, by its name; a checkpoint ends otherwise."""
    return Path(path).suffix in (".pt", ".pt2", ".onnx")


@contextmanager
def onnx_packages() -> Iterator[None]:
    """Around imports of the extra `onnx`.

    Raises:
        KeyframeError: one of its packages is missing.
    """
    try:
        yield
    except ImportError as error:
        raise KeyframeError(f"ONNX needs the package {error.name}: pip install 'keyframe[onnx]'.") from error


def require_packages() -> None:
    """See that ONNX files can be written and run.

    Raises:
        KeyframeError: a package of the extra `onnx` is missing.
    """
    with onnx_packages():
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
