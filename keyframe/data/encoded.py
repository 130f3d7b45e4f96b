"""What is kept of one video so that it need not be opened again, and the file it is kept in."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

# Another format is another file: entries of an older version are not found, and age out.
FORMAT = "keyframe-encoded-1"


@dataclass(frozen=True, eq=False)
class Encoded:
    """T frames of one video, as pictures or as what a part of the model makes of them. Labels are not in it.

    Attributes:
        inputs: (T, ...); pictures are uint8 (T, 3, H, W).
        indices: number of each frame in presentation order, int64 (T,).
        seconds: time of each frame since the first frame of the video, float64 (T,).
        n_frames: of the video.
        duration: of the video in seconds.
    """

    inputs: Tensor
    indices: Tensor
    seconds: Tensor
    n_frames: int
    duration: float

    @property
    def nbytes(self) -> int:
        """Size of its arrays."""
        return self.inputs.nbytes + self.indices.nbytes + self.seconds.nbytes


def to_bytes(key: str, encoded: Encoded) -> bytes:
    """The content of a file of safetensors (numbers only, no code) that knows its key and its checksum."""
    tensors = {
        "inputs": encoded.inputs.contiguous(),
        "indices": encoded.indices,
        "seconds": encoded.seconds,
        "n_frames": torch.tensor(encoded.n_frames),
        "duration": torch.tensor(encoded.duration, dtype=torch.float64),
    }
    return safetensors.torch.save(tensors, {"format": FORMAT, "key": key, "crc32": _checksum(tensors)})


def read_encoded(path: Path, key: str) -> Encoded | None:
    """What `to_bytes` has put into a file, mapped into memory rather than read; it outlives the file's removal.

    Returns:
        None where there is no such file, or it is torn, damaged, of another key, or no such file at all.
    """
    try:
        with safe_open(path, framework="pt") as file:
            stated = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict
    except (OSError, SafetensorError, RuntimeError):
        return None
    if stated != {"format": FORMAT, "key": key, "crc32": _checksum(tensors)}:
        return None
    n_frames, duration = int(tensors.pop("n_frames")), float(tensors.pop("duration"))
    return Encoded(n_frames=n_frames, duration=duration, **tensors)


def _checksum(tensors: dict[str, Tensor]) -> str:
    """Of names, types, shapes and values."""
    total = 0
    for name, tensor in sorted(tensors.items()):
        total = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.flatten().view(torch.uint8).numpy().data, total)
    return f"{total:08x}"
