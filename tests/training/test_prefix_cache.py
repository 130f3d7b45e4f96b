"""Training on cached outputs of the backbone gives the numbers of training on frames, and touches no video."""

import copy
import errno
import logging
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint

from keyframe.data import cache as cache_module
from keyframe.data.cache import VideoCache
from keyframe.data.datamodule import VideoDataModule
from keyframe.data.dataset import Augmentation
from keyframe.data.decord_reader import DecordReader
from keyframe.data.folder import DemoSource
from keyframe.data.sampling import UniformSampling
from keyframe.models.backbone import Backbone
from keyframe.models.detector import KeyframeDetector
from keyframe.models.head import TemporalHead
from keyframe.training.callbacks import TwoStage
from keyframe.training.encode import Encoder, Request
from keyframe.training.losses import SpearmanLoss
from keyframe.training.module import KeyframeModule
from keyframe.training.run import train_and_test
from keyframe.types import KeyframeError, VideoError
from tests.training.tiny import make_module, make_trainer

VIDEOS, FRAMES = 6, 6
# 6 videos in 3 folds: 3 to train on, 1 for validation, 2 for the test
TRAIN, VAL, TEST = 3, 1, 2


class Few:
    """The first videos of the demo's set."""

    def __init__(self, root):
        self.whole = DemoSource(str(root), videos=15, shots=12)

    def prepare(self):
        pass

    def videos(self):
        return self.whole.videos()[:VIDEOS]


class Borrowed(Few):
    """The same videos, for a while."""

    def videos(self):
        place = self.whole.root / "borrowed"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        return [replace(video, path=Path(shutil.copy(video.path, place))) for video in super().videos()]


class TakeAway(Callback):
    """Removes the videos when the first epoch begins."""

    def on_train_epoch_start(self, trainer, pl_module):
        for dataset in trainer.datamodule.datasets.values():
            for video in dataset.videos:
                video.path.unlink(missing_ok=True)


class Relabelled(Few):
    """The same videos with the opposite labels."""

    def videos(self):
        return [
            replace(video, labels=replace(video.labels, importance=np.float32(1) - video.labels.importance))
            for video in super().videos()
        ]


class Reader(DecordReader):
    """Notes the videos it decodes, and finds some of them damaged."""

    def __init__(self, damaged=()):
        super().__init__()
        self.damaged = damaged

    # what a reader has done is not what it is: kept apart from its settings
    noted: ClassVar[dict[int, list[str]]] = {}

    @property
    def decoded(self):
        return self.noted.setdefault(id(self), [])

    def read(self, path, *arguments, **options):
        self.decoded.append(path.stem)
        if path.stem in self.damaged:
            raise VideoError(f"{path} is damaged.")
        return super().read(path, *arguments, **options)


class Watch(Callback):
    """Notes losses and the kinds of batches."""

    def __init__(self):
        self.losses, self.validation, self.kinds = [], [], []

    def on_train_epoch_start(self, trainer, pl_module):
        self.losses.append([])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses[-1].append(float(outputs["loss"]))
        self.kinds.append(batch.kind)

    def on_validation_epoch_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.validation.append(float(trainer.callback_metrics["val/loss"]))


class Run:
    """A training run on few videos."""

    def __init__(
        self,
        root,
        directory,
        cache,
        switch=1,
        epochs=2,
        module=make_module,
        source=Few,
        reader=None,
        callbacks=(),
        **options,
    ):
        torch.manual_seed(0)
        self.module = module()
        self.module.detector.chunk = FRAMES  # of one video: equal chunks whichever way
        self.watch = Watch()
        self.reader = reader or Reader()
        self.reader.decoded.clear()
        self.data = VideoDataModule(
            source(root),
            self.reader,
            UniformSampling(FRAMES),
            32,
            batch_size=2,
            folds=3,
            val_fraction=0.25,
            cache=cache,
            **options,
        )
        extra = {"enable_checkpointing": True} if callbacks else {}
        self.trainer = make_trainer(directory, epochs, [TwoStage(switch), self.watch, *callbacks], **extra)

    def fit(self, **options):
        self.trainer.fit(self.module, self.data, **options)
        return self


def flat(losses):
    return [loss for epoch in losses for loss in epoch]


@pytest.fixture
def cache(tmp_path):
    """Makes caches in one directory, as processes one after the other do."""
    return partial(VideoCache, str(tmp_path / "cache"))


@pytest.mark.parametrize("backbone", ["test_efficientnet", pytest.param("test_resnet", marks=pytest.mark.full)])
def test_losses_are_those_of_training_on_frames_in_both_stages(backbone, tiny_demo, tmp_path, cache):
    module = partial(make_module, backbone)
    plain = Run(tiny_demo, tmp_path, None, module=module).fit()
    kept = Run(tiny_demo, tmp_path, cache(), module=module).fit()
    steps = 2
    assert plain.watch.kinds == ["pixels"] * 2 * steps
    assert kept.watch.kinds == ["features"] * steps + ["prefix"] * steps
    assert flat(kept.watch.losses) == pytest.approx(flat(plain.watch.losses), abs=1e-5)
    assert kept.watch.validation == pytest.approx(plain.watch.validation, abs=1e-5)
    for name in ("mean", "std"):
        ours, theirs = (getattr(run.module.detector.standardizer, name) for run in (kept, plain))
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    # every video once, and without a cache once before training and then in every epoch
    assert sorted(kept.reader.decoded) == sorted(video.id for video in Few(tiny_demo).videos())
    assert len(plain.reader.decoded) > 2 * (TRAIN + VAL)

    halves = Run(tiny_demo, tmp_path, cache(dtype="float16"), module=module).fit()
    # features are not rounded; rounding maps was seen to move losses by 2e-4 here
    assert halves.watch.losses[0] == kept.watch.losses[0]
    assert halves.watch.losses[1] != kept.watch.losses[1]
    assert halves.watch.losses[1] == pytest.approx(kept.watch.losses[1], abs=3e-3)


def test_augmented_views_are_the_draws_of_as_many_epochs_taken_in_turn(tiny_demo, tmp_path):
    everything = Augmentation(jitter=0.3, drop=0.2, colour=0.2, flip=0.5)
    plain = Run(tiny_demo, tmp_path, None, 1, 2, augmentation=everything).fit()
    kept = Run(tiny_demo, tmp_path, VideoCache(views=2), 1, 4, augmentation=everything).fit()
    assert flat(kept.watch.losses[:2]) == pytest.approx(flat(plain.watch.losses), abs=1e-5)
    seen = [[kept.data.datasets["train"][epoch, number].inputs for number in range(TRAIN)] for epoch in range(1, 4)]
    assert all(map(torch.equal, seen[0], seen[2]))
    assert not any(map(torch.equal, seen[0], seen[1]))
    # two views of each, and the frames as they are, for the mean and deviation of features
    assert len(kept.reader.decoded) == 3 * TRAIN + VAL + TEST


def test_a_second_run_decodes_nothing_unless_entries_are_damaged(tiny_demo, tmp_path, cache, caplog):
    caplog.set_level(logging.INFO, "keyframe")
    first = Run(tiny_demo, tmp_path, cache()).fit()
    assert len(first.reader.decoded) == VIDEOS
    assert f"Cache: 0 of {VIDEOS} videos found, {VIDEOS} decoded and encoded in" in caplog.text
    caplog.clear()
    opposite = Run(tiny_demo, tmp_path, cache(), source=Relabelled).fit()
    assert f"Cache: {VIDEOS} of {VIDEOS} videos found, nothing to decode" in caplog.text
    assert str(tmp_path / "cache") in caplog.text
    assert not opposite.reader.decoded
    assert flat(opposite.watch.losses) != pytest.approx(flat(first.watch.losses), abs=1e-2)
    for number, path in enumerate(sorted((tmp_path / "cache").rglob("*.safetensors"))):
        content = bytearray(path.read_bytes())
        content[-1 if number % 2 else 20] ^= 255
        path.write_bytes(content if number % 3 else content[: len(content) // 2])
    for decoded in (VIDEOS, 0):
        again = Run(tiny_demo, tmp_path, cache()).fit()
        assert len(again.reader.decoded) == decoded
        assert flat(again.watch.losses) == flat(first.watch.losses)


def test_what_fits_nowhere_is_refused_with_the_size_it_needs(tiny_demo, tmp_path, cache, monkeypatch):
    entry = FRAMES * 256 * 4  # bytes of a video's features
    monkeypatch.setattr(cache_module, "available_bytes", lambda: 0)
    with pytest.raises(KeyframeError, match=r"need about 0.1 GB. Set cache.max_gb=0.1 with cache.dir") as refusal:
        Run(tiny_demo, tmp_path, cache(max_gb=2.5 * entry / 1e9), None).fit()
    assert "cache.max_gb=" in str(refusal.value) and "memory has no room" in str(refusal.value)
    # what did fit is found when there is room
    again = Run(tiny_demo, tmp_path, cache(), None).fit()
    assert len(again.reader.decoded) == VIDEOS - 2


def test_a_full_disk_is_one_warning_and_no_end(tiny_demo, tmp_path, cache, monkeypatch, caplog):
    written, write = [], cache_module.write_bytes

    def full_after_two(path, content):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path)
        write(path, content)

    monkeypatch.setattr(cache_module, "write_bytes", full_after_two)
    run = Run(tiny_demo, tmp_path, cache()).fit()
    assert len(run.reader.decoded) == VIDEOS
    assert set(run.watch.kinds) == {"features", "prefix"}
    assert [record.levelname for record in caplog.records if record.name.startswith("keyframe")] == ["WARNING"]
    assert "No space left on device" in caplog.text


def test_without_a_second_stage_only_features_are_kept(tiny_demo, tmp_path):
    store = VideoCache()
    run = Run(tiny_demo, tmp_path, store, switch=None).fit()
    assert set(run.watch.kinds) == {"features"}
    assert {tuple(entry.inputs.shape) for entry in store.in_memory.values()} == {(FRAMES, 256)}
    # the features of a backbone that has changed since are not served
    with torch.no_grad():
        run.module.detector.backbone.model.conv_head.weight.mul_(-2)
    plain = Run(tiny_demo, tmp_path, None, module=lambda: run.module)
    ours, theirs = (one.trainer.test(run.module, one.data, verbose=False)[0] for one in (run, plain))
    assert ours["test/loss"] == pytest.approx(theirs["test/loss"], abs=1e-5)


def uncut():
    backbone = Backbone("resnet10t", pretrained=False)
    head = partial(TemporalHead, projection=(32, 32), layers=1, heads=4, local_heads=2, feedforward=32)
    return KeyframeModule(KeyframeDetector(backbone, head), SpearmanLoss(), partial(torch.optim.AdamW, lr=1e-3))


def test_a_backbone_without_a_cut_trains_on_cached_frames_in_stage_2(tiny_demo, tmp_path, caplog):
    caplog.set_level(logging.INFO, "keyframe")
    plain, kept = (Run(tiny_demo, tmp_path, store, module=uncut).fit() for store in (None, VideoCache()))
    assert kept.watch.kinds == ["features"] * 2 + ["pixels"] * 2
    assert flat(kept.watch.losses) == pytest.approx(flat(plain.watch.losses), abs=1e-5)
    assert len(kept.reader.decoded) == VIDEOS
    assert caplog.text.count("resnet10t is not cut into prefix and tail") == 1
    assert "Cache off (cache=off)" in caplog.text


def test_videos_that_turn_out_to_be_damaged_are_left_out_and_listed(tiny_demo, tmp_path):
    whole = Run(tiny_demo, tmp_path, None).data
    damaged = [whole.split_videos(split)[0].id for split in ("train", "test")]
    kept, plain = (Run(tiny_demo, tmp_path, store, reader=Reader(damaged)).fit() for store in (VideoCache(), None))
    assert kept.data.skipped == plain.data.skipped
    assert set(kept.data.skipped) == set(damaged)
    assert sum(len(dataset) for dataset in kept.data.datasets.values()) == VIDEOS - 2
    assert flat(kept.watch.losses) == pytest.approx(flat(plain.watch.losses), abs=1e-5)
    with pytest.raises(VideoError, match=r"is damaged"):
        Run(tiny_demo, tmp_path, VideoCache(), reader=Reader(damaged), strict=True).fit()
    everything = [video.id for video in Few(tiny_demo).videos()]
    with pytest.raises(KeyframeError, match=r"No video of the train split can be decoded"):
        Run(tiny_demo, tmp_path, VideoCache(), reader=Reader(everything)).fit()


@pytest.mark.parametrize("mode", ["min", "max"], ids=["of stage 1", "of stage 2"])
def test_the_best_checkpoint_is_measured_as_on_frames(tiny_demo, tmp_path, cache, mode):
    best = ModelCheckpoint(tmp_path, monitor="train/stage", mode=mode, filename="best")
    run = Run(tiny_demo, tmp_path, cache(), source=Borrowed, callbacks=[best, TakeAway()])
    metrics, path = train_and_test(run.trainer, run.module, run.data, tmp_path)
    assert torch.load(path, weights_only=True)["epoch"] == (0 if mode == "min" else 1)
    plain = Run(tiny_demo, tmp_path, None)
    for split, measure in (("val", plain.trainer.validate), ("test", plain.trainer.test)):
        (theirs,) = measure(plain.module, plain.data, ckpt_path=path, weights_only=True, verbose=False)
        for name in ("loss", "spearman", "mse"):
            assert metrics[f"{split}/{name}"] == pytest.approx(theirs[f"{split}/{name}"], abs=1e-5)
    assert len(run.reader.decoded) == VIDEOS


def test_a_run_that_resumes_in_stage_2_encodes_nothing_for_stage_1(tiny_demo, tmp_path, cache):
    last = ModelCheckpoint(tmp_path, filename="last", enable_version_counter=False)
    Run(tiny_demo, tmp_path, cache(), callbacks=[last]).fit()
    # its tail has trained, so that features would be others
    resumed = Run(tiny_demo, tmp_path, cache(), epochs=3, callbacks=[last])
    resumed.fit(ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert set(resumed.watch.kinds) == {"prefix"}
    assert not resumed.reader.decoded


def weigh(module, path):
    with torch.no_grad():
        next(module.detector.backbone.model.get_submodule(path).parameters()).view(-1)[0] += 1e-3


def scaled(module):
    module.detector.backbone.mean = (0.5, 0.5, 0.5)


def cut_elsewhere(module):
    backbone = module.detector.backbone
    backbone._prefix, backbone._tail = backbone._prefix[:-1], (backbone._prefix[-1], *backbone._tail)


def statistics(module):
    module.detector.backbone.model.blocks[0][0].bn1.running_mean[0] += 1e-3


def activation(module):
    module.detector.backbone.model.bn1.act = torch.nn.ReLU()


NOTHING, ALL = set(), {"prefix", "features"}
INGREDIENTS = {
    "nothing": (lambda module: None, {}, {}, NOTHING),
    "a weight of the prefix": (partial(weigh, path="blocks.3"), {}, {}, ALL),
    "a weight of the tail": (partial(weigh, path="conv_head"), {}, {}, {"features"}),
    "a statistic of the prefix": (statistics, {}, {}, ALL),
    "structure": (activation, {}, {}, ALL),
    "the cut": (cut_elsewhere, {}, {}, {"prefix"}),
    "normalisation": (scaled, {}, {}, ALL),
    "dtype": (lambda module: None, {"dtype": "float16"}, {}, {"prefix"}),
    "precision": (lambda module: None, {}, {"precision": "bf16-mixed"}, ALL),
}


@pytest.fixture
def first_video(tiny_demo):
    """A model, and a data set whose first video it is to encode."""
    run = Run(tiny_demo, tiny_demo, None)
    run.data.setup()
    return run.module, run.data.datasets["train"]


def keys(module, dataset, change, of_cache, of_encoder):
    module = copy.deepcopy(module)
    change(module)
    encoder = Encoder(module.detector, VideoCache(**of_cache), **of_encoder)
    return {kind: encoder.key(Request(dataset, 0, None, ()), kind) for kind in ("pixels", "prefix", "features")}


def test_keys_change_with_what_changes_an_entry_and_with_nothing_else(first_video):
    before = keys(*first_video, lambda module: None, {}, {})
    assert len(set(before.values())) == 3
    for name, (*ingredients, changed) in INGREDIENTS.items():
        after = keys(*first_video, *ingredients)
        assert {kind for kind in before if before[kind] != after[kind]} == changed, name
