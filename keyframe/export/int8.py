"""An ONNX file with its backbone in int8: static quantization by ONNX Runtime, ranges from training videos.

Activations are uint8 with one scale a tensor, weights int8 with one scale an output channel. The last stage of the
backbone, whose small maps are pooled into features, and the temporal head compute in float: rounding there reaches the
scores, and there is little to compute. Their weights are int8 all the same, and are multiplied out when they are used.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, TensorShapeProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from keyframe.export.formats import FRAMES

# For the card.
METHOD = {
    "activations": "uint8 a tensor, ranges by minimum and maximum",
    "weights": "int8 an output channel",
    "float": "the backbone's last stage and the temporal head, their weights stored as int8",
}
# Frames calibrated at once, which bounds memory: all intermediate maps are kept.
_AT_ONCE = 10
# Weights below so many numbers stay float: they cost nothing, and norm layers are among them.
_SMALL = 2000


def quantize(source: Path, path: Path, clips: Sequence[npt.NDArray[np.uint8]]) -> None:
    """Quantize an ONNX file of `export_onnx`.

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
        nodes_to_exclude=_float_nodes(onnx.load(prepared)),
        calibrate_method=CalibrationMethod.MinMax,
    )
    model = onnx.load(path)
    _store_weights_as_int8(model)
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


def _float_nodes(model: ModelProto) -> list[str]:
    """The nodes from the backbone's last stage on: those whose maps are as small as the last convolution's."""
    sizes = {value.name: _map_size(value.type.tensor_type.shape) for value in model.graph.value_info}
    nodes = list(model.graph.node)
    convolutions = [place for place, node in enumerate(nodes) if node.op_type == "Conv"]
    last = sizes[nodes[convolutions[-1]].output[0]]
    first = next(place for place in convolutions if sizes[nodes[place].output[0]] == last)
    return [node.name for node in nodes[first:]]


def _map_size(shape: TensorShapeProto) -> tuple[int, ...]:
    """Height and width of maps (N, C, H, W)."""
    return tuple(dimension.dim_value for dimension in shape.dim[2:])


def _store_weights_as_int8(model: ModelProto) -> None:
    """Store the weights that are still float as int8 with a scale an output channel, in place."""
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    restored: dict[str, NodeProto] = {}
    for node in model.graph.node:
        tensor = initializers.get(node.input[1]) if node.op_type in ("Conv", "MatMul") else None
        if tensor is None:
            continue
        weights = numpy_helper.to_array(tensor)
        if weights.dtype != np.float32 or weights.size < _SMALL:
            continue
        axis = 0 if node.op_type == "Conv" else weights.ndim - 1
        if tensor.name not in restored:
            restored[tensor.name] = _restored(model, tensor, weights, axis)
        node.input[1] = restored[tensor.name].output[0]
    nodes = [*restored.values(), *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _restored(model: ModelProto, tensor: TensorProto, weights: npt.NDArray[np.float32], axis: int) -> NodeProto:
    """Put int8 weights and their scales in the place of float ones; the node that gives floats again."""
    others = tuple(place for place in range(weights.ndim) if place != axis)
    scales = np.maximum(np.abs(weights).max(axis=others, keepdims=True) / 127, np.finfo(np.float32).tiny)
    whole = np.round(weights / scales).astype(np.int8)
    parts = [f"{tensor.name}_int8", f"{tensor.name}_scale"]
    model.graph.initializer.remove(tensor)
    model.graph.initializer.append(numpy_helper.from_array(whole, parts[0]))
    model.graph.initializer.append(numpy_helper.from_array(scales.ravel().astype(np.float32), parts[1]))
    return helper.make_node("DequantizeLinear", parts, [f"{tensor.name}_restored"], axis=axis)
