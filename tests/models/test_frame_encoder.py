import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import torch
from torch import nn

from keyframe.models.backbone import Backbone
from keyframe.models.detector import FrameEncoder
from keyframe.models.frozen import fuse_convolutions
from tests.models.build import CUT, make_backbone, make_detector


def pixels(count, size=64):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def ready(backbone, **options):
    """A detector with norms that matter, whose head tells frames apart, in eval mode."""
    for norm in backbone.modules():
        if isinstance(norm, nn.BatchNorm2d):
            # not those of `live`: in that network a change in the last bit grows ten thousandfold
            norm.running_mean.normal_(0, 0.1)
            for scale in (norm.running_var, norm.weight.data):
                scale.uniform_(0.5, 1.5)
            norm.bias.data.normal_(0, 0.1)
    detector = make_detector(backbone, **options).eval()
    with torch.no_grad():
        features = detector.encode("pixels", pixels(8)[None])[0]
    detector.standardizer.set(features.mean(0), features.std(0))
    return detector


def apart(some, others):
    return float((some - others).abs().max() / others.abs().max())


@pytest.mark.parametrize("name", CUT)
def test_a_frame_has_the_features_and_the_score_that_the_detector_gives(name):
    torch.manual_seed(0)
    detector = ready(make_backbone(name), chunk=3)
    weights = {key: value.clone() for key, value in detector.state_dict().items()}
    encode = FrameEncoder(detector)
    with torch.inference_mode():
        for frames in (pixels(5), pixels(1), pixels(2, 48)):  # chunks of 3 and 2, of 1, and of another size
            features, own = encode(frames), detector.encode("pixels", frames[None])[0]
            assert isinstance(encode._fused, nn.Module)
            assert apart(features, own) < 1e-5
            torch.testing.assert_close(detector.score(features[None]), detector.score(own[None]), rtol=0, atol=1e-4)
    assert all(torch.equal(value, weights[key]) for key, value in detector.state_dict().items())


@pytest.mark.parametrize("name", CUT)
def test_no_norm_is_left(name):
    fused = fuse_convolutions(make_backbone(name).eval().model)
    assert not [part for part in fused.modules() if isinstance(part, nn.BatchNorm2d | nn.Conv2d)]


class Odd(nn.Module):
    """A part that torch cannot trace."""

    def forward(self, x):
        return x.relu() if x.sum() > 0 else x


def test_other_backbones_encode_as_the_detector_does():
    torch.manual_seed(0)
    norms_first = Backbone("resnetv2_18", pretrained=False)
    odd = Backbone("resnet10t", pretrained=False)
    odd.model.act1 = Odd()
    for backbone in (norms_first, odd):
        detector, frames = ready(backbone), pixels(3)
        with torch.inference_mode():
            own = detector.encode("pixels", frames[None])[0]
        assert apart(FrameEncoder(detector)(frames), own) < 1e-4


def test_bfloat16_is_near():
    torch.manual_seed(0)
    detector, frames = ready(make_backbone("mobilenetv4_conv_small")), pixels(4)
    with torch.inference_mode():
        own = detector.encode("pixels", frames[None])[0]
    features = FrameEncoder(detector, bf16=True)(frames)
    assert features.dtype == torch.float32
    assert 1e-4 < apart(features, own) < 0.1  # weights and maps of 8 bits


def test_other_threads_compute_while_a_model_is_traced():
    """Evaluation scores one video while the model of another run is traced."""
    model, other = timm.create_model("test_efficientnet").eval(), torch.nn.Sequential(torch.nn.Linear(2, 2)).eval()
    done, over = [], threading.Event()

    def compute():
        while not over.is_set():
            done.append(other(torch.ones(1, 2)).shape)

    with ThreadPoolExecutor(3) as pool:
        computing = pool.submit(compute)
        traced = [pool.submit(fuse_convolutions, model) for _ in range(6)]
        images = torch.randn(1, 3, 32, 32)
        with torch.inference_mode():
            for one in traced:
                torch.testing.assert_close(one.result()(images), model(images), rtol=1e-3, atol=1e-4)
        over.set()
        computing.result()
    assert set(done) == {(1, 2)}
    assert isinstance(model(images), torch.Tensor)
