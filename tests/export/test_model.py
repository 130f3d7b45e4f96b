"""Exported files are known by their cards, and score videos; damaged ones are refused."""

import json
import sys

import numpy as np
import pytest
import torch

from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.sampling import average_windows
from keyframe.export.model import (
    Card,
    ExportedModel,
    card_path,
    load_exported,
    load_program,
    read_card,
    require_packages,
    write_card,
)
from keyframe.files import file_hash
from keyframe.runs import load_run
from keyframe.types import KeyframeError
from tests.videos import write_video


@pytest.fixture
def exported(old_run, tmp_path):
    """A file of bytes that no library reads, and its card."""
    path = tmp_path / "a.onnx"
    path.write_bytes(b"a program")
    config = torch.load(old_run / "checkpoints" / "best.ckpt", weights_only=True)["hyper_parameters"]
    values = {"parameters": {"total": 7.0}, "file_mb": 0.1, "making": {}, "check": {}, "versions": {}}
    card = Card("onnx", file_hash(path), "0" * 64, "resnet50", (32, 32), 12, config=config, **values)
    write_card(path, card)
    return path, card


@pytest.fixture
def any_program(monkeypatch):
    """Every file computes the mean of each frame."""

    def program(frames):
        return frames.mean((2, 3, 4)).astype(np.float32) / 255

    monkeypatch.setattr("keyframe.export.model.load_program", lambda *_: program)
    return program


def changed(path, **changes):
    """Write the card of a file again with other values; None leaves one out."""
    card = {**json.loads(card_path(path).read_text()), **changes}
    card_path(path).write_text(json.dumps({name: value for name, value in card.items() if value is not None}))


def test_a_card_is_read_as_it_was_written(exported):
    path, card = exported
    assert read_card(path) == card
    told = json.loads(card_path(path).read_text())
    assert told["input"]["shape"] == ["videos", "frames", 3, 32, 32] and told["input"]["dtype"] == "uint8"


def test_bad_cards_are_refused(exported):
    path, _ = exported
    good = card_path(path).read_text()
    for words, changes in (
        ("the card of another file than .*a.onnx", {"sha256": "0" * 64}),
        ("another version of keyframe: export the model again", {"card": 99}),
        ("a.onnx.json is damaged .*size.*: export the model again", {"size": None}),
        ("a.onnx.json is damaged .*size or window", {"window": -1}),
        ("a.onnx.json is damaged .*format", {"format": "coreml"}),
        ("a.onnx.json is damaged .*config", {"config": [1]}),
        ("not a card of keyframe-export", {"made_by": None}),
    ):
        card_path(path).write_text(good)
        changed(path, **changes)
        with pytest.raises(KeyframeError, match=words):
            load_exported(path)
    card_path(path).write_text("no")
    with pytest.raises(KeyframeError, match="not a card of keyframe-export"):
        load_exported(path)
    card_path(path).unlink()
    with pytest.raises(KeyframeError, match=r"a\.onnx has no card: put a\.onnx\.json"):
        load_exported(path)
    path.unlink()
    with pytest.raises(KeyframeError, match="there is no exported model"):
        load_exported(path)


def test_a_card_stands_for_its_run_also_with_names_of_older_versions(exported, any_program):
    path, card = exported
    assert "sources.DemoSource" in json.dumps(card.config["datamodule"])
    run = load_run(path)
    assert run.name == "resnet50 (onnx)" and run.frame_shape == (12, 32, 32) and len(run.videos("test")) == 3
    assert run.sizes == {"params_total": 7.0, "weights_mb": path.stat().st_size / 1e6}
    assert run.recipe["format"] == "onnx" and run.model.description["file_sha256"] == card.sha256
    with pytest.raises(KeyframeError, match="which holds no checkpoint"):
        _ = run.detector
    with pytest.raises(KeyframeError, match="computes on the CPU"):
        run.to("cuda")
    changed(path, config={**card.config, "datamodule": {"_target_": "os.system", "command": "true"}})
    with pytest.raises(KeyframeError, match=r"was not loaded: it asks for os\.system"):
        load_run(path)


def test_an_exported_model_scores_windows_of_any_video(exported, any_program, tmp_path):
    path, card = exported
    index = index_packets(write_video(tmp_path / "a.mp4", frames=300))
    frames = np.arange(0, 300, 2)
    own = PyAVReader().read(index.path, frames, card.size, index).pixels.mean((1, 2, 3)) / 255
    for window in (12, None):
        model = ExportedModel(path, Card(**{**vars(card), "window": window}), any_program)
        scores = model.score_frames(index, frames, PyAVReader())
        np.testing.assert_allclose(scores, average_windows(lambda places: own[places], 150, window), atol=1e-6)


def test_damaged_files_are_refused(exported):
    path, _ = exported
    for format in ("torchscript", "torch_export", "onnx"):
        with pytest.raises(KeyframeError, match=r"a.onnx cannot be loaded .*export the model again"):
            load_program(path, format)


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(KeyframeError, match=rf"{package}.*pip install 'keyframe\[onnx\]'"):
                require_packages()
