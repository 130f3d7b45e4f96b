"""Where a model computes.

Backbone features brought to mean 0 and deviation 1, by statistics of the training videos.

How many frames a backbone encodes at once, where nobody has said it.

The model: pictures of a video in, one importance score a frame out.

How large a model is, and how much of it trains in each stage.

A detector whose backbone and head are compiled by torch.
"""

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler

from keyframe.models.backbone import Backbone, NoBackbone
from keyframe.models.head import TemporalHead
from keyframe.system import available_bytes
from keyframe.types import InputKind, KeyframeError


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


class FeatureStandardizer(nn.Module):
    """Subtracts a mean and divides by a deviation, both buffers that travel in the checkpoint.

    A frozen backbone without ImageNet weights gives features of deviation 1e-5: a LayerNorm's eps erases them.

    Args:
        width: channels of a feature.
    """

    mean: Tensor
    std: Tensor
    fitted: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.register_buffer("fitted", torch.tensor(False))

    @torch.no_grad()
    def set(self, mean: Tensor, std: Tensor) -> None:
        """Set the statistics, (width,) each; a constant channel is centred and left unscaled."""
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-12, std, torch.ones_like(std)))
        self.fitted.fill_(True)

    def forward(self, features: Tensor) -> Tensor:
        """Features (..., width) -> the same shape, float32."""
        return (features.float() - self.mean) / self.std


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
    return available_bytes() if device.type == "cpu" else None


# Behind the prefix a frame is small, and a tail that trains touches all its weights once a chunk.
_MAPS_AT_ONCE = 64


class KeyframeDetector(nn.Module):
    """Scores every frame of a video: `encode_prefix`, `encode_tail`, `score`, in that order.

    Args:
        backbone: the frame encoder, or `NoBackbone` for a model that scores features.
        head: the temporal head; called with the feature width, e.g. a `functools.partial(TemporalHead, ...)`.
        chunk: frames encoded at once, so memory does not grow with the length of a video; `auto` chooses (see
            `keyframe.models.detector`), None encodes all at once. Scores do not depend on it but for rounding.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        backbone: Backbone | NoBackbone,
        head: Callable[..., TemporalHead],
        chunk: int | Literal["auto"] | None = "auto",
    ) -> None:
        super().__init__()
        if not (chunk in ("auto", None) or (isinstance(chunk, int) and chunk >= 1)):
            raise ValueError(f"chunk must be auto or at least 1, not {chunk}")
        self.backbone = backbone
        self.standardizer = FeatureStandardizer(backbone.width)
        self.head: TemporalHead = head(features=backbone.width)
        self.chunk: int | Literal["auto"] | None = chunk
        self.register_buffer("pixel_mean", torch.tensor(backbone.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(backbone.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """Score frames.

        Args:
            frames: (B, T, 3, H, W), uint8, or float in [0, 1]; any T. Normalised in here.
            mask: bool (B, T), True where a frame is real; None means all are.

        Returns:
            Scores in [0, 1], float32 (B, T); 0 where the mask is False.
        """
        return self.enter("pixels", frames, mask)

    def enter(self, kind: InputKind, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scores (B, T) from what a batch holds: pixels, the prefix's maps, or features."""
        return self.score(self.encode(kind, values), mask)

    def encode(self, kind: InputKind, values: Tensor) -> Tensor:
        """Backbone features (B, T, width) from what a batch holds: the part of the line that is still ahead."""
        if kind == "features":
            return values
        if kind == "prefix":
            return self.encode_tail(values)
        if torch.is_grad_enabled():
            return self.encode_tail(self.encode_prefix(values))  # the graph keeps every frame's maps in any case
        # prefix and tail a chunk at a time: the maps of a whole batch of videos are large
        return self._by_frame(
            lambda pictures: self.backbone.encode_tail(self.backbone.encode_prefix(self.normalize(pictures))),
            _checked(values),
            self._pictures_at_once(values),
        )

    def encode_prefix(self, frames: Tensor) -> Tensor:
        """Frames (B, T, 3, H, W), uint8 or float in [0, 1] -> maps (B, T, C, h, w) that never change in training."""
        with torch.no_grad():
            return self._by_frame(
                lambda pictures: self.backbone.encode_prefix(self.normalize(pictures)),
                _checked(frames),
                self._pictures_at_once(frames),
            )

    def encode_tail(self, maps: Tensor) -> Tensor:
        """Maps of `encode_prefix` (B, T, ...) -> backbone features (B, T, width)."""
        return self._by_frame(
            lambda chunk: self.backbone.encode_tail(chunk.to(self.pixel_mean.dtype)),
            maps,
            # without a prefix the maps are pictures still
            _MAPS_AT_ONCE if self.chunk == "auto" and self.backbone.is_cut else self._pictures_at_once(maps),
        )

    def score(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Backbone features (B, T, width) -> scores in [0, 1], (B, T)."""
        return self.head(self.standardizer(features), mask)

    def embed(self, features: Tensor) -> Tensor:
        """Backbone features (B, T, width) -> embeddings (B, T, W): each frame by itself, before the look along time."""
        return self.head.projection(self.standardizer(features))

    def normalize(self, frames: Tensor) -> Tensor:
        """Frames (N, 3, H, W), uint8 or float in [0, 1] -> floats with the backbone's mean and deviation taken out."""
        pictures = frames.to(self.pixel_mean.dtype, memory_format=torch.channels_last)
        if not frames.is_floating_point():
            pictures = pictures.div_(255)  # in place: it is a copy
        return torch.addcmul(-self.pixel_mean / self.pixel_std, pictures, 1 / self.pixel_std)

    def _pictures_at_once(self, frames: Tensor) -> int | None:
        if self.chunk == "auto":
            return choose_chunk(frames.shape[-2], frames.shape[-1], frames.device)
        return self.chunk

    def _by_frame(self, encode: Callable[[Tensor], Tensor], values: Tensor, chunk: int | None) -> Tensor:
        """Encode (B, T, ...) by so many frames at once, or all; without a batch's shape between the two."""
        frames = values.flatten(0, 1)
        encoded = encode(frames) if chunk is None else torch.cat([encode(part) for part in frames.split(chunk)])
        return encoded.unflatten(0, values.shape[:2])


def _checked(frames: Tensor) -> Tensor:
    if frames.ndim != 5 or frames.shape[2] != 3:
        raise ValueError(f"frames must be (B, T, 3, H, W), not {tuple(frames.shape)}")
    return frames


def sizes(detector: KeyframeDetector, two_stages: bool = True) -> dict[str, int]:
    """Parameter counts: `backbone`, `total`, `trainable_stage1`, `trainable_stage2` (0 where there is no stage 2)."""
    head = _count(detector.head.parameters())
    tail = _count(detector.backbone.tail_parameters())
    return {
        "backbone": _count(detector.backbone.parameters()),
        "total": _count(detector.parameters()),
        "trainable_stage1": head,
        "trainable_stage2": head + tail if two_stages and tail else 0,
    }


def size_table(name: str, counts: dict[str, int]) -> str:
    """The counts as lines of text, in millions."""
    rows = (
        ("backbone", "backbone"),
        ("total", "total"),
        ("trainable, stage 1", "trainable_stage1"),
        ("trainable, stage 2", "trainable_stage2"),
    )
    lines = [f"{'parameters':<20}{name:>18}"]
    lines += [f"{label:<20}{counts[key] / 1e6:>16.2f} M" for label, key in rows]
    return "\n".join(lines)


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


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
