import sys
from functools import partial

import pytest
import torch

from keyframe.errors import KeyframeError
from keyframe.export import export_onnx, export_program, largest_difference, load_onnx
from keyframe.models.backbone import Backbone
from keyframe.models.detector import KeyframeDetector
from keyframe.models.head import TemporalHead
from tests.models.build import live

SIZE = (32, 48)
# The parity that the requirements ask of fp32.
PARITY = 1e-4


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    head = partial(TemporalHead, projection=(16, 16), layers=1, heads=4, local_heads=2, feedforward=16)
    detector = KeyframeDetector(Backbone("test_efficientnet", pretrained=False), head, chunk=2)
    live(detector.backbone)
    return detector.eval()


def clip(videos, length, dtype=torch.uint8):
    frames = torch.randint(0, 256, (videos, length, 3, *SIZE), dtype=torch.uint8)
    return frames if dtype == torch.uint8 else frames.to(dtype) / 255


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_program_scores_any_number_of_videos_and_frames_as_the_detector_does(detector, dtype, tmp_path):
    torch.export.save(export_program(detector, SIZE, dtype), tmp_path / "program.pt2")
    program = torch.export.load(tmp_path / "program.pt2").module()
    for videos, length in ((1, 1), (1, 9), (3, 2), (2, 70)):
        frames = clip(videos, length, dtype)
        assert program(frames).shape == (videos, length)
        assert largest_difference(program, detector, frames) < PARITY
    assert detector.chunk == 2


def test_an_onnx_file_scores_any_number_of_videos_and_frames_as_the_detector_does(detector, tmp_path):
    path = tmp_path / "new" / "model.onnx"
    export_onnx(detector, path, SIZE)
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    scores = load_onnx(path, threads=1)
    for videos, length in ((1, 1), (1, 9), (3, 2), (2, 70)):
        assert scores(clip(videos, length)).shape == (videos, length)
        assert largest_difference(scores, detector, clip(videos, length)) < PARITY
    assert detector(clip(1, 9)).std() > 1e-3  # there is something to be equal to


def test_a_detector_in_training_mode_is_refused(detector):
    with pytest.raises(ValueError, match="training mode"):
        export_program(detector.train(), SIZE)
    detector.eval()


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_is_named_with_what_installs_it(detector, package, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(KeyframeError, match=rf"{package}.*pip install 'keyframe\[onnx\]'"):
        export_onnx(detector, tmp_path / "model.onnx", SIZE)
