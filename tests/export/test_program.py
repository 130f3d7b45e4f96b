import sys
from functools import partial

import numpy as np
import pytest
import torch

from keyframe.export.model import load_program, require_packages
from keyframe.export.write import export_program, onnx_program, write_onnx, write_program, write_torchscript
from keyframe.models.backbone import Backbone
from keyframe.models.detector import KeyframeDetector
from keyframe.models.head import TemporalHead
from keyframe.types import KeyframeError
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


def write(detector, format, path):
    if format == "torchscript":
        write_torchscript(detector, path, SIZE)
    elif format == "torch_export":
        write_program(export_program(detector, SIZE), path)
    else:
        write_onnx(onnx_program(export_program(detector, SIZE)), path)


@pytest.mark.parametrize("format", ["torchscript", "torch_export", "onnx"])
def test_a_file_scores_any_number_of_videos_and_frames_as_the_detector_does(detector, format, tmp_path):
    path = tmp_path / {"torchscript": "a.pt", "torch_export": "a.pt2", "onnx": "a.onnx"}[format]
    write(detector, format, path)
    assert list(tmp_path.iterdir()) == [path]
    program = load_program(path, format, threads=1)
    rng = np.random.default_rng(0)
    for videos, length in ((1, 1), (1, 9), (3, 2), (2, 70)):
        frames = rng.integers(0, 256, (videos, length, 3, *SIZE), dtype=np.uint8)
        with torch.inference_mode():
            own = detector(torch.from_numpy(frames)).numpy()
        np.testing.assert_allclose(program(frames), own, rtol=0, atol=PARITY)
    assert own.std() > 1e-3  # there is something to be equal to
    assert detector.chunk == 2


def test_a_program_takes_floats(detector):
    frames = torch.rand(1, 9, 3, *SIZE)
    program = export_program(detector, SIZE, torch.float32).module()
    with torch.inference_mode():
        torch.testing.assert_close(program(frames), detector(frames), rtol=0, atol=PARITY)


def test_a_detector_in_training_mode_is_refused(detector):
    with pytest.raises(ValueError, match="training mode"):
        export_program(detector.train(), SIZE)
    detector.eval()


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_what_installs_it(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(KeyframeError, match=rf"{package}.*pip install 'keyframe\[onnx\]'"):
        require_packages()


@pytest.mark.parametrize("format", ["torchscript", "torch_export", "onnx"])
def test_a_damaged_file_is_refused(format, tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"not a model at all")
    with pytest.raises(KeyframeError, match=r"model cannot be loaded .*export the model again"):
        load_program(path, format)
