"""A detector whose backbone and head are compiled by torch."""

import torch
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler

from keyframe.errors import KeyframeError
from keyframe.models.detector import KeyframeDetector


def compile_detector(detector: KeyframeDetector, backend: str = "inductor") -> None:
    """Let torch compile the parts of a detector at their first call, in place.

    Weights, their names and checkpoints stay what they are. A part is compiled anew for another size of pictures, for a
    first and a second number of frames (then for any), and when its tail begins to train.

    Args:
        detector: on its device.
        backend: as of `torch.compile`.

    Raises:
        KeyframeError: there is no C++ compiler, which `inductor` needs.
    """
    if backend == "inductor":
        try:
            get_cpp_compiler()
        except InvalidCxxCompiler as error:
            raise KeyframeError(
                "compile=true needs a C++ compiler (g++ or clang) that is not on this machine: install one, or leave "
                "compile out."
            ) from error
    for part in ("encode_prefix", "encode_tail"):
        setattr(detector.backbone, part, torch.compile(getattr(detector.backbone, part), backend=backend))
    detector.head.compile(backend=backend)
