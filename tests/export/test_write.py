"""Files of a detector score as the detector does."""

from functools import partial

import numpy as np
import pytest
import torch

from keyframe.export.model import load_program
from keyframe.export.write import export_program, onnx_program, write_onnx, write_program, write_torchscript
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


@pytest.mark.full  # three exporters take long
def test_files_score_any_number_of_videos_and_frames_as_the_detector_does(detector, tmp_path):
    program = export_program(detector, SIZE)
    write_program(program, tmp_path / "a.pt2")
    write_onnx(onnx_program(program), tmp_path / "a.onnx")
    write_torchscript(detector, tmp_path / "a.pt", SIZE)
    assert len(list(tmp_path.iterdir())) == 3
    files = {"torch_export": "a.pt2", "onnx": "a.onnx", "torchscript": "a.pt"}
    programs = {format: load_program(tmp_path / file, format, threads=1) for format, file in files.items()}
    rng = np.random.default_rng(0)
    for videos, length in ((1, 1), (1, 9), (3, 2), (2, 70)):
        frames = rng.integers(0, 256, (videos, length, 3, *SIZE), dtype=np.uint8)
        with torch.inference_mode():
            own = detector(torch.from_numpy(frames)).numpy()
        for format, scores in programs.items():
            np.testing.assert_allclose(scores(frames), own, rtol=0, atol=PARITY, err_msg=format)
    assert own.std() > 1e-3  # there is something to be equal to
    assert detector.chunk == 2


def test_a_detector_in_training_mode_is_refused(detector):
    with pytest.raises(ValueError, match="training mode"):
        export_program(detector.train(), SIZE)
    detector.eval()
