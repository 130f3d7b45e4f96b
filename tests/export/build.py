"""Small exported files made by hand, whose scores have a closed form, and changes to their cards."""

import io
import json
import warnings
import zipfile

import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper, save

from keyframe.export.model import Card, card_path, load_exported, write_card
from keyframe.files import file_hash
from keyframe.types import KeyframeError

SIZE = (32, 32)
# Scores of any shape.
ANY_FLOAT = helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)
_AXES = numpy_helper.from_array(np.array([2, 3, 4]), "axes")


def mean(frames):
    """What the files compute: each frame's mean, in [0, 1], float32 (N, T)."""
    return frames.mean((2, 3, 4), dtype=np.float64).astype(np.float32) / 255


def onnx_model(*nodes, tensors=(), functions=(), domains=(), output=ANY_FLOAT) -> ModelProto:
    """An ONNX model whose `nodes` make `scores` of `mean` (N, T); by default they are equal."""
    scale = numpy_helper.from_array(np.float32(255), "scale")
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["float", "axes"], ["sum"], keepdims=0),
            helper.make_node("Div", ["sum", "scale"], ["mean"]),
            *(nodes or [helper.make_node("Identity", ["mean"], ["scores"])]),
        ],
        "mean",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", "T", 3, *SIZE])],
        [output],
        [_AXES, scale, *tensors],
    )
    opsets = [helper.make_opsetid("", 18), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, functions=list(functions), opset_imports=opsets, ir_version=10)


class Mean(torch.nn.Module):
    """`mean` in torch; `change` makes scores of it."""

    def __init__(self, change=lambda scores: scores):
        super().__init__()
        self.change = change

    def forward(self, frames):
        return self.change(frames.float().mean((2, 3, 4)) / 255)


_FRAMES = torch.zeros(2, 3, 3, *SIZE, dtype=torch.uint8)


def write_torchscript(path, change=lambda scores: scores):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(Mean(change), (_FRAMES,), check_trace=False).save(path)


def write_program(path, marker):
    """A torch.export file that, where it is loaded, also makes the file `marker`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shapes = {"frames": {0: torch.export.Dim("N", min=1), 1: torch.export.Dim("T", min=1)}}
        plain, inputs = io.BytesIO(), io.BytesIO()
        torch.export.save(torch.export.export(Mean(), (_FRAMES,), dynamic_shapes=shapes), plain)
    torch.save(_Marker(marker), inputs)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, inputs.getvalue() if name.endswith("sample_inputs/model.pt") else old.read(name))


class _Marker:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return _sample_inputs, (self.path,)


def _sample_inputs(marker):
    marker.touch()
    return (_FRAMES,), {}


def add_card(path, config, format="onnx"):
    """Write the card of a file, of a run with this configuration."""
    values = {"parameters": {"total": 7.0}, "file_mb": 0.1, "making": {}, "check": {}, "versions": {}}
    card = Card(format, file_hash(path), "0" * 64, "resnet50", SIZE, 12, config=config, **values)
    write_card(path, card)
    return card


def save_onnx(path, config, *nodes, **parts):
    """An ONNX file with its card."""
    save(onnx_model(*nodes, **parts), path)
    return add_card(path, config)


def changed(path, **changes):
    """Write the card of a file again with other values; None leaves one out."""
    card = {**json.loads(card_path(path).read_text()), **changes}
    card_path(path).write_text(json.dumps({name: value for name, value in card.items() if value is not None}))


def sentence(path, trust=None):
    """The one sentence with which a file is refused."""
    with pytest.raises(KeyframeError) as error:
        load_exported(path, trust=trust)
    text = str(error.value)
    assert "\n" not in text and text.endswith(".") and len(text) < 600, text
    return text
