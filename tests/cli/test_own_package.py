"""A user's own package, examples/own_package, in every command; and mistakes in own YAML files."""

import json
import shutil
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from keyframe.cli.arguments import prepare
from keyframe.config import help_page, own_config_dirs
from keyframe.trust import find_packages
from tests.commands import BACKBONE, ROOT, in_process
from tests.data.labelled import FRAMES, write_labelled

OWN = ROOT / "examples" / "own_package"
CONF = OWN / "mylib" / "conf"
ONE = ("trainer.max_epochs=1", "finetune=frozen", "callbacks.curves=null")
SMALL = ("data.size=32", "sampling.frames=8", "trainer=cpu", "logger=csv", "backbone.pretrained=false", "data.folds=3")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A folder of what `mylib.videos.TextSource` reads."""
    root = write_labelled(tmp_path_factory.mktemp("texts"))
    for number, path in enumerate(sorted((root / "videos").iterdir())):
        np.savetxt(path.with_suffix(".txt"), np.random.default_rng(number).random(FRAMES))
    return root


@pytest.fixture
def found(monkeypatch):
    """The package is found, as a real command finds it around its YAML files; forgotten afterwards."""
    monkeypatch.syspath_prepend(str(OWN))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylib"]:
        del sys.modules[name]


@pytest.mark.full
def test_an_own_package_goes_through_every_command(command, texts, found, tmp_path):
    named = ("--config-dir", CONF)
    small = (*SMALL, f"data.root={texts}", "finetune.switch_epoch=1", "loss.delta=0.1", "callbacks.curves=null")
    sweep = tmp_path / "sweep"
    start = ("-m", *named, "experiment=mine", *small, "trainer.max_epochs=1", f"hydra.sweep.dir={sweep}")
    done = command(*start).good()
    run = sweep / "0"
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["backbone"]["name"] == "resnet18" and config["backbone"]["tail"] == ["layer4", "global_pool"]
    assert config["head"]["_target_"] == "mylib.models.LSTMHead" and config["loss"]["delta"] == 0.1

    # the sweep remembers its directory of YAML files
    earlier = shutil.move(run, tmp_path / "earlier")
    assert "trust=true" in done.out
    command(f"sweep.resume={sweep}", "trust=true").good()
    assert (run / "metrics.json").is_file()

    def task(program, *arguments, place=None):
        return in_process(program, *named, *arguments, run_dir=place or tmp_path / program)

    longer = ("experiment=mine", *small, "trainer.max_epochs=2", "ckpt_path=last")
    assert task("train", *longer, place=run) == ""
    assert [path.name for path in sorted(run.glob("csv*"))] == ["csv", "csv-2"]  # it went on, in stage 2
    refused = task("evaluate", f"run={run}")
    assert "asks for mylib.models.LSTMHead" in refused and "trust=[mylib]" in refused
    trust, video = "trust=[mylib]", texts / "videos" / "clip0.mp4"
    assert task("evaluate", trust, f"run={run}", "pictures=0") == ""
    quick = ("pictures=0", "speed.videos=[1]", "speed.repeats=1", "memory.videos=[]")
    assert task("compare", trust, f"runs=[{run},{earlier}]", *quick) == ""
    for program in ("evaluate", "compare"):
        assert json.loads((tmp_path / program / "metrics.json").read_text())
    extract = ("selection=best_of_each", "selection.seconds=0.4", "reader=grey", "workers=1")
    assert task("extract", trust, f"run={run}", *extract, video, f"output={tmp_path / 'x'}") == ""
    summary = json.loads((tmp_path / "x" / "clip0" / "summary.json").read_text())
    kinds = [summary["settings"][part]["kind"] for part in ("selection", "reader")]
    assert kinds == ["BestOfEach", "GreyReader"]
    stills = [np.asarray(Image.open(tmp_path / "x" / "clip0" / one["file"])) for one in summary["keyframes"]]
    assert stills and all(np.ptp(still, axis=-1).max() <= 2 and still.std() > 1 for still in stills)
    own = ("backbone=resnet18", "backbone.pretrained=false", "reader=grey", "size=32")
    assert task("features", *own, video, f"out={tmp_path / 'a.h5'}") == ""
    assert task("export", trust, f"run={run}", "format=torchscript", "repeats=1") == ""
    assert list((tmp_path / "export").glob("*.pt"))


def test_a_package_comes_from_a_folder_only_if_it_is_named_and_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = list(sys.path)
    for name in ("named", "other", "torch"):
        (tmp_path / f"{name}.py").touch()
    find_packages(["torch.nn", "json", "not_there.x"], [tmp_path])
    assert sys.path == before
    find_packages(["named.Head"], [tmp_path / "nowhere", tmp_path])
    assert sys.path == [*before, str(tmp_path)]


def test_every_backbone_file_of_a_user_comes_before_timm(tmp_path):
    (tmp_path / "backbone").mkdir()
    (tmp_path / "backbone" / "convnext.yaml").touch()
    for given in (["--config-dir", str(tmp_path)], [f"--config-dir={tmp_path}"], [f"hydra.searchpath=[{tmp_path}]"]):
        for sweep in ([], ["-m"]):
            path = f"hydra.searchpath=[{tmp_path}]"
            assert prepare([*sweep, *given, "backbone=convnext"]) == [*sweep, path, "backbone=convnext"]
            timm = [*sweep, path, "backbone=timm", "backbone.name=resnet18"]
            assert prepare([*sweep, *given, "backbone=resnet18"]) == timm
    assert prepare(["-m", "backbone=resnet18,resnet34"]) == ["-m", "backbone=timm", "backbone.name=resnet18,resnet34"]
    mixed = ["-m", "backbone=resnet50,efficientnet_b0"]
    assert prepare(mixed) == mixed


def test_directories_of_yaml_files_are_made_absolute(tmp_path, monkeypatch):
    (tmp_path / "conf").mkdir()
    monkeypatch.chdir(tmp_path)
    assert own_config_dirs(["-cd", "conf", "a=1", "hydra.searchpath=[file://conf]"]) == (["a=1"], [tmp_path / "conf"])
    monkeypatch.chdir(OWN)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert own_config_dirs(["hydra.searchpath=[pkg://mylib.conf]"])[1] == [CONF]


def test_an_installed_plugin_adds_its_directory_by_itself(tmp_path, monkeypatch):
    shutil.copytree(OWN / "mylib", tmp_path / "someplugin")
    info = tmp_path / "someplugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: someplugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[keyframe.plugins]\nsomeplugin = someplugin\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert prepare(["backbone=resnet18"]) == ["backbone=resnet18"]
    page = help_page("train", ["head=lstm"])
    assert "[lstm]" in page and "head=lstm: A bidirectional LSTM." in page and "someplugin" not in sys.modules


HEADS = """
import torch
from torch import nn
from keyframe.training.losses import VideoLoss
from keyframe.types import LabelledVideo

class Mean(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.linear = nn.Linear(features, 1)

class TwoD(Mean):
    def forward(self, features, mask=None):
        return self.linear(features)

class NoMask(Mean):
    def forward(self, features):
        return self.linear(features).sigmoid().squeeze(-1)

class Unbounded(Mean):
    def forward(self, features, mask=None):
        return features.mean(-1)

class NoFeatures(nn.Module):
    def __init__(self, width):
        super().__init__()

class Source:
    def __init__(self, **settings):
        pass

def loss(scores, targets):
    return scores.mean()

class PerFrame(nn.Module):
    def forward(self, scores, targets, mask):
        return (scores - targets).abs()

class PerVideo(VideoLoss):
    def per_video(self, scores, targets, mask):
        return scores - targets

class Good(Mean):
    def forward(self, features, mask=None):
        return self.linear(features).sigmoid().squeeze(-1)

class Detached(Good):
    def forward(self, features, mask=None):
        return super().forward(features, mask).detach()

class SeesPadding(Good):
    def forward(self, features, mask=None):
        return super().forward(features + features.mean(1, keepdim=True), mask)

class Raises(Good):
    def __init__(self, features):
        {}["key"]

class RaisesLater(Good):
    def forward(self, features, mask=None):
        return super().forward(features, mask) if features.shape[1] < 4 else self.nothing

class NaN(VideoLoss):
    def per_video(self, scores, targets, mask):
        return scores.mean(-1) * float("nan")

def late(done):
    return -1 if done > 0.5 else 1

def no_optimizer(groups, lr, weight_decay):
    return None

class Videos:
    def __init__(self, **settings):
        pass

    def prepare(self):
        pass

    def videos(self):
        return []

class Raising(Videos):
    def videos(self):
        return [LabelledVideo("a", "a.mp4", None)]
"""
MISTAKES = {
    "no such package": (
        ["head=mine", "head._target_=nolib.Head"],
        ["head._target_", "nolib.Head is not in an installed package", "PYTHONPATH"],
    ),
    "no such class": (["head=mine", "head._target_=ownlib.Hed"], ["head._target_", "ownlib.Hed is not in ownlib"]),
    "broken module": (["head=mine", "head._target_=brokenlib.Head"], ["importing brokenlib.Head fails", "SyntaxError"]),
    "no features": (["head=mine", "head._target_=ownlib.NoFeatures"], ["head cannot be built", "with `features`"]),
    "no partial": (["head=mine", "head._partial_=false"], ["head", "features", "_partial_: true"]),
    "shape": (["head=mine", "head._target_=ownlib.TwoD"], ["TwoD gives (2, 3, 1)", "(B, T)"]),
    "no mask": (["head=mine", "head._target_=ownlib.NoMask"], ["NoMask fails", "mask (B, T)"]),
    "scores": (["head=mine", "head._target_=ownlib.Unbounded"], ["Unbounded gives scores from -", "[0, 1]"]),
    "argument": (["head=mine", "+head.widht=3"], ["head", "widht"]),
    "text for null": (["head.encoder_window=None"], ["head.encoder_window", "null"]),
    "loss of two": (["~loss.temperature", "loss._target_=ownlib.loss"], ["loss", "_partial_: true"]),
    "partial loss of two": (
        ["~loss.temperature", "loss._target_=ownlib.loss", "+loss._partial_=true"],
        ["loss: loss fails", "mask, each (B, T)"],
    ),
    "loss per frame": (["~loss.temperature", "loss._target_=ownlib.PerFrame"], ["PerFrame gives (2, 3)", "a scalar"]),
    "loss without its argument": (["loss._target_=torch.nn.MSELoss"], ["loss", "temperature"]),
    "source": (["data.source._target_=ownlib.Source"], ["data.source: Source is not a data source", "prepare()"]),
    "reader": (["reader._target_=builtins.dict"], ["reader: dict is not a reader", "VideoReader"]),
    "option": (["head=mien"], ["head=mien does not exist", "mine"]),
    "name of ours": (["--config-dir=ours"], ["head/dual.yaml would never be read", "rename it"]),
    "no directory": (["hydra.searchpath=[nowhere]"], ["there is no directory nowhere"]),
    "half a list": (
        ["hydra.searchpath=[a"],
        ["hydra.searchpath=[a cannot be read (no viable alternative at input '[a')"],
    ),
    "broken YAML": (["head=broken"], ["broken.yaml is not a YAML file", "line 2"]),
    "loss per frame of a video": (
        ["~loss.temperature", "loss._target_=ownlib.PerVideo"],
        ["PerVideo gives (2, 3) for two videos"],
    ),
    "no gradient": (["head=mine", "head._target_=ownlib.Detached"], ["Detached gives scores without a gradient"]),
    "padding": (["head=mine", "head._target_=ownlib.SeesPadding"], ["SeesPadding", "padded", "use the mask"]),
    "own error": (
        ["head=mine", "head._target_=ownlib.Raises"],
        ["ownlib.py, line ", "in __init__, fails (KeyError: 'key')", "HYDRA_FULL_ERROR=1"],
    ),
    "own error in training": (
        ["head=mine", "head._target_=ownlib.RaisesLater", *ONE],
        ["ownlib.py, line ", "in forward, fails (AttributeError: 'RaisesLater' object has no attribute 'nothing')"],
    ),
    "NaN": (["~loss.temperature", "loss._target_=ownlib.NaN", *ONE], ["scores that are not numbers, in epoch 0"]),
    "late schedule": (["scheduler._target_=ownlib.late"], ["scheduler: a schedule is a function", "0 or more"]),
    "no optimizer": (["optimizer._target_=ownlib.no_optimizer", *ONE], ["optimizer: a NoneType was made"]),
    "no videos": (["data.source._target_=ownlib.Videos"], ["videos() of Videos gives no list of keyframe.types"]),
    "own error in a source": (
        ["data.source._target_=ownlib.Raising"],
        ["in videos, fails (ValueError: path of a video must be a Path, not a str)"],
    ),
    "callback": (["+callbacks.mine._target_=ownlib.Videos"], ["callbacks.mine: Videos is not a Callback of Lightning"]),
    "logger": (["+logger.mine._target_=ownlib.Videos"], ["logger.mine: Videos is not a Logger of Lightning"]),
}
# What a YAML file holds -> what is said of the option of its name.
HEAD = "_target_: ownlib.Good\n_partial_: true\n"
TEXTS = {
    ("head/a.yaml", "width: 3\n"): ["head names no class", "head._target_, PACKAGE.CLASS"],
    ("head/a.yaml", ""): ["head names no class"],
    ("head/a.yaml", "_target_: ownlib:Good\n"): ["head names no class"],
    ("head/a.yaml", "_target_: ownlib.torch\n"): ["head cannot be built", "of type 'module'"],
    ("head/a.yaml", "_target_: os.system\n"): ["head cannot be built", "blocklisted"],
    ("head/a.yaml", HEAD.replace("true", "perhaps")): ["head cannot be built", "_partial_ flag must be a bool"],
    ("head/a.yaml", HEAD + "\tb: 1\n"): ["a.yaml is not a YAML file", "line 3"],
    ("head/a.yaml", HEAD + "b: 1\nb: 2\n"): ["a.yaml is not a YAML file: found duplicate key b in line 4"],
    ("head/a.yaml", HEAD + "b: \0\n"): ["a.yaml is not a YAML file", "not allowed", "character"],
    ("head/a.yaml", HEAD + "# caf\udce9\n"): ["a.yaml is not UTF-8 text (byte 43)"],
    ("head/a.yml", HEAD): ["a.yml would never be read: give it the suffix .yaml"],
    ("head/a.yaml", HEAD + "b: ${head.c}\nc: ${head.b}\n"): ["head.b: Recursive interpolation detected."],
    ("head/a.yaml", HEAD + "b: ${there.is.none}\n"): ["head.b: Interpolation key 'there.is.none' not found."],
    ("head/a.yaml", HEAD + "b: ${eval:1}\n"): ["head.b: Unsupported interpolation type eval."],
    ("head/a.yaml", HEAD + "b: ${c\n"): ["b: ", "${c"],
    ("head/a.yaml", HEAD + "b: ???\n"): ["head.b is not set"],
    ("head/a.yaml", "defaults: base\n" + HEAD): ["'head/a'", "defaults must be a list", "[NAME, _self_]"],
    ("head/a.yaml", "defaults: [a]\n" + HEAD): ["the `defaults` of a YAML file name the file itself"],
    ("head/a.yaml", "defaults: [gone]\n" + HEAD): ["'head/a': Could not load 'head/gone'"],
    ("head/a.yaml", HEAD + "widht: 3\n"): ["head", "widht"],
    ("experiment/a.yaml", "seed: 1\n"): ["experiment=...", "`# @package _global_` as its first line"],
    ("experiment/a.yaml", "# @package _global_\noptimzer: {lr: 1}\n"): ["no key optimzer: did you mean optimizer?"],
    ("experiment/a.yaml", "# @package _global_\ndata: {folsd: 2}\n"): ["no key data.folsd: did you mean data.fold"],
    ("experiment/a.yaml", "# @package _global_\nhead: dual\n"): ["head=dual", "`override /head: NAME`"],
    ("experiment/a.yaml", "# @package _global_\ntune: null\n"): ["tune=None would drop the keys below tune"],
    ("experiment/a.yaml", "# @package _global_\nmodel: null\n"): ["model=None would drop the keys below model"],
    ("experiment/a.yaml", "# @package _global_\ndefaults: [override /haed: dual]\n"): ["override 'haed'. No match"],
    ("callbacks/a.yaml", "defaults: [default, _self_]\nb: {every: 1}\n"): ["callbacks.b names no class"],
    ("logger/a.yaml", "_target_: ownlib.Videos\n"): ["logger names no class", "logger.NAME._target_"],
}


@pytest.mark.parametrize(("file", "text"), TEXTS)
def test_what_is_wrong_in_a_yaml_file_is_one_sentence(texts, tmp_path, monkeypatch, file, text):
    (tmp_path / "ownlib.py").write_text(HEADS)
    place = tmp_path / "conf" / file
    place.parent.mkdir(parents=True)
    place.write_text(text, errors="surrogateescape")
    monkeypatch.syspath_prepend(str(tmp_path))
    given = ("--config-dir", place.parents[1], *SMALL, *BACKBONE, "data=labelled", f"data.root={texts}")
    sentence = in_process("train", *given, f"{place.parent.name}={place.stem}", run_dir=tmp_path / "run")
    sys.modules.pop("ownlib", None)
    missing = [word for word in TEXTS[file, text] if word not in sentence]
    assert not missing and "\n" not in sentence, f"{missing} not in: {sentence}"


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory):
    """A folder of packages, and of YAML files that name their classes."""
    place = tmp_path_factory.mktemp("mistakes")
    (place / "ownlib.py").write_text(HEADS)
    (place / "brokenlib.py").write_text("def")
    (place / "conf" / "head").mkdir(parents=True)
    (place / "conf" / "head" / "mine.yaml").write_text("_target_: ownlib.TwoD\n_partial_: true\n")
    (place / "conf" / "head" / "broken.yaml").write_text("a: [1\nb: }\n")
    (place / "ours" / "head").mkdir(parents=True)
    (place / "ours" / "head" / "dual.yaml").write_text("layers: 1\n")
    return place


@pytest.mark.parametrize(("arguments", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_own_yaml_files_is_one_sentence(texts, mistakes, tmp_path, monkeypatch, arguments, words):
    monkeypatch.syspath_prepend(str(mistakes))
    monkeypatch.chdir(mistakes)
    search = [] if any("searchpath" in one or "ours" in one for one in arguments) else ["--config-dir=conf"]
    small = (*SMALL, *BACKBONE, "data=labelled", f"data.root={texts}", "loss=spearman")
    sentence = in_process("train", *search, *small, *arguments, run_dir=tmp_path / "run")
    sys.modules.pop("ownlib", None)
    missing = [word for word in words if word not in sentence]
    assert not missing and "\n" not in sentence, f"{missing} not in: {sentence}"
