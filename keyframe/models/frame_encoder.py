"""Frames to backbone features as fast as a CPU can: convolutions compute the norms and activations behind them."""

import copy
import threading
from typing import Any, Literal

import torch
from timm.layers import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from keyframe.models.backbone import Backbone
from keyframe.models.detector import KeyframeDetector, choose_chunk
from keyframe.models.frozen import ConvolutionTracer, FoldedConv2d

_CONVOLUTIONS = nn.Conv2d, FoldedConv2d, Conv2dSame
# Activations that oneDNN computes with a convolution: its names and numbers.
_ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.Identity: ("none", []),
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.SiLU: ("swish", []),
    nn.Hardswish: ("hardswish", []),
}
# Weights are laid out for a number of frames: that of a chunk, and that of a last one.
_LAYOUTS = 2
# The largest difference of features from the detector's own, relative to the largest feature.
_ROUNDING = 1e-3


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
        with self._lock, torch.inference_mode():
            return self._encode(frames)

    def _encode(self, frames: Tensor) -> Tensor:
        device = self.detector.pixel_mean.device
        if device.type == "cpu" and self._fused == "untried":
            self._fused = self._fuse(frames[:1])
        if device.type == "cpu" and isinstance(self._fused, nn.Module):
            most = self.detector.chunk
            most = choose_chunk(frames.shape[-2], frames.shape[-1], device) if most == "auto" else most or len(frames)
            parts = frames.tensor_split(-(-len(frames) // most))
            return torch.cat([self._fused(self.detector.normalize(part).to(self._dtype)).float() for part in parts])
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


def fuse_convolutions(model: nn.Module) -> fx.GraphModule:
    """A copy of a model in eval mode, for a CPU, whose convolutions compute the norms and activations behind them."""
    model = copy.deepcopy(model)
    graph = ConvolutionTracer().trace(model)
    fused = fx.GraphModule(model, graph)
    for node in graph.nodes:
        conv = _module_of(fused, node)
        if type(conv) not in _CONVOLUTIONS or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            continue
        norm, activation = None, nn.Identity()
        while len(node.users) == 1 and type(activation) is nn.Identity:
            (user,) = node.users
            module = _module_of(fused, user)
            after = getattr(module, "act", nn.Identity()) if isinstance(module, nn.BatchNorm2d) else module
            if type(after) not in _ACTIVATIONS:
                break
            if isinstance(module, nn.BatchNorm2d):
                if norm is not None or module.running_mean is None:
                    break
                norm = module
            activation = after
            user.replace_all_uses_with(node)
            graph.erase_node(user)
        fused.set_submodule(str(node.target), _FusedConv(conv, norm, activation))
    fused.delete_all_unused_submodules()
    fused.recompile()
    return fused


def _module_of(model: nn.Module, node: fx.Node) -> Any:
    """The module that a node of a graph calls, if any."""
    return model.get_submodule(str(node.target)) if node.op == "call_module" else None


class _FusedConv(nn.Module):
    """A convolution, the frozen norm and the activation behind it as one call of oneDNN."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None, activation: nn.Module) -> None:
        super().__init__()
        weight, bias = conv.weight, conv.bias
        if norm is not None:
            assert norm.running_mean is not None and norm.running_var is not None
            mean, variance = norm.running_mean, norm.running_var
            weight, bias = fuse_conv_bn_weights(weight, bias, mean, variance, norm.eps, norm.weight, norm.bias)
        self.register_buffer("weight", weight.detach())
        self.register_buffer("bias", None if bias is None else bias.detach())
        window = [list(sides) for sides in (conv.kernel_size, conv.stride, conv.dilation)]
        self._window = window if isinstance(conv, Conv2dSame) else None
        self._conv = conv.padding, conv.stride, conv.dilation, conv.groups
        self._activation = _ACTIVATIONS[type(activation)]
        self._packed: dict[tuple[torch.Size, torch.dtype], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if self._window is not None:
            kernel, stride, dilation = self._window
            x = pad_same(x, kernel, stride, dilation)
        key = x.shape, x.dtype
        weight = self._packed.get(key)
        if weight is None:
            if len(self._packed) >= _LAYOUTS:
                self._packed = {}
            weight = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *self._conv, x.shape)
            self._packed[key] = weight
        return torch.ops.mkldnn._convolution_pointwise(x, weight, self.bias, *self._conv, *self._activation, "")
