"""Runs are loaded from checkpoints, also from those of older versions, and nothing but runs is."""

import gzip
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from keyframe.config import conf_dir
from keyframe.data.datamodule import FeatureDataModule, VideoDataModule
from keyframe.data.folder import DemoSource, DirectorySource
from keyframe.data.labels import read_labels
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.sampling import UniformSampling
from keyframe.models.backbone import NoBackbone
from keyframe.models.head import TemporalHead
from keyframe.runs import DATA_CLASSES, MODEL_CLASSES, load_detector, load_run
from keyframe.trust import build
from keyframe.types import KeyframeError
from tests.commands import TINY

FIXTURES = Path(__file__).parent / "fixtures"
HEAD = {
    "_target_": "keyframe.models.head.TemporalHead",
    "features": 8,
    "projection": [8, 8],
    "heads": 2,
    "local_heads": 1,
}
# What commit 6d3bddf gave.
VIDEO_SCORES = """.381558 .389637 .387805 .392307 .387175 .379635 .386378 .383780 .389611 .378629 .385054 .386419"""
FEATURE_SCORES = """.4278 .466945 .475699 .469349 .393277 .384254 .416901 .517977 .476121 .502477 .431579 .372699
.392208 .441213 .500012 .518223 .516943 .391724 .407301 .455372"""


DATA_BEFORE = (
    *("data.datamodule.FeatureDataModule", "data.datamodule.VideoDataModule", "data.decord_reader.DecordReader"),
    *("data.pyav_reader.PyAVReader", "data.sampling.FpsSampling", "data.sampling.UniformSampling"),
    *("data.sources.DemoSource", "data.sources.DirectorySource"),
)
MODEL_BEFORE = (
    *("models.backbone.Backbone", "models.detector.KeyframeDetector", "models.head.TemporalHead"),
    "models.no_backbone.NoBackbone",
)


def numbers(text):
    return np.array(text.split(), dtype=float)


@pytest.fixture(scope="module")
def feature_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("features") / "last.ckpt"
    path.write_bytes(gzip.decompress((FIXTURES / "before_features.ckpt.gz").read_bytes()))
    return path


def changed(path, to, **parameters):
    """A checkpoint with other hyperparameters."""
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"] |= parameters
    torch.save(checkpoint, to)
    return to


def test_a_run_on_videos_of_an_older_version(old_run):
    run = load_run(old_run)
    data = run.video_data
    assert (type(data), type(data.source), type(data.reader), type(data.sampling)) == (
        *(VideoDataModule, DemoSource, PyAVReader, UniformSampling),
    )
    assert run.name == "test_efficientnet" and run.model.window == 12 and run.frame_shape == (12, 32, 32)
    assert list(run.videos("test")) == ["demo-0-004", "demo-0-005", "demo-0-007"]
    frames = np.random.default_rng(0).integers(0, 256, (1, 12, 3, 32, 32), dtype=np.uint8)
    with torch.inference_mode():
        scores = run.detector(torch.from_numpy(frames))[0].numpy()
    np.testing.assert_allclose(scores, numbers(VIDEO_SCORES), atol=2e-6)


def test_a_run_on_features_of_an_older_version(feature_run):
    run = load_run(feature_run)
    assert type(run.datamodule) is FeatureDataModule and type(run.detector.backbone) is NoBackbone
    assert run.model.size is None and run.frame_shape is None
    features = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    np.testing.assert_allclose(run.model.score_features(features), numbers(FEATURE_SCORES), atol=2e-6)
    with pytest.raises(KeyframeError, match="was trained on a feature file and sees no frames"):
        _ = run.scorer


@pytest.mark.full
def test_a_run_of_an_older_version_goes_on_as_it_would_have_there(command, tiny_demo, old_run, tmp_path):
    model = (
        *("backbone=timm", "backbone.name=test_efficientnet", "backbone.prefix=[conv_stem,bn1,blocks,conv_head]"),
        *("backbone.tail=[bn2,global_pool]", "finetune.norm=train", "finetune.switch_epoch=1"),
        *("head.projection=[8,8]", "head.layers=1", "head.heads=2", "head.local_heads=1", "head.feedforward=8"),
    )
    out = tmp_path / "run"
    last = shutil.copy(old_run / "checkpoints" / "best.ckpt", tmp_path / "last.ckpt")
    more = (f"data.root={tiny_demo}", "cache=memory", "augmentation=clip", "trainer.max_epochs=3", f"ckpt_path={last}")
    command(*TINY, *model, *more, f"hydra.run.dir={out}").good()
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["test/spearman"] == pytest.approx(-0.098213, abs=1e-5)
    assert metrics["test/mse"] == pytest.approx(0.0422524, abs=1e-5)


def test_names_of_older_versions(tmp_path):
    """All that a checkpoint of commit 6d3bddf may name."""
    for names, allowed in ((DATA_BEFORE, DATA_CLASSES), (MODEL_BEFORE, MODEL_CLASSES)):
        for name in names:
            found = build({"_target_": f"keyframe.{name}", "_partial_": True}, allowed, tmp_path).func
            assert found.__name__ == name.rpartition(".")[2]


def test_all_that_the_configuration_offers_can_be_loaded():
    names = {f"{one.__module__}.{one.__qualname__}" for one in (*MODEL_CLASSES, *DATA_CLASSES)}
    for group in ("backbone", "head", "reader", "sampling", "datamodule"):
        for path in (conf_dir() / group).glob("*.yaml"):
            target = OmegaConf.to_container(OmegaConf.load(path)).get("_target_")
            assert target is None or target in names, path
    for path in (conf_dir() / "data").glob("*.yaml"):
        source = OmegaConf.to_container(OmegaConf.load(path)).get("source") or {}
        assert source.get("_target_") in {None, *names}, path


def test_nested_parts_are_built_as_hydra_builds_them(tmp_path):
    head = build({"one": [HEAD, None, 1.5], "two": {**HEAD, "_partial_": True}}, MODEL_CLASSES, tmp_path)
    assert type(head["one"][0]) is TemporalHead and head["one"][1:] == [None, 1.5]
    assert head["two"].func is TemporalHead and head["two"].keywords["projection"] == [8, 8]


def deep(levels):
    return [deep(levels - 1)] if levels else 1


def test_nothing_but_plain_values_and_our_own_classes_is_built(tmp_path):
    path = tmp_path / "a.ckpt"
    for name in ("os.system", "keyframe.models.backbone.urllib.request.urlopen", "keyframe.data.folder.DemoSource"):
        with pytest.raises(KeyframeError, match=f"a.ckpt was not loaded: it asks for {re.escape(name)}, which"):
            build([HEAD, {"_target_": name}], MODEL_CLASSES, path)
    for value, what in (
        (("a", 1), "holds a tuple"),
        (torch.zeros(1), "holds a Tensor"),
        ({1: "a"}, "has a int as a name"),
        ("${oc.env:HOME}", "unresolved value"),
        (deep(50), "nested too deeply"),
    ):
        with pytest.raises(KeyframeError, match=f"a.ckpt was not loaded: .*{what}"):
            build({**HEAD, "layers": value}, MODEL_CLASSES, path)


def test_a_run_of_another_version_is_named(old_run, tmp_path):
    config = torch.load(old_run / "checkpoints" / "best.ckpt", weights_only=True)["hyper_parameters"]
    path = tmp_path / "a.ckpt"
    model = {**config["model"], "head": {**config["model"]["head"], "shuffle_twice": True}}
    with pytest.raises(KeyframeError, match=r"a.ckpt is a run of another version of keyframe \(.*shuffle_twice"):
        load_detector(changed(old_run / "checkpoints" / "best.ckpt", path, model=model))
    without = {key: value for key, value in config["datamodule"].items() if key != "source"}
    with pytest.raises(KeyframeError, match=r"a run of another version of keyframe \(.*source"):
        load_run(changed(old_run / "checkpoints" / "best.ckpt", path, datamodule=without))
    narrow = {**config["model"], "head": {**config["model"]["head"], "feedforward": 4}}
    with pytest.raises(KeyframeError, match="holds other weights than its model has"):
        load_detector(changed(old_run / "checkpoints" / "best.ckpt", path, model=narrow))


def test_what_is_no_run(old_run, tmp_path):
    with pytest.raises(KeyframeError, match=r"teacher=.*there is no checkpoint"):
        load_run(tmp_path, key="teacher")
    path = changed(old_run / "checkpoints" / "best.ckpt", tmp_path / "a.ckpt", datamodule=None)
    with pytest.raises(KeyframeError, match="does not say which videos it was trained on"):
        load_run(path)
    torch.save({"state_dict": {}, "hyper_parameters": {}}, path)
    with pytest.raises(KeyframeError, match="does not say how its model is built"):
        load_run(path)


def test_data_that_were_moved(old_run, feature_run):
    assert load_run(old_run, root="~/elsewhere").video_data.source.root == Path.home() / "elsewhere"
    moved = load_run(feature_run, root="b.h5", labels="a.mat").datamodule
    assert (moved.path, moved.labels) == (Path("b.h5"), Path("a.mat"))
    with pytest.raises(KeyframeError, match=r"has no data\.labels to replace: leave data\.labels out"):
        load_run(old_run, labels="a.mat")


def test_another_data_set_with_another_scale(old_run, tiny_demo, tmp_path):
    moved = load_run(old_run, root=str(tiny_demo)).video_data.source
    assert type(moved) is DemoSource
    # where no generated set lies, none is generated
    other = load_run(old_run, root=str(tmp_path), lowest=0, highest=10).video_data.source
    assert type(other) is DirectorySource and (other.root, other.lowest, other.highest) == (tmp_path, 0, 10)
    with pytest.raises(KeyframeError, match="lowest=5, a score of the label file, must be below highest=5"):
        load_run(old_run, root=str(tmp_path), lowest=5)
    with pytest.raises(KeyframeError, match=r"a\.mat has a scale of its own"):
        read_labels("a.mat", 0, 10)
