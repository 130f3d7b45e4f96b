"""The real training line at the smallest size that still trains."""

from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from omegaconf import OmegaConf
from pytorch_lightning import Trainer

from keyframe.config import conf_dir
from keyframe.data.cache import VideoCache
from keyframe.data.datamodule import VideoDataModule
from keyframe.data.decord_reader import DecordReader
from keyframe.data.folder import DemoSource
from keyframe.data.sampling import UniformSampling
from keyframe.models.backbone import Backbone, NoBackbone
from keyframe.models.detector import KeyframeDetector
from keyframe.models.head import TemporalHead
from keyframe.training.callbacks import BatchSeed
from keyframe.training.losses import SpearmanLoss
from keyframe.training.module import KeyframeModule
from keyframe.training.prefix_cache import FeatureStatistics, PrefixCache
from tests.data.feature_files import WIDTH

# Small relatives of the backbones of conf/, which train in less time, and how they are cut.
SMALL = {
    "test_efficientnet": OmegaConf.create(
        {
            "prefix": ["conv_stem", "bn1", "blocks.0", "blocks.1", "blocks.2", "blocks.3"],
            "tail": ["blocks.4", "conv_head", "bn2", "global_pool"],
        }
    ),
    "test_resnet": OmegaConf.load(conf_dir() / "backbone" / "resnet50.yaml"),
}

# Shared by the tests of a process, so that most of them find the videos encoded.
ENCODED = VideoCache()


def make_module(backbone="test_efficientnet", lr=1e-3, norm="frozen", dropout=0.1, weight_decay=0.01, config=None):
    """A module with one of SMALL, with a timm model of conf/, or with `features` of `tests.data.feature_files`."""
    if backbone == "features":
        encoder = NoBackbone(WIDTH)
    else:
        cut = SMALL[backbone] if backbone in SMALL else OmegaConf.load(conf_dir() / "backbone" / f"{backbone}.yaml")
        cuts = {"prefix": list(cut.prefix), "tail": list(cut.tail)}
        # in float32, a batch in two parts has the gradients of the whole
        encoder = Backbone(backbone, pretrained=False, norm=norm, gradients="float32", **cuts)
    return KeyframeModule(
        KeyframeDetector(
            encoder,
            partial(
                TemporalHead, projection=(32, 32), layers=1, heads=4, local_heads=2, feedforward=32, dropout=dropout
            ),
        ),
        SpearmanLoss(),
        partial(torch.optim.AdamW, lr=lr, weight_decay=weight_decay),
        config,
    )


def make_teacher():
    """An untrained detector of another backbone that tells frames apart; always the same."""
    torch.manual_seed(1)
    head = partial(TemporalHead, projection=(32, 32), layers=1, heads=4, local_heads=2, feedforward=32)
    detector = KeyframeDetector(Backbone("test_resnet", pretrained=False), head)
    with torch.no_grad():
        features = detector.eval().encode("pixels", torch.rand(1, 64, 3, 32, 32))[0]
    detector.standardizer.set(features.mean(0), features.std(0))
    return detector


def make_datamodule(root: Path, **options):
    options = {"size": 32, "batch_size": 2, "cache": ENCODED, **options}
    return VideoDataModule(DemoSource(str(root), videos=15, shots=12), DecordReader(), UniformSampling(12), **options)


def make_trainer(directory: Path, epochs: int, callbacks=(), **options):
    options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, **options}
    return Trainer(
        default_root_dir=directory,
        max_epochs=epochs,
        gradient_clip_val=1.0,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
        use_distributed_sampler=False,
        callbacks=[BatchSeed(0), PrefixCache(), FeatureStatistics(), *callbacks],
        **options,
    )


def killed_by(target: Callable[..., object], *arguments: object) -> int:
    """The number of the signal that ends a process which calls `target`.

    The process starts clean: autograd refuses to work in a fork of a process in which its threads have run.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["keyframe.training.run", "timm"])
    process = context.Process(target=target, args=arguments)
    process.start()
    process.join()
    assert process.exitcode is not None
    return -process.exitcode
