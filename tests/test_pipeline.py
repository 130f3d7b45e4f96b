import re

import numpy as np
import pytest
import torch

from keyframe.data.decord_reader import DecordReader
from keyframe.data.packets import index_packets
from keyframe.data.sampling import UniformSampling
from keyframe.pipeline import TrainedModel
from keyframe.runs import load_detector
from keyframe.training.stages import TwoStage
from keyframe.types import KeyframeError
from tests.training.tiny import make_datamodule, make_module, make_trainer

MODEL = {
    "_target_": "keyframe.models.detector.KeyframeDetector",
    "backbone": {
        "_target_": "keyframe.models.backbone.Backbone",
        "name": "efficientnet_b0",
        "pretrained": True,  # must not be looked for when a trained model is loaded
        "weights": "gone.safetensors",
        "prefix": ["conv_stem", "bn1", *(f"blocks.{number}" for number in range(6))],
        "tail": ["blocks.6", "conv_head", "bn2", "global_pool"],
    },
    "head": {
        "_target_": "keyframe.models.head.TemporalHead",
        "_partial_": True,
        "projection": [32, 32],
        "layers": 1,
        "heads": 4,
        "local_heads": 2,
        "feedforward": 32,
    },
}


@pytest.fixture(scope="module")
def trained(tiny_demo, tmp_path_factory):
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("run")
    module = make_module("efficientnet_b0")
    module.save_hyperparameters({"model": MODEL})
    datamodule = make_datamodule(tiny_demo)
    trainer = make_trainer(directory, 2, [TwoStage(switch_epoch=1)])
    trainer.fit(module, datamodule)
    (directory / "checkpoints").mkdir()
    trainer.save_checkpoint(directory / "checkpoints" / "best.ckpt")
    trainer.test(module, datamodule, verbose=False)
    return directory, module, datamodule


def test_a_loaded_model_gives_the_scores_that_were_tested(trained):
    directory, module, datamodule = trained
    model = TrainedModel(load_detector(directory), (32, 32), window=12)
    for video in datamodule.datasets["test"].videos:
        index = index_packets(video.path)
        scores = model.score_frames(index, UniformSampling(12).indices(index), DecordReader())
        np.testing.assert_allclose(scores, module.predictions[video.id].scores, atol=1e-5)


@pytest.mark.parametrize("target", ["os.system", "keyframe.models.backbone.urllib.request.urlopen"])
def test_a_checkpoint_builds_nothing_but_our_models(trained, tmp_path, target):
    directory, _, _ = trained
    checkpoint = torch.load(directory / "checkpoints" / "best.ckpt", weights_only=True)
    checkpoint["hyper_parameters"]["model"]["head"]["_target_"] = target
    path = tmp_path / "strange.ckpt"
    torch.save(checkpoint, path)
    with pytest.raises(KeyframeError, match=re.escape(target)):
        load_detector(path)


def test_no_checkpoint(tmp_path):
    with pytest.raises(KeyframeError, match="no checkpoint"):
        load_detector(tmp_path)
