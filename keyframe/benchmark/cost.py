"""What a cost is measured on: the weights, the input, the machine."""

import platform
from pathlib import Path

import torch
from torch import Tensor, nn

from keyframe.cores import cores

MB = 1e6


def weights_mb(model: nn.Module) -> float:
    """Parameters and buffers in MB (10^6 bytes); what several modules share counts once."""
    tensors = (*model.parameters(), *model.buffers())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / MB


def random_videos(
    count: int, shape: tuple[int, int, int] = (60, 224, 224), device: str | torch.device = "cpu"
) -> Tensor:
    """The same noise at every call, to be scored.

    Args:
        count: videos, N.
        shape: frames a video, height and width: (T, H, W).
        device: where the pixels lie.

    Returns:
        uint8 (N, T, 3, H, W).
    """
    frames, height, width = shape
    generator = torch.Generator(device).manual_seed(0)
    size = (count, frames, 3, height, width)
    return torch.randint(0, 256, size, dtype=torch.uint8, device=device, generator=generator)


def machine() -> dict[str, str]:
    """What the figures were measured on; neither the machine's name nor the user's."""
    return {
        "CPU": _processor(),
        "cores": str(cores()),
        "threads": str(torch.get_num_threads()),
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def _processor() -> str:
    """The processor's trade name; Linux tells it in a file only."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text(encoding="utf-8").splitlines() if table.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
