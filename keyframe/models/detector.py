"""The model: frames of a video in, one importance score per frame out."""

import threading
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler

from keyframe.models.backbone import Backbone, NoBackbone
from keyframe.models.frozen import fuse_convolutions
from keyframe.models.head import TemporalHead, build_head
from keyframe.system import available_bytes
from keyframe.types import InputKind, KeyframeError

# Four frames of 224x224 per thread. With more of them EfficientNet-B0's early layers leave the caches: a frame takes
# 1.3 times as long in chunks of 8, 1.6 times in chunks of 16 or 32; ResNet50 takes the same.
_PIXELS_PER_THREAD = 4 * 224 * 224
_MOST_FRAMES = 64
_PIXELS_ON_GPU = 256 * 224 * 224  # 256 frames of 224x224 keep a GPU busy
# Bytes per pixel that encoding takes at most, with the networks of conf/backbone; and the usable share of free memory.
_BYTES_PER_PIXEL = 800
_MEMORY_SHARE = 0.25
_ROUNDING = 1e-3  # the largest difference of features of fused convolutions, relative to the largest feature
# Chunk of prefix maps: they are small, and a tail that trains touches all its weights once per chunk.
_MAPS_AT_ONCE = 64


class FeatureStandardizer(nn.Module):
    """Subtracts a mean and divides by a deviation, both buffers (width,) that travel in the checkpoint.

    A frozen backbone without ImageNet weights gives features of deviation 1e-5: a LayerNorm's eps erases them.
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


class KeyframeDetector(nn.Module):
    """Scores every frame of a video: `encode_prefix`, `encode_tail`, `score`, in that order.

    Args:
        backbone: the frame encoder, or `NoBackbone` for a model that scores features.
        head: called with the feature width, e.g. a `functools.partial(TemporalHead, ...)`; see `build_head`.
        chunk: frames encoded at once, so memory does not grow with the length of a video; `auto` calls `choose_chunk`,
            None encodes all at once. Scores depend on it only by rounding.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        backbone: Backbone | NoBackbone,
        head: Callable[..., nn.Module],
        chunk: int | Literal["auto"] | None = "auto",
    ) -> None:
        super().__init__()
        if not (chunk in ("auto", None) or (isinstance(chunk, int) and chunk >= 1)):
            raise ValueError(f"chunk must be auto, null or a whole number from 1 on, not {chunk}")
        self.backbone = backbone
        self.standardizer = FeatureStandardizer(backbone.width)
        self.head = build_head(head, backbone.width)
        self.chunk: int | Literal["auto"] | None = chunk
        self.register_buffer("pixel_mean", torch.tensor(backbone.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(backbone.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """Score frames (B, T, 3, H, W), uint8 or float in [0, 1], any T: scores in [0, 1], float32 (B, T).

        `mask`, bool (B, T), is True where a frame is real (None: all are); elsewhere scores are 0.
        """
        return self.enter("pixels", frames, mask)

    def enter(self, kind: InputKind, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scores (B, T) of a batch's inputs: pixels, prefix maps, or features."""
        return self.score(self.encode(kind, values), mask)

    def encode(self, kind: InputKind, values: Tensor) -> Tensor:
        """Backbone features (B, T, width) of a batch's inputs: runs what is left of the backbone."""
        if kind == "features":
            return values
        if kind == "prefix":
            return self.encode_tail(values)
        if torch.is_grad_enabled():
            return self.encode_tail(self.encode_prefix(values))  # the graph keeps every frame's maps in any case
        # prefix and tail chunk by chunk: the maps of a whole batch of videos are large
        return self._encode_frames(lambda chunk: self.backbone.encode_tail(self.backbone.encode_prefix(chunk)), values)

    def encode_prefix(self, frames: Tensor) -> Tensor:
        """Frames (B, T, 3, H, W), uint8 or float in [0, 1] -> maps (B, T, C, h, w) that training never changes."""
        with torch.no_grad():
            return self._encode_frames(self.backbone.encode_prefix, frames)

    def encode_tail(self, maps: Tensor) -> Tensor:
        """Maps of `encode_prefix` (B, T, ...) -> backbone features (B, T, width)."""
        # without a prefix the maps are still frames
        chunk = _MAPS_AT_ONCE if self.chunk == "auto" and self.backbone.is_cut else self.frames_at_once(maps)
        return _by_frame(lambda some: self.backbone.encode_tail(some.to(self.pixel_mean.dtype)), maps, chunk)

    def score(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Backbone features (B, T, width) -> scores in [0, 1], (B, T)."""
        return self.head(self.standardizer(features), mask)

    def embed(self, features: Tensor) -> Tensor:
        """Backbone features (B, T, width) -> embeddings (B, T, W) of each frame alone, before attention."""
        projection = getattr(self.head, "projection", None)
        if projection is None:
            raise KeyframeError(
                f"head: {type(self.head).__name__} has no `projection`, which gives the embeddings that a teacher "
                "compares: add distillation.hint_weight=0 distillation.weight=0.5."
            )
        return projection(self.standardizer(features))

    def normalize(self, frames: Tensor) -> Tensor:
        """Frames (N, 3, H, W), uint8 or float in [0, 1] -> float, less the backbone's mean, over its deviation."""
        pixels = frames.to(self.pixel_mean.dtype, memory_format=torch.channels_last)
        if not frames.is_floating_point():
            pixels = pixels.div_(255)  # in place: it is a copy
        return torch.addcmul(-self.pixel_mean / self.pixel_std, pixels, 1 / self.pixel_std)

    def frames_at_once(self, frames: Tensor) -> int | None:
        """How many frames (..., H, W) are encoded at once; None for all."""
        if self.chunk == "auto":
            return choose_chunk(frames.shape[-2], frames.shape[-1], frames.device)
        return self.chunk

    def _encode_frames(self, encode: Callable[[Tensor], Tensor], frames: Tensor) -> Tensor:
        """Encode frames (B, T, 3, H, W), normalised, chunk by chunk."""
        if frames.ndim != 5 or frames.shape[2] != 3:
            raise ValueError(f"frames must be (B, T, 3, H, W), not {tuple(frames.shape)}")
        return _by_frame(lambda chunk: encode(self.normalize(chunk)), frames, self.frames_at_once(frames))


def _by_frame(encode: Callable[[Tensor], Tensor], values: Tensor, chunk: int | None) -> Tensor:
    """Encode values (B, T, ...) in chunks of so many frames, or all at once if None."""
    frames = values.flatten(0, 1)
    encoded = encode(frames) if chunk is None else torch.cat([encode(part) for part in frames.split(chunk)])
    return encoded.unflatten(0, values.shape[:2])


class FrameEncoder:
    """Encodes frames by the backbone of a detector in eval mode, whose weights stay as they are.

    On a CPU each convolution computes the norm and activation behind it. Features agree with the detector's to
    rounding; where they would not, and on other devices, the detector encodes.
    """

    def __init__(self, detector: KeyframeDetector, bf16: bool = False) -> None:
        self.detector = detector
        self._dtype = torch.bfloat16 if bf16 else torch.float32
        self._lock = threading.Lock()
        self._fused: nn.Module | Literal["untried"] | None = "untried"

    def __call__(self, frames: Tensor) -> Tensor:
        """RGB frames, uint8 (n, 3, H, W), n >= 1 -> features (n, width), float32, on the detector's device.

        Threads that decode take turns: a call uses all cores by itself.
        """
        device = self.detector.pixel_mean.device
        with self._lock, torch.inference_mode():
            if device.type == "cpu" and self._fused == "untried":
                self._fused = self._fuse(frames[:1])
            if device.type == "cpu" and isinstance(self._fused, nn.Module):
                parts = frames.tensor_split(-(-len(frames) // (self.detector.frames_at_once(frames) or len(frames))))
                normalized = (self.detector.normalize(part).to(self._dtype) for part in parts)
                return torch.cat([self._fused(part).float() for part in normalized])
            with torch.autocast(device.type, torch.bfloat16, enabled=self._dtype == torch.bfloat16):
                return self.detector.encode("pixels", frames.to(device)[None])[0].float()

    def _fuse(self, frame: Tensor) -> nn.Module | None:
        """The backbone with fused convolutions, if it has the detector's features of a frame (1, 3, H, W)."""
        backbone, normalized = self.detector.backbone, self.detector.normalize(frame)
        if not isinstance(backbone, Backbone):
            return None
        try:
            fused = fuse_convolutions(backbone.model)
            ours, own = fused(normalized), self.detector.encode("pixels", frame[None])[0]
            fused.to(self._dtype)(normalized.to(self._dtype))
        except Exception:  # torch cannot trace every model, and not every machine has oneDNN or its bfloat16
            return None
        return fused if (ours - own).abs().max() <= _ROUNDING * own.abs().max() else None


def choose_chunk(height: int, width: int, device: torch.device) -> int:
    """The fastest number of frames (height, width in pixels) to encode at once, halved until it fits into free memory.

    Equal runs on a machine use equal chunks unless its memory is nearly full.
    """
    pixels = height * width
    on_cpu = min(_PIXELS_PER_THREAD * torch.get_num_threads() // pixels, _MOST_FRAMES)
    chunk = max(1, _PIXELS_ON_GPU // pixels if device.type == "cuda" else on_cpu)
    free = _free_memory(device)
    while chunk > 1 and free is not None and chunk * pixels * _BYTES_PER_PIXEL > _MEMORY_SHARE * free:
        chunk //= 2
    return chunk


def _free_memory(device: torch.device) -> int | None:
    """Bytes that are free for tensors on a device; None if unknown."""
    if device.type == "cuda":
        # what torch has reserved and does not use is free for us
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return available_bytes() if device.type == "cpu" else None


def untrained_detector(backbone: str, pretrained: bool = False) -> KeyframeDetector:
    """A detector of a timm backbone, in eval mode, whose head has learnt nothing; `pretrained`: of ImageNet weights."""
    return KeyframeDetector(Backbone(backbone, pretrained=pretrained), TemporalHead).eval()


def find_device(name: str) -> torch.device:
    """The device of a name that torch knows; "auto" is a GPU if there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise KeyframeError(f"device={name} is not available here: use device=auto or device=cpu.") from error


def count_parameters(detector: KeyframeDetector, two_stages: bool = True) -> dict[str, int]:
    """Numbers of parameters: `backbone`, `total`, `trainable_stage1`, `trainable_stage2` (0 without a stage 2)."""

    def count(parameters: Iterable[nn.Parameter]) -> int:
        return sum(parameter.numel() for parameter in parameters)

    head, tail = count(detector.head.parameters()), count(detector.backbone.tail_parameters())
    return {
        "backbone": count(detector.backbone.parameters()),
        "total": count(detector.parameters()),
        "trainable_stage1": head,
        "trainable_stage2": head + tail if two_stages and tail else 0,
    }


def parameter_table(name: str, counts: dict[str, int]) -> str:
    """The counts of `count_parameters` as lines of text, in millions."""
    lines = [f"{'parameters':<20}{name:>18}"]
    for key, count in counts.items():
        lines.append(f"{key.replace('_stage', ', stage '):<20}{count / 1e6:>16.2f} M")
    return "\n".join(lines)


def compile_detector(detector: KeyframeDetector, backend: str = "inductor") -> None:
    """Have torch compile the parts of a detector on its device at their first call; weights and checkpoints stay.

    The backbone is compiled once for any number of frames from two on, and again for another frame size and when its
    tail starts to train; the head is compiled for the first and the second length of videos, then for any.
    """
    if backend == "inductor":
        try:
            get_cpp_compiler()
        except InvalidCxxCompiler as error:
            raise KeyframeError(
                "compile=true needs a C++ compiler (g++ or clang), not found here: install one, or leave compile out."
            ) from error

    def compiled(part: str) -> Callable[[Tensor], Tensor]:
        encode = torch.compile(getattr(detector.backbone, part), backend=backend)

        def run(frames: Tensor) -> Tensor:
            torch._dynamo.maybe_mark_dynamic(frames, 0)  # a video's last chunk is often smaller
            return encode(frames)

        return run

    for part in ("encode_prefix", "encode_tail"):
        setattr(detector.backbone, part, compiled(part))
    detector.head.compile(backend=backend)
