"""A user's own package, examples/own_package, in every command; and mistakes in own YAML files."""

import json
import shutil
import sys

import numpy as np
import pytest
import yaml

from keyframe.cli.arguments import prepare
from keyframe.config import help_page, own_config_dirs
from keyframe.trust import find_packages
from tests.commands import ROOT, in_process
from tests.data.labelled import FRAMES, write_labelled

OWN = ROOT / "examples" / "own_package"
CONF = OWN / "mylib" / "conf"
SMALL = ("data.size=32", "sampling.frames=8", "trainer=cpu", "logger=csv", "backbone.pretrained=false", "data.folds=3")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A folder of what `mylib.videos.TextSource` reads."""
    root = write_labelled(tmp_path_factory.mktemp("texts"))
    for number, path in enumerate(sorted((root / "videos").iterdir())):
        np.savetxt(path.with_suffix(".txt"), np.random.default_rng(number).random(FRAMES))
    return root


@pytest.mark.full
def test_an_own_package_goes_through_every_command(command, texts, tmp_path):
    named = ("--config-dir", CONF)
    small = (*SMALL, f"data.root={texts}", "finetune.switch_epoch=1", "loss.delta=0.1")
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
    longer = ("trainer.max_epochs=2", "ckpt_path=last", f"hydra.run.dir={run}")
    resumed = command(*named, "experiment=mine", *small, *longer).good()
    assert "after epoch 0" in resumed.out

    mine = (*named, "trust=[mylib]")
    refused = command(f"run={run}", program="keyframe-evaluate").sentence()
    assert "asks for mylib.models.LSTMHead" in refused and "trust=[mylib]" in refused
    runs = f"runs=[{run},{earlier}]"
    command(*mine, runs, "pictures=0", f"hydra.run.dir={tmp_path / 'c'}", program="keyframe-compare").good()
    assert json.loads((tmp_path / "c" / "metrics.json").read_text())
    extract = (f"run={run}", "selection=best_of_each", "selection.seconds=0.4", "reader=grey", "shots=content")
    video = texts / "videos" / "clip0.mp4"
    command(*mine, *extract, video, f"output={tmp_path / 'x'}", program="keyframe-extract").good()
    summary = json.loads((tmp_path / "x" / "clip0" / "summary.json").read_text())
    kinds = [summary["settings"][part]["kind"] for part in ("selection", "reader")]
    assert kinds == ["BestOfEach", "GreyReader"]
    out = tmp_path / "m"
    quick = ("format=torchscript", "repeats=1", f"hydra.run.dir={out}")
    command(*mine, f"run={run}", *quick, program="keyframe-export").good()
    assert list(out.glob("*.pt"))


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
"""
MISTAKES = {
    "no such package": (
        ["head=mine", "head._target_=nolib.Head"],
        ["head._target_", "nolib.Head is in no", "PYTHONPATH"],
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
    "source": (["data.source._target_=ownlib.Source"], ["data.source: Source is no data source", "prepare()"]),
    "reader": (["reader._target_=builtins.dict"], ["reader: dict is no reader", "VideoReader"]),
    "option": (["head=mien"], ["head=mien is not there", "mine"]),
    "name of ours": (["head=dual"], ["head/dual.yaml would never be read", "rename it"]),
    "no directory": (["hydra.searchpath=[nowhere]"], ["there is no directory nowhere"]),
    "broken YAML": (["head=broken"], ["broken.yaml is no YAML file", "line 2"]),
}


@pytest.mark.parametrize(("arguments", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_own_yaml_files_is_one_sentence(texts, tmp_path, monkeypatch, arguments, words):
    (tmp_path / "ownlib.py").write_text(HEADS)
    (tmp_path / "brokenlib.py").write_text("def")
    (tmp_path / "conf" / "head").mkdir(parents=True)
    (tmp_path / "conf" / "head" / "mine.yaml").write_text("_target_: ownlib.TwoD\n_partial_: true\n")
    (tmp_path / "conf" / "head" / "broken.yaml").write_text("a: [1\nb: }\n")
    if "head=dual" in arguments:
        (tmp_path / "conf" / "head" / "dual.yaml").write_text("layers: 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    search = [] if any("searchpath" in argument for argument in arguments) else ["--config-dir=conf"]
    small = (*SMALL, "data=labelled", f"data.root={texts}", "loss=spearman")
    sentence = in_process("train", *search, *small, *arguments, run_dir=tmp_path / "run")
    sys.modules.pop("ownlib", None)
    missing = [word for word in words if word not in sentence]
    assert not missing and "\n" not in sentence, f"{missing} not in: {sentence}"
