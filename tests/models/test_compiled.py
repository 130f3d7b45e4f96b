"""Parts are traced but not turned into machine code, which takes a minute: what could go wrong lies before that."""

import copy
from functools import partial

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch._inductor.exc import InvalidCxxCompiler

from keyframe.models.backbone import Backbone
from keyframe.models.detector import KeyframeDetector, compile_detector
from keyframe.models.head import TemporalHead
from keyframe.types import KeyframeError
from tests.models.build import live


def clip(length):
    return torch.randint(0, 256, (2, length, 3, 32, 32), dtype=torch.uint8)


def test_a_compiled_detector_is_the_detector_in_both_stages_at_any_length():
    torch.manual_seed(0)
    head = partial(TemporalHead, projection=(8, 8), layers=1, heads=2, local_heads=1, feedforward=8, dropout=0.0)
    eager = KeyframeDetector(Backbone("test_efficientnet", pretrained=False), head, chunk=4)
    live(eager.backbone)
    compiled = copy.deepcopy(eager)
    compile_detector(compiled, backend="eager")
    assert compiled.state_dict().keys() == eager.state_dict().keys()
    for stage_2 in (False, True):
        for length in (2, 3, 5):
            frames = clip(length)
            with torch.no_grad():
                torch.testing.assert_close(compiled.eval()(frames), eager.eval()(frames), rtol=0, atol=1e-6)
            for detector in (eager, compiled):
                detector.backbone.train_tail(stage_2)
                detector.zero_grad()
                detector.train()(frames).square().sum().backward()
            for (name, ours), theirs in zip(compiled.named_parameters(), eager.parameters(), strict=True):
                assert (ours.grad is None) == (theirs.grad is None), name
                if ours.grad is not None:
                    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6, msg=name)


def test_the_backbone_is_compiled_once_for_any_number_of_frames():
    counter = CompileCounter()
    detector = KeyframeDetector(Backbone("test_efficientnet", pretrained=False), TemporalHead, chunk=8).eval()
    compile_detector(detector, backend=counter)
    with torch.inference_mode():
        for length in (9, 4, 2):  # together: pieces of 8 and 8 and 2, of 8, and of 4
            detector.encode_tail(detector.encode_prefix(clip(length)))
    assert counter.frame_count == 2  # the prefix and the tail


def test_a_missing_compiler_is_said_before_anything_is_compiled(monkeypatch):
    def none():
        raise InvalidCxxCompiler

    monkeypatch.setattr("keyframe.models.detector.get_cpp_compiler", none)
    with pytest.raises(KeyframeError, match=r"compile=true needs a C\+\+ compiler"):
        compile_detector(KeyframeDetector(Backbone("test_efficientnet", pretrained=False), TemporalHead))
