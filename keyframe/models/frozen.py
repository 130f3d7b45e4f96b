"""What constant norms allow: fewer passes over a network's maps and faster gradients, or one call per convolution."""

import copy
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d, Conv2dSame, is_notrace_module
from timm.layers.padding import pad_same
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` with constant statistics and affine map: a scale and a shift per channel.

    PyTorch's backward of a BatchNorm in eval mode takes a quarter of the training time of EfficientNet-B0's tail; a
    product's is cheap, and none is needed where the convolution before it has taken in the norm. Results agree to
    rounding.
    """

    folded = False  # whether a `FoldedConv2d` does this norm's work

    def forward(self, x: Tensor) -> Tensor:
        return _constant_norm(self, x) if _is_constant(self) else super().forward(x)


class FrozenBatchNormAct2d(BatchNormAct2d):
    """timm's BatchNorm with an activation, its statistics and affine map constant as in `FrozenBatchNorm2d`."""

    folded = False

    def forward(self, x: Tensor) -> Tensor:
        if not _is_constant(self):
            return super().forward(x)
        x = self.drop(_constant_norm(self, x))
        # in place, autograd would first copy what the gradient of SiLU needs
        return F.silu(x) if isinstance(self.act, nn.SiLU) and torch.is_grad_enabled() else self.act(x)


class FoldedConv2d(nn.Conv2d):
    """`nn.Conv2d` that takes in the frozen norm behind it, except in an exported program, which has both."""

    norms: tuple[FrozenBatchNorm2d | FrozenBatchNormAct2d]  # in a tuple, so that it is no part of this module
    bfloat16_gradients: bool  # whether gradients on a CPU are products of bfloat16

    def forward(self, x: Tensor) -> Tensor:
        (norm,) = self.norms
        if not _is_constant(norm):
            return super().forward(x)
        scale, shift = _scale_and_shift(norm)
        weight = self.weight * scale.view(-1, 1, 1, 1)
        if self.bias is not None:
            shift = shift + self.bias * scale
        # a depthwise convolution gains nothing
        if (
            self.bfloat16_gradients
            and self.groups == 1
            and x.device.type == "cpu"
            and not torch.is_autocast_enabled("cpu")
        ):
            return _Bfloat16Gradient.apply(x, weight, shift, self.stride, self.padding, self.dilation)
        return self._conv_forward(x, weight, shift)


class _Bfloat16Gradient(torch.autograd.Function):
    """A float32 convolution whose gradients are products of bfloat16, summed in float32; its bias is constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, *geometry: Any) -> Tensor:
        ctx.save_for_backward(x.bfloat16() if ctx.needs_input_grad[1] else None, weight)
        ctx.geometry = geometry
        return F.conv2d(x, weight, bias, *geometry)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        to_x, to_weight = ctx.needs_input_grad[:2]
        stride, padding, dilation = ctx.geometry
        grad, rounded = grads[0].bfloat16(), weight.bfloat16()
        x_grad = weight_grad = None
        if weight.shape[2:] == (1, 1) and set(stride) == {1} and set(padding) == {0}:
            # a product of matrices, which is two to four times as fast as the convolution's own gradient
            pixels = grad.movedim(1, 3)
            if to_x:
                x_grad = (pixels @ rounded.flatten(1)).movedim(3, 1)
            if to_weight:
                weight_grad = (pixels.flatten(0, 2).t() @ x.movedim(1, 3).flatten(0, 2)).view_as(weight)
        else:
            x_grad, weight_grad, _ = torch.ops.aten.convolution_backward(
                grad, x, rounded, None, stride, padding, dilation, False, [0, 0], 1, [to_x, to_weight, False]
            )
        return *(None if each is None else each.float() for each in (x_grad, weight_grad)), None, None, None, None


class _SumPool(nn.AdaptiveAvgPool2d):
    """The mean over a map; PyTorch's own writes its gradient in another layout, which slows all that follows."""

    def forward(self, x: Tensor) -> Tensor:
        return _mean(x) if self.output_size in (1, (1, 1)) and torch.is_grad_enabled() else super().forward(x)


class _SumSqueezeExcite(SqueezeExcite):
    """timm's squeeze and excitation, with the mean of `_SumPool`."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return super().forward(x)
        return x * self.gate(self.conv_expand(self.act1(self.conv_reduce(_mean(x)))))


def _mean(x: Tensor) -> Tensor:
    return x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3])


_SUMMED = {nn.AdaptiveAvgPool2d: _SumPool, SqueezeExcite: _SumSqueezeExcite}
_FROZEN = {nn.BatchNorm2d: FrozenBatchNorm2d, BatchNormAct2d: FrozenBatchNormAct2d}


def freeze_norms(module: nn.Module) -> None:
    """Turn the BatchNorms of a module into frozen ones; parameters, buffers, their names and modes stay."""
    for norm in module.modules():
        frozen = _FROZEN.get(type(norm))
        if frozen is not None and norm.weight is not None and norm.running_mean is not None:
            norm.__class__ = frozen


_TRACING = threading.Lock()


class ConvolutionTracer(fx.Tracer):
    """Takes convolutions and norms as they are; other threads may compute meanwhile."""

    def trace(self, root: nn.Module | Callable[..., Any], concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        with _TRACING:  # torch changes, for the time of a trace, how every module is called
            self._thread = threading.get_ident()
            return super().trace(root, concrete_args)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != self._thread:  # another model of another thread
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        whole = isinstance(m, nn.Conv2d | nn.BatchNorm2d) or is_notrace_module(type(m))
        return whole or super().is_leaf_module(m, module_qualified_name)


def fold_norms(modules: Sequence[nn.Module], bfloat16: bool) -> None:
    """Let convolutions take in the frozen norm that alone gets their output, in modules that run in order.

    With `bfloat16` their gradients are products of bfloat16, on a CPU that multiplies those in hardware (AMX).
    """
    chain = nn.Sequential(*modules)
    for module in chain.modules():
        module.__class__ = _SUMMED.get(type(module), type(module))
    try:
        calls = [node for node in ConvolutionTracer().trace(chain).nodes if node.op == "call_module"]
    except Exception:  # whatever a network does that cannot be traced; it keeps its norms
        return
    times = Counter(node.target for node in calls)
    for node in calls:
        norm, before = chain.get_submodule(node.target), node.args[0]
        if not isinstance(norm, FrozenBatchNorm2d | FrozenBatchNormAct2d) or before.op != "call_module":
            continue
        conv = chain.get_submodule(before.target)
        plain = type(conv) is nn.Conv2d and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
        if plain and len(before.users) == times[node.target] == times[before.target] == 1:
            conv.__class__ = FoldedConv2d
            vars(conv).update(norms=(norm,), bfloat16_gradients=bfloat16 and torch.cpu._is_amx_tile_supported())
            norm.folded = True


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The norm's affine map in eval mode, (channels,) each."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def _constant_norm(norm: FrozenBatchNorm2d | FrozenBatchNormAct2d, x: Tensor) -> Tensor:
    """The norm's output in eval mode."""
    if norm.folded:
        return x
    scale, shift = _scale_and_shift(norm)
    # under autocast x has 16 bits, and so must the output
    return torch.addcmul(shift.view(1, -1, 1, 1), x, scale.view(1, -1, 1, 1)).to(x.dtype)


def _is_constant(norm: FrozenBatchNorm2d | FrozenBatchNormAct2d) -> bool:
    """Whether the norm's output is computed by `_constant_norm`; PyTorch's own is as fast without gradients."""
    if norm.training or torch.compiler.is_exporting() or torch.jit.is_tracing():
        return False
    return norm.folded or torch.is_grad_enabled()


# Networks that train no more: on a CPU a convolution computes the norm and activation behind it

_CONVOLUTIONS = nn.Conv2d, FoldedConv2d, Conv2dSame
# Activations that oneDNN computes with a convolution: its names and numbers.
_ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.Identity: ("none", []),
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.SiLU: ("swish", []),
    nn.Hardswish: ("hardswish", []),
}
_LAYOUTS = 2  # weights are laid out for a number of frames: that of a chunk, and that of a last one


def fuse_convolutions(model: nn.Module) -> fx.GraphModule:
    """A copy of a model in eval mode, for a CPU, whose convolutions compute the norms and activations behind them."""
    model = copy.deepcopy(model)
    graph = ConvolutionTracer().trace(model)
    fused = fx.GraphModule(model, graph)

    def module_of(node: fx.Node) -> Any:
        return fused.get_submodule(str(node.target)) if node.op == "call_module" else None

    for node in graph.nodes:
        conv = module_of(node)
        if type(conv) not in _CONVOLUTIONS or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            continue
        norm, activation = None, nn.Identity()
        while len(node.users) == 1 and type(activation) is nn.Identity:
            (user,) = node.users
            module = module_of(user)
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
