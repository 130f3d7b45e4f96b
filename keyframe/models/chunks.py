"""How many frames a backbone encodes at once, where nobody has said it."""

import torch

from keyframe import memory

# Four frames of 224x224 a thread. With more of them EfficientNet-B0's early layers leave the caches: a frame takes 1.3
# times as long with 8 at once, 1.6 with 16 or 32; ResNet50 takes the same. Smaller pictures want more of them at once.
_PIXELS_A_THREAD = 4 * 224 * 224
_MOST = 64
# A GPU is full with this many frames of 224x224.
_PIXELS_ON_GPU = 256 * 224 * 224
# What encoding takes at most a pixel, in bytes, of the networks at hand; and the part of the free memory to be taken.
_BYTES_A_PIXEL = 800
_SHARE = 0.25


def choose_chunk(height: int, width: int, device: torch.device) -> int:
    """The number of pictures to encode at once: what is fastest, halved until it fits into the free memory.

    The first is a matter of the picture's size, the kind of device and, on a CPU, the number of threads alone, so that
    equal runs on a machine take equal chunks unless its memory is nearly full.

    Args:
        height: of a picture in pixels.
        width: of a picture in pixels.
        device: where the backbone computes.

    Returns:
        1 or more.
    """
    pixels = height * width
    if device.type == "cuda":
        chunk = _PIXELS_ON_GPU // pixels
    else:
        chunk = min(_PIXELS_A_THREAD * torch.get_num_threads() // pixels, _MOST)
    chunk = max(chunk, 1)
    free = free_bytes(device)
    while chunk > 1 and free is not None and chunk * pixels * _BYTES_A_PIXEL > _SHARE * free:
        chunk //= 2
    return chunk


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free for tensors on a device, in bytes; None where the system does not tell."""
    if device.type == "cuda":
        # what torch has reserved and not handed out is free to us, and to nobody else
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return memory.free_bytes() if device.type == "cpu" else None
