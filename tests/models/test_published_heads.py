"""Heads of published systems give what their authors' code gives, and leave for other software where they can."""

import math
import warnings

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.export import Dim

from keyframe.models.published_heads import CSTA, MLP, PGLSUM, VASNet, VsLSTM
from keyframe.types import KeyframeError
from tests.models.build import PUBLISHED, make_head

# Scores of the first two and the last two frames of `video`, of 24 and of 47 frames, by the authors' own code with the
# weights of `filled`, float32: github.com/ok1zjf/VASNet, e-apostolidis/PGL-SUM, thswodnjs3/CSTA; and for vsLSTM the
# scores of dppLSTM in kezhang-cs/Video-Summarization-with-LSTM, by numpy, with the sigmoid that we add.
AUTHORS = {
    VASNet: ([0.45436, 0.438981, 0.09687, 0.238191], [0.421125, 0.442263, 0.036442, 0.573123]),
    PGLSUM: ([0.399209, 0.537326, 0.493374, 0.580614], [0.392117, 0.54936, 0.825378, 0.778808]),
    VsLSTM: ([0.237059, 0.382998, 0.206372, 0.189153], [0.236338, 0.380598, 0.189548, 0.346532]),
    CSTA: ([0.571767, 0.889245, 0.841173, 0.645571], [0.641861, 0.81141, 0.582977, 0.35824]),
}


def filled(head):
    """The head with weights of numpy's oldest generator, whose numbers never change, in the order of its state."""
    draws = np.random.RandomState(0)
    for name, value in head.state_dict().items():
        if not value.is_floating_point():
            continue
        drawn = torch.from_numpy(draws.standard_normal(tuple(value.shape))).float()
        if value.ndim > 1:
            drawn *= math.sqrt(2 / value[0].numel())
        elif name.endswith("running_var"):
            drawn = drawn.abs() + 0.5
        else:
            drawn = drawn * 0.1 + name.endswith("weight")  # of norm layers
        value.copy_(drawn)
    return head.eval()


def video(length):
    return torch.from_numpy(np.random.RandomState(1).standard_normal((1, length, 1024))).float()


@pytest.mark.parametrize("kind", AUTHORS, ids=lambda kind: kind.__name__)
@torch.inference_mode()
def test_scores_are_those_of_the_authors_code(kind):
    head = filled(kind(1024))
    assert isinstance(head.projection, nn.Identity)
    if kind is VsLSTM:  # the authors' code has one set of weights for both directions
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            getattr(head.lstm, f"{name}_reverse").copy_(getattr(head.lstm, name))
    for length, expected in zip((24, 47), AUTHORS[kind], strict=True):
        scores = head(video(length))[0]
        torch.testing.assert_close(scores[[0, 1, -2, -1]], torch.tensor(expected), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_an_mlp_sees_its_window_of_frames_side_by_side():
    torch.manual_seed(0)
    head, features = make_head("mlp", features=3), torch.randn(1, 6, 3)
    padded = torch.cat([torch.zeros(2, 3), features[0], torch.zeros(2, 3)])
    weight = head.first.weight.permute(0, 2, 1).flatten(1)  # of (out, in, window): frame by frame
    for frame in range(6):
        hidden = torch.sigmoid(weight @ padded[frame : frame + 5].flatten() + head.first.bias)
        hidden = torch.sigmoid(head.rest[1](hidden))
        torch.testing.assert_close(head(features)[0, frame], torch.sigmoid(head.rest[3](hidden))[0])


class Together(nn.Module):
    def __init__(self, *kinds):
        super().__init__()
        self.heads = nn.ModuleList(make_head(kind) for kind in kinds)

    def forward(self, features):
        return torch.stack([head(features) for head in self.heads])


def videos_of_any_length():
    for count, length in ((1, 1), (3, 2), (2, 9), (2, 70)):
        yield torch.from_numpy(np.random.RandomState(2).standard_normal((count, length, 12))).float()


@pytest.mark.full
@torch.inference_mode()
def test_heads_without_recurrence_and_convolution_over_all_frames_leave_as_onnx(tmp_path):
    torch.manual_seed(0)
    heads = Together("vasnet", "pgl_sum", "mlp").eval()
    dynamic = {"features": {0: Dim("videos", min=1), 1: Dim("time", min=1)}}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(heads, (torch.zeros(2, 3, 12),), dynamic_shapes=dynamic, strict=False)
        torch.onnx.export(program, dynamo=True, verbose=False).save(tmp_path / "heads.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "heads.onnx")
    for features in videos_of_any_length():
        (scores,) = session.run(None, {session.get_inputs()[0].name: features.numpy()})
        np.testing.assert_allclose(scores, heads(features).numpy(), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_all_heads_leave_as_torchscript():
    heads = Together()
    heads.heads.extend(filled(make_head(kind)) for kind in PUBLISHED)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(heads.eval(), (torch.zeros(2, 3, 12),), check_trace=False)
    for features in videos_of_any_length():
        torch.testing.assert_close(traced(features), heads(features), rtol=0, atol=1e-5)


def test_settings_that_do_not_fit_are_refused():
    for head, words in (
        (lambda: PGLSUM(8, width=20), r"head\.width=20 must be a multiple of head\.heads=8"),
        (lambda: PGLSUM(8, segments=0), r"head\.segments=0 must be"),
        (lambda: MLP(8, window=4), r"head\.window=4 must be odd"),
        (lambda: MLP(8, hidden=(8, 0)), r"head\.hidden=0 must be"),
        (lambda: VsLSTM(8, hidden=0), r"head\.hidden=0 must be"),
        (lambda: VASNet(8, width=0), r"head\.width=0 must be"),
    ):
        with pytest.raises(KeyframeError, match=words):
            head()
