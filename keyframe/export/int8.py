"""An ONNX file with its backbone in int8: static quantization by ONNX Runtime, ranges from training videos.

Activations are uint8 with one scale a tensor, weights int8 with one scale an output channel. Two things stay float: the
backbone's features and the temporal head, where rounding goes straight into the scores; and the sigmoids of squeeze and
excitation, which cost little and in int8 took .04 of .65 from the Spearman of the demo. The weights of float matrix
products are stored as int8 all the same, and multiplied out when they are used.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from keyframe.export.formats import FRAMES

# For the card.
METHOD = {
    "activations": "uint8 a tensor, ranges by minimum and maximum",
    "weights": "int8 an output channel",
    "float": "features, temporal head, sigmoids of squeeze and excitation; the head's weights are stored as int8",
}
# What is computed in int8, up to the last convolution: convolutions, and what lies between them on large maps.
_QUANTIZED = ("Conv", "Add", "Mul", "Sigmoid", "Relu", "MaxPool")
# Frames calibrated at once, which bounds memory: all intermediate maps are kept.
_AT_ONCE = 10
# Weights below so many numbers stay float: they cost nothing.
_SMALL = 2000


def quantize(source: Path, path: Path, clips: Sequence[npt.NDArray[np.uint8]]) -> None:
    """Quantize an ONNX file of `write_onnx`.

    Args:
        source: the float file.
        path: the new one.
        clips: training videos, (T, 3, H, W) each, at least one.
    """
    prepared = path.with_name("prepared.onnx")
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
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
    )
    model = onnx.load(path)
    _store_weights_as_int8(model.graph)
    onnx.save(model, path)


class _Clips(CalibrationDataReader):
    """Frames in pieces: no map of the backbone depends on how many there are."""

    def __init__(self, clips: Sequence[npt.NDArray[np.uint8]]) -> None:
        self._pieces = self._all(clips)

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        """The next input, None at the end."""
        return next(self._pieces, None)

    @staticmethod
    def _all(clips: Sequence[npt.NDArray[np.uint8]]) -> Iterator[dict[str, npt.NDArray[np.uint8]]]:
        for clip in clips:
            for start in range(0, len(clip), _AT_ONCE):
                yield {FRAMES: clip[None, start : start + _AT_ONCE]}


def _quantized_nodes(graph: GraphProto) -> list[str]:
    """Convolutions and what lies between the first and the last one, but for the sigmoids of gates."""
    nodes = list(graph.node)
    last = max(place for place, node in enumerate(nodes) if node.op_type == "Conv")
    encoded: set[str] = set()  # what convolutions had a part in
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
    """Store the weights of float matrix products as int8 with a scale an output channel, in place."""
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


def _restored(graph: GraphProto, tensor: TensorProto, weights: npt.NDArray[np.float32]) -> NodeProto:
    """Put int8 weights (in, out) and their scales in the place of float ones; the node that gives floats again."""
    scales = np.maximum(np.abs(weights).max(axis=0) / 127, np.finfo(np.float32).tiny).astype(np.float32)
    parts = [f"{tensor.name}_int8", f"{tensor.name}_scale"]
    graph.initializer.remove(tensor)
    graph.initializer.append(numpy_helper.from_array(np.round(weights / scales).astype(np.int8), parts[0]))
    graph.initializer.append(numpy_helper.from_array(scales, parts[1]))
    return helper.make_node("DequantizeLinear", parts, [f"{tensor.name}_restored"], axis=1)
