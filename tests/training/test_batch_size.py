from functools import partial

import pytest
import torch

from keyframe.data.datamodule import FeatureDataModule
from keyframe.models.backbone import NoBackbone
from keyframe.models.detector import KeyframeDetector
from keyframe.models.head import TemporalHead
from keyframe.training.losses import SpearmanLoss
from keyframe.training.module import KeyframeModule
from keyframe.training.run import find_batch_size
from keyframe.types import KeyframeError
from tests.data.feature_files import WIDTH, write_tvsum
from tests.training.tiny import make_datamodule, make_module, make_trainer


def full_at(module, videos):
    """Make a module fail as a GPU without memory does, from a batch of so many videos on."""
    step, seen = module.training_step, []

    def training_step(batch, batch_idx):
        seen.append(len(batch.videos))
        if len(batch.videos) >= videos:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return step(batch, batch_idx)

    module.training_step = training_step
    return seen


def make_scorer():
    """A head alone."""
    head = partial(TemporalHead, projection=(32, 32), layers=1, heads=4, local_heads=2, feedforward=32)
    return KeyframeModule(KeyframeDetector(NoBackbone(WIDTH), head), SpearmanLoss(), torch.optim.AdamW)


@pytest.fixture(scope="module")
def datamodule(tmp_path_factory):
    """10 training videos, as features."""
    path = write_tvsum(tmp_path_factory.mktemp("features") / "features.h5", 15)
    return FeatureDataModule(path=str(path), width=WIDTH, batch_size=2)


@pytest.mark.parametrize(
    ("room", "largest", "size", "tried"),
    [(5, None, 4, 8), (100, None, 10, 10), (100, 2, 2, 2), (100, 3, 3, 4)],
    ids=["memory ends", "all videos fit", "limit", "limit between powers of two"],
)
def test_the_largest_batch_that_fits(datamodule, tmp_path, room, largest, size, tried):
    module = make_scorer()
    seen = full_at(module, room)
    trainer = make_trainer(tmp_path, 1)
    assert find_batch_size(trainer, module, datamodule, largest) == size
    assert max(seen) == tried
    assert datamodule.batch_size == 2  # as it was
    assert not list(tmp_path.iterdir())


def test_one_video_that_does_not_fit_is_told(datamodule, tmp_path):
    module = make_scorer()
    full_at(module, 1)
    with pytest.raises(KeyframeError, match=r"not even one video fits in memory: lower data\.size"):
        find_batch_size(make_trainer(tmp_path, 1), module, datamodule)
    assert datamodule.batch_size == 2


def test_several_devices_are_refused(datamodule, tmp_path):
    trainer = make_trainer(tmp_path, 1, strategy="ddp", devices=2)
    with pytest.raises(KeyframeError, match=r"trainer=auto, then set data\.batch_size"):
        find_batch_size(trainer, make_scorer(), datamodule)


def test_what_is_tried_is_stage_2(tiny_demo, tmp_path):
    module = make_module()
    seen = []
    tail = module.detector.backbone.tail_parameters()
    module.on_after_backward = lambda: seen.append([parameter.grad is not None for parameter in tail])
    find_batch_size(make_trainer(tmp_path, 1), module, make_datamodule(tiny_demo), 1)
    assert seen and all(map(all, seen))
