"""Files of a detector score as the detector does."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from keyframe.export.model import load_program
from keyframe.export.write import (
    Exporter,
    export_program,
    onnx_program,
    write_program,
    write_torchscript,
)
from keyframe.models.backbone import Backbone
from keyframe.models.detector import KeyframeDetector
from keyframe.models.head import TemporalHead
from keyframe.pipeline import TrainedModel
from keyframe.types import KeyframeError
from tests.models.build import live

SIZE = (32, 48)
# The parity that the requirements ask of fp32.
PARITY = 1e-4


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    head = partial(TemporalHead, projection=(16, 16), layers=1, heads=4, local_heads=2, similarity=(5, None))
    detector = KeyframeDetector(Backbone("test_efficientnet", pretrained=False), head, chunk=2)
    live(detector.backbone)
    return detector.eval()


@pytest.mark.full  # three exporters take long
def test_files_score_any_number_of_videos_and_frames_as_the_detector_does(detector, tmp_path):
    program = export_program(detector, SIZE)
    write_program(program, tmp_path / "a.pt2")
    onnx_program(program).save(tmp_path / "a.onnx", external_data=False)
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


class LSTMHead(nn.Module):
    """Steps through the frames one after the other, which torch.export only takes of a fixed number."""

    def __init__(self, features):
        super().__init__()
        self.lstm, self.score = nn.LSTM(features, 2, batch_first=True), nn.Linear(2, 1)

    def forward(self, features, mask):
        return self.score(self.lstm(features)[0])[..., 0].sigmoid()


@pytest.mark.full  # tracing takes seconds
@pytest.mark.filterwarnings("ignore:The tensor attributes")
def test_a_model_that_torch_cannot_export_is_refused_in_one_sentence(tmp_path):
    detector = KeyframeDetector(Backbone("test_efficientnet", pretrained=False), LSTMHead).eval()
    exporter = Exporter(TrainedModel(detector, SIZE), {}, {}, tmp_path, None, "test", [], [], 18)
    with pytest.raises(KeyframeError) as error:
        exporter.export("torch_export")
    assert "test_efficientnet.pt2 was not written: torch_export cannot hold this model (" in str(error.value)
    assert str(error.value).endswith("; use another format, such as torchscript.") and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_detector_in_training_mode_is_refused(detector):
    with pytest.raises(ValueError, match="training mode"):
        export_program(detector.train(), SIZE)
    detector.eval()
