"""An ONNX file with its backbone in int8: static quantization by ONNX Runtime, ranges from training videos.

Activations are uint8 with one scale per tensor, weights int8 with one scale per output channel. A tensor's range is the
mean over the videos of the smallest and of the largest value in each: with the extremes of all videos a few large
values make all steps coarse, and scores were a seventh to a quarter further off. These stay float: the backbone's
features and the temporal head, where rounding goes straight into the scores, and the sigmoids of squeeze and
excitation, which cost little and in int8 took .04 of .65 from the Spearman of the demo. The weights of float matrix
products are stored as int8 too.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from keyframe.export.model import FRAMES
from keyframe.types import Float32Array, UInt8Array

# For the card.
METHOD = {
    "activations": "uint8 per tensor, ranges by the mean of the videos' minima and maxima",
    "weights": "int8 per output channel",
    "float": "features, temporal head, sigmoids of squeeze and excitation; the head's weights are stored as int8",
}
# Operators computed in int8, up to the last convolution.
_QUANTIZED = ("Conv", "Add", "Mul", "Sigmoid", "Relu", "Clip", "MaxPool")
FRAMES_PER_VIDEO = 10  # frames of a video that its range is taken from, evenly spread
_SMALL = 2000  # smaller weights stay float: they cost nothing


def quantize(source: Path, path: Path, clips: Sequence[UInt8Array]) -> None:
    """Quantize the float file `source`, of `keyframe.export.write.onnx_program`, with training videos (T, 3, H, W)."""
    prepared = path.with_name("prepared.onnx")
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    logging.disable(logging.INFO)  # ONNX Runtime has a line per channel whose scale it has raised, by the root logger
    try:
        # the head masks with the lowest float, which has no mean; nothing of the head is quantized here
        with np.errstate(over="ignore", invalid="ignore"):
            quantize_static(
                prepared,
                path,
                _Clips(clips),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=list(_QUANTIZED),
                nodes_to_quantize=_quantized_nodes(onnx.load(prepared).graph),
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={"CalibMovingAverage": True},  # the plain mean over the clips
            )
    finally:
        logging.disable(logging.NOTSET)
    model = onnx.load(path)
    _store_weights_as_int8(model.graph)
    onnx.save(model, path)


class _Clips(CalibrationDataReader):
    """Frames of one video after the other."""

    def __init__(self, clips: Sequence[UInt8Array]) -> None:
        places = (np.linspace(0, len(clip) - 1, min(FRAMES_PER_VIDEO, len(clip))).round().astype(int) for clip in clips)
        self._inputs = ({FRAMES: clip[None, spread]} for clip, spread in zip(clips, places, strict=True))

    def get_next(self) -> dict[str, UInt8Array] | None:
        return next(self._inputs, None)


def _quantized_nodes(graph: GraphProto) -> list[str]:
    """Convolutions and the operators between the first and the last one, except the sigmoids of gates."""
    nodes = list(graph.node)
    last = max(place for place, node in enumerate(nodes) if node.op_type == "Conv")
    encoded: set[str] = set()  # outputs that depend on a convolution
    found: list[NodeProto] = []
    for node in nodes[: last + 1]:
        if node.op_type == "Conv" or not encoded.isdisjoint(node.input):
            encoded.update(node.output)
            if node.op_type in _QUANTIZED:
                found.append(node)
    products = [set(node.input) for node in found if node.op_type == "Mul"]
    # x * sigmoid(x) is an activation (SiLU); the sigmoid of x * sigmoid(y) is a gate
    return [node.name for node in found if node.op_type != "Sigmoid" or {node.input[0], node.output[0]} in products]


def _store_weights_as_int8(graph: GraphProto) -> None:
    """Store the weights of float matrix products as int8 with a scale per output channel, in place."""
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    restored: dict[str, NodeProto] = {}
    for node in graph.node:
        tensor = initializers.get(node.input[1]) if node.op_type == "MatMul" else None
        if tensor is None:
            continue
        weights = numpy_helper.to_array(tensor)
        if weights.dtype != np.float32 or weights.ndim != 2 or weights.size < _SMALL:
            continue
        if tensor.name not in restored:
            restored[tensor.name] = _restored(graph, tensor, weights)
        node.input[1] = restored[tensor.name].output[0]
    nodes = [*restored.values(), *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _restored(graph: GraphProto, tensor: TensorProto, weights: Float32Array) -> NodeProto:
    """Replace float weights (in, out) by int8 ones and their scales; returns the node that restores floats."""
    scales = np.maximum(np.abs(weights).max(axis=0) / 127, np.finfo(np.float32).tiny).astype(np.float32)
    parts = [f"{tensor.name}_int8", f"{tensor.name}_scale"]
    graph.initializer.remove(tensor)
    graph.initializer.append(numpy_helper.from_array(np.round(weights / scales).astype(np.int8), parts[0]))
    graph.initializer.append(numpy_helper.from_array(scales, parts[1]))
    return helper.make_node("DequantizeLinear", parts, [f"{tensor.name}_restored"], axis=1)
