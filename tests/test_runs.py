"""Runs are loaded from checkpoints, also from those of older versions, and nothing but runs is."""

import copy
import gzip
import itertools
import json
import pickle
import random
import re
import socket
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from keyframe.config import conf_dir
from keyframe.data.divided import DividedFeatures, DividedVideos
from keyframe.data.folder import DemoSource, DirectorySource
from keyframe.data.labels import read_labels
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.sampling import UniformSampling
from keyframe.models.backbone import NoBackbone
from keyframe.models.head import TemporalHead
from keyframe.runs import _DIVIDED, DATA_CLASSES, MODEL_CLASSES, load_detector, load_run
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
    *(
        "data.decord_reader.DecordReader",
        "data.pyav_reader.PyAVReader",
        "data.sampling.FpsSampling",
        "data.sampling.UniformSampling",
    ),
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
        *(DividedVideos, DemoSource, PyAVReader, UniformSampling),
    )
    assert run.name == "test_efficientnet" and run.model.window == 12 and run.frame_shape == (12, 32, 32)
    assert list(run.videos("test")) == ["demo-0-001", "demo-0-004", "demo-0-014"]
    frames = np.random.default_rng(0).integers(0, 256, (1, 12, 3, 32, 32), dtype=np.uint8)
    with torch.inference_mode():
        scores = run.detector(torch.from_numpy(frames))[0].numpy()
    np.testing.assert_allclose(scores, numbers(VIDEO_SCORES), atol=2e-6)


def test_a_run_on_features_of_an_older_version(feature_run):
    run = load_run(feature_run)
    assert type(run.data) is DividedFeatures and type(run.detector.backbone) is NoBackbone
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
        *("head.dropout=0.0", "head.feature_dropout=0.0", "head.similarity=[]", "loss=spearman", "data.batch_size=4"),
        *("optimizer.lr=3e-4", "finetune.lr_factor=0.1", "scheduler=none"),
    )
    out, last = tmp_path / "run", tmp_path / "last.ckpt"
    # without dropout: older versions dropped attention weights out too, so what they drew differs
    checkpoint = torch.load(old_run / "checkpoints" / "best.ckpt", weights_only=True)
    for part in (checkpoint["hyper_parameters"], checkpoint["hyper_parameters"]["model"]):
        part["head"]["dropout"] = 0.0
    torch.save(checkpoint, last)
    more = (f"data.root={tiny_demo}", "cache=memory", "augmentation=clip", "trainer.max_epochs=3", f"ckpt_path={last}")
    command(*TINY, *model, *more, f"hydra.run.dir={out}").good()
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["test/spearman"] == pytest.approx(0.1303181, abs=1e-5)
    assert metrics["test/mse"] == pytest.approx(0.0502469, abs=1e-5)


def test_names_of_older_versions(tmp_path):
    """All that a checkpoint of commit 6d3bddf may name."""
    for names, allowed in ((DATA_BEFORE, DATA_CLASSES), (MODEL_BEFORE, MODEL_CLASSES)):
        for name in names:
            found = build({"_target_": f"keyframe.{name}", "_partial_": True}, allowed, tmp_path).func
            assert found.__name__ == name.rpartition(".")[2]


def test_all_that_the_configuration_offers_can_be_loaded():
    names = {f"{one.__module__}.{one.__qualname__}" for one in (*MODEL_CLASSES, *DATA_CLASSES)} | {*_DIVIDED}
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
    with pytest.raises(KeyframeError, match=r"a.ckpt is a run from another version of keyframe \(.*shuffle_twice"):
        load_detector(changed(old_run / "checkpoints" / "best.ckpt", path, model=model))
    without = {key: value for key, value in config["datamodule"].items() if key != "source"}
    with pytest.raises(KeyframeError, match=r"a run from another version of keyframe \(.*source"):
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


def test_data_that_were_moved(old_run, feature_run, tmp_path):
    assert load_run(old_run, root="~/elsewhere").video_data.source.roots == [Path.home() / "elsewhere"]
    moved = load_run(feature_run, root="b.h5", labels="a.mat").data
    assert (moved.paths, moved.labels) == ([Path("b.h5")], Path("a.mat"))
    with pytest.raises(KeyframeError, match=r"trained on one file or folder: give data\.root one, not a list"):
        load_run(feature_run, root=["a.h5", "b.h5"])
    data = torch.load(feature_run, weights_only=True)["hyper_parameters"]["datamodule"]
    several = changed(feature_run, tmp_path / "a.ckpt", datamodule=data | {"path": ["ovp.h5", "youtube.h5"]})
    for root in ("~/a.h5", ["~/a.h5", "b.h5"]):
        moved = load_run(several, root=root).data
        assert moved.several and moved.paths[0] == Path.home() / "a.h5"
    with pytest.raises(KeyframeError, match=r"has no data\.labels to replace: leave data\.labels out"):
        load_run(old_run, labels="a.mat")


def test_another_data_set_with_another_scale(old_run, tiny_demo, tmp_path):
    moved = load_run(old_run, root=str(tiny_demo)).video_data.source
    assert type(moved) is DemoSource
    # where no generated set lies, none is generated
    other = load_run(old_run, root=str(tmp_path), lowest=0, highest=10).video_data.source
    assert type(other) is DirectorySource and (other.roots, other.scales) == ([tmp_path], {"": (0, 10)})
    with pytest.raises(KeyframeError, match="lowest=5, a score of the label file, must be below highest=5"):
        load_run(old_run, root=str(tmp_path), lowest=5)
    with pytest.raises(KeyframeError, match=r"a\.mat has a scale of its own.* set them to 1 and 5"):
        read_labels("a.mat", 0, 10)


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class Effects:
    """What code in a file may have done: made a file, or called this machine."""

    def __init__(self, path, listener):
        self.path, self.listener = path, listener

    def seen(self):
        """Whether there were any; they are undone."""
        try:
            self.listener.accept()[0].close()
            called = True
        except BlockingIOError:
            called = False
        made = self.path.exists()
        self.path.unlink(missing_ok=True)
        return called or made


@pytest.fixture
def effects(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield Effects(tmp_path / "ran", listener)


@pytest.fixture
def programs(tmp_path, effects):
    """Configurations that have effects where Hydra instantiates them."""
    ran, (host, port) = effects.path, effects.listener.getsockname()
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Touch(ran)))
    np.save(tmp_path / "evil.npy", np.array([Touch(ran)], dtype=object), allow_pickle=True)
    (tmp_path / "hubconf.py").write_text(f"def evil():\n    open({str(ran)!r}, 'w').close()\n")
    hub = {"repo_or_dir": str(tmp_path), "model": "evil", "source": "local", "trust_repo": True}
    return [
        {"_target_": "torch.load", "f": str(tmp_path / "evil.pkl"), "weights_only": False},
        {"_target_": "numpy.load", "file": str(tmp_path / "evil.npy"), "allow_pickle": True},
        {"_target_": "torch.hub.load", **hub},
        {
            "_target_": "keyframe.files.write_text",
            "path": {"_target_": "pathlib.Path", "_args_": [str(ran)]},
            "text": "",
        },
        {"_target_": "urllib.request.urlopen", "url": f"http://{host}:{port}/", "timeout": 0.2},
    ]


def test_no_program_in_a_checkpoint_runs(old_run, tmp_path, programs, effects):
    best = old_run / "checkpoints" / "best.ckpt"
    config = torch.load(best, weights_only=True)["hyper_parameters"]
    model, data = config["model"], config["datamodule"]
    wheres = itertools.cycle(
        (
            lambda value: {"model": value},
            lambda value: {"model": {**model, "head": value}},
            lambda value: {"model": {**model, "chunk": value, "x": value}},
            lambda value: {"datamodule": {**data, "source": {**data["source"], "root": value}}},
        )
    )
    for program in programs:
        with suppress(Exception):
            instantiate(program)
        assert effects.seen(), program  # it is a live one
        text = f"${{oc.create:{json.dumps(program)}}}"
        partly = {**program, "_partial_": True}
        for value in (program, [program], (program,), {"a": [(program,)]}, text, "${.x}", partly):
            path = changed(best, tmp_path / "a.ckpt", **next(wheres)(value))
            with pytest.raises(KeyframeError, match=r"^[^\n]*a\.ckpt [^\n]*\.$"):
                load_run(path, trust=True)
        assert not effects.seen()


def test_a_file_does_not_trust_itself(old_run, tmp_path):
    best = old_run / "checkpoints" / "best.ckpt"
    model = torch.load(best, weights_only=True)["hyper_parameters"]["model"]
    own = {**model, "head": {**model["head"], "_target_": "tests.test_runs.OwnHead"}}
    path = changed(best, tmp_path / "a.ckpt", model=own, trust=["tests"])
    with pytest.raises(KeyframeError, match=r"asks for tests\.test_runs\.OwnHead, .* add trust=\[tests\]\.$"):
        load_run(path)


class OwnHead(TemporalHead):
    """A user's own."""


def test_a_run_with_an_own_head(old_run, tmp_path, monkeypatch):
    """It scores as the run whose head it has under another name, from Python and by its detector alone."""
    (tmp_path / "borrowedlib.py").write_text(
        "from keyframe.models.head import TemporalHead\n\nclass Head(TemporalHead):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    best = old_run / "checkpoints" / "best.ckpt"
    model = torch.load(best, weights_only=True)["hyper_parameters"]["model"]
    own = {**model, "head": {**model["head"], "_target_": "borrowedlib.Head"}}
    path = changed(best, tmp_path / "a.ckpt", model=own)
    frames = torch.randint(256, (1, 12, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        for detector in (load_run(path, trust="borrowedlib").detector, load_detector(path, trust=["borrowedlib"])):
            assert type(detector.head).__module__ == "borrowedlib"
            assert torch.equal(detector(frames), load_detector(old_run)(frames))


SAMPLES = [
    *(
        None,
        True,
        -1,
        0,
        1,
        3,
        1.5,
        float("nan"),
        float("inf"),
        10**6,
        10**9,
        2**53,
        2**70,
        "",
        "x",
        "auto",
        "/dev/zero",
    ),
    *([], {}, [[]], [1] * 1000, (1, 2), {1: 2}, b"x", 1j, torch.zeros(2), "${a}", "\x1b[31m", deep(15), deep(300)),
    *({"_target_": f"{one.__module__}.{one.__qualname__}"} for one in (*MODEL_CLASSES, *DATA_CLASSES)),
    *({"_target_": "os.system"}, {"_target_": 3}, {"_target_": "mylib.Head", "_partial_": True}),
]


def places(value, start=()):
    """The path of each part of nested values."""
    found = [start] if start else []
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(child, (*start, key))
    return found


def mutated(config, rng):
    """The configuration with one or two parts changed, and what was done."""
    config, done = copy.deepcopy(config), []
    for _ in range(rng.choice((1, 1, 2))):
        area = rng.choice(("model", "datamodule"))
        *parents, key = rng.choice(places(config[area], (area,)) if area in config else [(next(iter(config)),)])
        part = config
        for parent in parents:
            part = part[parent]
        how = rng.choice(("drop", "replace", "replace", "replace", "wrap", "rename", "add"))
        sample = copy.deepcopy(rng.choice(SAMPLES))
        if how == "drop":
            del part[key]
        elif how == "replace":
            part[key] = sample
        elif how == "wrap":
            part[key] = rng.choice(
                ([part[key]], {"a": part[key]}, {"_target_": "keyframe.models.backbone.NoBackbone", "width": part[key]})
            )
        elif isinstance(part, dict):
            more = (
                "_partial_",
                "_args_",
                "labels",
                "splits",
                "folds",
                "path",
                "width",
                "features",
                "make",
                "weights",
                "new",
            )
            part[rng.choice(more)] = part.pop(key) if how == "rename" else sample
        done.append((how, *parents, key, sample))
    return config, done


def test_a_mutated_run_is_loaded_or_refused_in_one_sentence(old_run, tmp_path):
    best, path = torch.load(old_run / "checkpoints" / "best.ckpt", weights_only=True), tmp_path / "a.ckpt"
    config, rng = best["hyper_parameters"], random.Random(0)
    results = []
    for _ in range(30):
        parts, done = mutated({key: config[key] for key in ("model", "datamodule")}, rng)
        torch.save(
            {
                **best,
                "hyper_parameters": {
                    **{key: config[key] for key in config if key not in ("model", "datamodule")},
                    **parts,
                },
            },
            path,
        )
        try:
            run = load_run(path)
            run.videos("test")
            if run.model.size is not None:
                assert run.detector(torch.zeros(1, 3, 3, 64, 64, dtype=torch.uint8)).shape == (1, 3)
            results.append(True)
        except KeyframeError as error:
            assert "\n" not in str(error), done
            results.append(False)
        except Exception as error:
            raise AssertionError(done) from error
    assert 2 < sum(results) < 25  # both happen
