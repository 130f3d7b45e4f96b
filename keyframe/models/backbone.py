"""An image backbone: any timm model, cut into a prefix that never trains and a tail that trains in stage 2."""

import hashlib
import logging
from collections.abc import Sequence
from typing import Any, Literal, NoReturn, get_args

import timm
import torch
from timm.data import resolve_model_data_config
from timm.layers import RmsNorm, RmsNorm2d, convert_sync_batchnorm
from torch import Tensor, nn

from keyframe.models.frozen import fold_norms, freeze_norms
from keyframe.models.weights import timm_model
from keyframe.types import KeyframeError, check_number

log = logging.getLogger(__name__)

NormMode = Literal["frozen", "train", "sync"]

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, RmsNorm, RmsNorm2d)


class Backbone(nn.Module):
    """A frame encoder: normalised frames (N, 3, H, W) -> features (N, `width`).

    The timm model is run as `tail(prefix(x))`. The prefix is always frozen, so its output can be cached; the tail
    trains in stage 2 only. Frozen means no gradient, eval mode, and constant BatchNorm statistics.

    Args:
        name: a timm model name.
        pretrained: load ImageNet weights; see `keyframe.models.weights`.
        weights: a local weight file (.safetensors, .pth, .bin) used instead of them.
        prefix: module paths run in this order first, e.g. `[conv_stem, bn1, blocks.0]`.
        tail: module paths run after the prefix, pooling included. If both lists are empty, the whole model is the tail.
        norm: the tail's norm layers in stage 2: `frozen`, `train`, or `sync` (train, with statistics over DDP ranks).
        gradients: `float32`, or `auto`: with frozen norms, on a CPU with AMX, the tail's convolutions compute gradients
            from values rounded to bfloat16, which halves the time of a step; outputs are float32 in any case.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool = True,
        weights: str | None = None,
        prefix: Sequence[str] = (),
        tail: Sequence[str] = (),
        norm: NormMode = "frozen",
        gradients: Literal["auto", "float32"] = "auto",
    ) -> None:
        super().__init__()
        if norm not in get_args(NormMode):
            raise KeyframeError(f"finetune.norm={norm} is none of {', '.join(get_args(NormMode))}.")
        if gradients not in ("auto", "float32"):
            raise KeyframeError(f"finetune.gradients={gradients} is none of auto, float32.")
        self.name = name
        self.norm: NormMode = norm
        self.model: Any = timm_model(name, pretrained, weights).to(memory_format=torch.channels_last)
        # not num_features: some heads (MobileNetV3, VGG) have a hidden layer of another width before the classifier
        self.width: int = self.model.head_hidden_size
        self._prefix = tuple(prefix)
        self._tail = tuple(tail)
        data = resolve_model_data_config(self.model)
        self.mean: tuple[float, ...] = tuple(data["mean"])
        self.std: tuple[float, ...] = tuple(data["std"])
        # (height, width) in pixels; random weights have none
        self.trained_size: tuple[int, int] | None = tuple(data["input_size"][1:]) if pretrained or weights else None
        # a small frame is enough if the model takes any size
        self._check_cut(data["input_size"] if self.model.pretrained_cfg.get("fixed_input_size") else (3, 64, 64))
        if norm == "sync":
            self.model = convert_sync_batchnorm(self.model)  # torch's own would drop the activations inside timm's
        elif norm == "frozen":
            freeze_norms(self.model)
            paths = (*self._prefix, *self._tail)
            parts = [self.model.get_submodule(path) for path in paths] or [self.model]
            fold_norms(parts, gradients == "auto")
        self._tail_trains = True  # DDP must see the tail's parameters as trainable when it wraps the model
        self.train_tail(True)

    def encode_prefix(self, frames: Tensor) -> Tensor:
        """Normalised frames (N, 3, H, W) -> feature maps that training never changes, (N, C, h, w)."""
        return self._run(self._prefix, frames)

    def encode_tail(self, maps: Tensor) -> Tensor:
        """Feature maps of `encode_prefix` -> features (N, `width`)."""
        return self._run(self._tail, maps) if self._tail else self.model(_channels_last(maps))

    def forward(self, frames: Tensor) -> Tensor:
        """Normalised frames (N, 3, H, W) -> features (N, `width`)."""
        return self.encode_tail(self.encode_prefix(frames))

    @property
    def is_cut(self) -> bool:
        """Whether there is a prefix; if not, the whole backbone trains in stage 2."""
        return bool(self._prefix)

    def check_size(self, size: tuple[int, int], key: str) -> None:
        """Warn if frames of this (height, width) in pixels, set by `key`, are far from what its weights saw."""
        trained = self.trained_size
        if trained and not all(usual / 2 <= side <= usual * 2 for side, usual in zip(size, trained, strict=True)):
            log.warning(
                "The weights of %s were trained on frames of %dx%d and see %dx%d: set %s=%d for better features",
                *(self.name, *trained, *size, key, max(trained)),
            )

    def tail_parameters(self) -> list[nn.Parameter]:
        """The parameters that train in stage 2 (those of norm layers only if `norm` lets them)."""
        tails = self._tail_modules()
        frozen: set[int] = set()
        if self.norm == "frozen":
            norms = [module for tail in tails for module in tail.modules() if isinstance(module, _NORMS)]
            frozen = {id(parameter) for norm in norms for parameter in norm.parameters()}
        return [p for tail in tails for p in tail.parameters() if id(p) not in frozen]

    def fingerprint(self, tail: bool) -> str:
        """SHA-256 of all that decides the output of the prefix (`tail`: of prefix and tail), and timm's version."""
        paths = (*self._prefix, *self._tail) if tail and self._tail else self._prefix
        parts = [self.model] if tail and not self._tail else [self.model.get_submodule(path) for path in paths]
        digest = hashlib.sha256(f"{timm.__version__} {self.mean} {self.std} {paths} {parts}".encode())
        for part in parts:
            for name, value in part.state_dict().items():
                digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
                digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def train_tail(self, trains: bool) -> None:
        """Freeze or release the tail: gradients and modes. The prefix stays frozen."""
        self._tail_trains = trains
        self.model.requires_grad_(False)
        for parameter in self.tail_parameters():
            parameter.requires_grad_(trains)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Backbone":
        """Like `nn.Module.train`, but frozen parts stay in eval mode."""
        super().train(mode)
        self.model.eval()
        if mode and self._tail_trains:
            for tail in self._tail_modules():
                for module in tail.modules():
                    if self.norm != "frozen" or not isinstance(module, _NORMS):
                        module.training = True
        return self

    def _tail_modules(self) -> list[nn.Module]:
        return [self.model.get_submodule(path) for path in self._tail] if self._tail else [self.model]

    def _run(self, paths: Sequence[str], x: Tensor) -> Tensor:
        x = _channels_last(x)
        for path in paths:
            x = self.model.get_submodule(path)(x)
        return x

    def _check_cut(self, size: Sequence[int]) -> None:
        """Check that the listed modules, run in order, are the whole model: none left out, none run twice."""
        paths = (*self._prefix, *self._tail)
        if not paths:
            return
        try:
            listed = [id(p) for path in paths for p in self.model.get_submodule(path).parameters()]
        except AttributeError as error:
            raise KeyframeError(
                f"backbone.prefix and backbone.tail name a module that {self.name} does not have ({error})."
            ) from error
        # by parameters too: leaving out a new BatchNorm does not show in the output
        same = sorted(listed) == sorted(id(p) for p in self.model.parameters())
        if same:
            self.model.eval()
            with torch.inference_mode():
                frames = torch.rand(1, *size, generator=torch.Generator().manual_seed(0))
                whole = self.model(frames)
                try:
                    cut = self(frames)
                    same = whole.shape == cut.shape and torch.allclose(whole, cut, rtol=1e-4, atol=1e-7)
                except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):
                    same = False  # one module's output does not fit the next
        if not same:
            raise KeyframeError(
                f"backbone.prefix and backbone.tail, run in order, do not give what {self.name} gives: "
                "list every module on the model's path, pooling included, or neither."
            )


class NoBackbone(nn.Module):
    """Has the interface of `Backbone` and no parameters: the model is given features of `width` channels."""

    name = "features"
    # frames are never normalised, but the detector registers these
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    is_cut = False

    def __init__(self, width: int) -> None:
        super().__init__()
        check_number("data.width", width, 1)
        self.width = width

    def encode_prefix(self, frames: Tensor) -> NoReturn:
        raise KeyframeError(
            "This model has no backbone and scores features only (backbone=none): give it a feature file, or train one "
            "with a backbone on videos."
        )

    def encode_tail(self, maps: Tensor) -> NoReturn:
        self.encode_prefix(maps)

    def tail_parameters(self) -> list[nn.Parameter]:
        return []

    def train_tail(self, trains: bool) -> None:
        """Nothing to freeze or release."""


def _channels_last(x: Tensor) -> Tensor:
    """The fastest layout for convolutions: 1.4 to 1.8 times on a CPU."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
