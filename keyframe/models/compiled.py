"""A detector whose backbone and head are compiled by torch."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler

from keyframe.errors import KeyframeError
from keyframe.models.detector import KeyframeDetector


def compile_detector(detector: KeyframeDetector, backend: str = "inductor") -> None:
    """Let torch compile the parts of a detector at their first call, in place.

    Weights, their names and checkpoints stay what they are. The backbone is compiled once for any number of frames from
    two on, and anew for another size of pictures and when its tail begins to train; the head for a first and a second
    length of videos (then for any).

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
        compiled = torch.compile(getattr(detector.backbone, part), backend=backend)
        setattr(detector.backbone, part, _for_any_number(compiled))
    detector.head.compile(backend=backend)


def _for_any_number(encode: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A compiled function of (N, ...) whose first call settles no N: the last frames of a video are often fewer."""

    def run(frames: Tensor) -> Tensor:
        torch._dynamo.maybe_mark_dynamic(frames, 0)
        return encode(frames)

    return run
