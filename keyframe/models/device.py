"""Where a model computes."""

import torch

from keyframe.errors import KeyframeError


def find_device(name: str) -> torch.device:
    """The device of a name; of "auto" a GPU where there is one, else the CPU.

    Raises:
        KeyframeError: it is not on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise KeyframeError(f"device={name} is not on this machine: use device=auto or device=cpu.") from error
