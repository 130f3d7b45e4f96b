"""Cards are read as they were written; what may come from anywhere is checked before it is believed."""

import json
import random
import shutil
from copy import deepcopy

import numpy as np
import pytest

from keyframe.export.model import Card, card_path, read_card
from keyframe.runs import load_run
from keyframe.types import KeyframeError
from tests.export.build import add_card, changed, sentence, write_torchscript


def test_a_card_is_read_as_it_was_written(exported):
    path, card = exported
    assert read_card(path) == card
    written = json.loads(card_path(path).read_text())
    assert written["input"]["shape"] == ["videos", "frames", 3, 32, 32] and written["input"]["dtype"] == "uint8"


def test_bad_values_are_refused_by_the_names_of_card_and_key(exported):
    path, _ = exported
    good = card_path(path).read_text()
    for words, changes in (
        ("is not the card of ", {"sha256": "0" * 64}),
        ("another version of keyframe: export the model again", {"card": 99}),
        ("not a card of keyframe-export", {"made_by": None}),
        ("size of its Card is None, not tuple[int, int]", {"size": None}),
        ("size of its Card is [True, True], not tuple[int, int]", {"size": [True, True]}),
        ("size of its Card is [32, 32, 3], not", {"size": [32, 32, 3]}),
        ("is damaged (size=1000000 must be", {"size": [1000000, 32]}),
        ("size of its Card is [32.5, 32], not", {"size": [32.5, 32]}),
        ("is damaged (window=-1 must be", {"window": -1}),
        ("window of its Card is 1000000000.0, not int", {"window": 1e9}),
        ("is damaged (window=1000000000 must be", {"window": 10**9}),
        ("is damaged (window=9999 frames of size=(4000, 4000)", {"window": 9999, "size": [4000, 4000]}),
        ("is damaged (format=coreml must be one of", {"format": "coreml"}),
        ("format of its Card is ['onnx'], not str", {"format": ["onnx"]}),
        ("is damaged (sha256=abc must be", {"sha256": "abc"}),
        ("is damaged (backbone='a\\x1b[2J' must be", {"backbone": "a\x1b[2J"}),
        ("config of its Card is [1], not", {"config": [1]}),
        ("parameters of its Card is 3, not", {"parameters": 3}),
        ("is damaged (parameters.total=None must be", {"parameters": {"head": 3}}),
        ("parameters of its Card is {'total': 'many'}, not", {"parameters": {"total": "many"}}),
        ("is damaged (parameters.total=nan must be", {"parameters": {"total": float("nan")}}),
        ("is damaged (file_mb=inf must be", {"file_mb": float("inf")}),
        ("file_mb of its Card is {'0': 0,", {"file_mb": {str(number): number for number in range(1000)}}),
        ("versions of its Card is {'torch': 2}, not", {"versions": {"torch": 2}}),
        ("split of its Card is [3], not", {"split": [3]}),
        ("contains the unresolved value '${oc.env:HOME}'", {"versions": {"torch": "${oc.env:HOME}"}}),
        (
            "contains the unresolved value '${oc.create:{_target_: torch.load}}'",
            {"making": ["${oc.create:{_target_: torch.load}}"]},
        ),
        ("has a number beyond 2^53", {"check": {"frames": 10**400}}),
    ):
        card_path(path).write_text(good)
        changed(path, **changes)
        assert words in sentence(path) and "a.onnx.json" in sentence(path), changes


def test_a_file_is_measured_by_the_split_of_its_run(exported):
    path, _ = exported
    ids = [f"demo-0-{number:03}" for number in range(4)]
    split = {"train": ids[:2], "val": [ids[2]], "test": [ids[3]]}
    assert load_run(path).part_of(ids[0]) == "unknown"
    changed(path, split=split)
    run = load_run(path)
    assert list(run.videos("test")) == [ids[3]] and len(run.videos("new")) == 11 and run.part_of(ids[0]) == "train"
    changed(path, split={**split, "test": ids[:1]})
    with pytest.raises(KeyframeError, match=r"a\.onnx\.json was not loaded: its split is damaged"):
        load_run(path)


def test_what_is_no_card_is_refused(exported):
    path, _ = exported
    for words, content in (
        ("cannot be read as JSON", "no"),
        ("cannot be read as JSON (it is nested too deeply)", "[" * 200_000),
        ("nested too deeply", f'{{"made_by": "keyframe-export", "check": {"[" * 100 + "]" * 100}}}'),
        ("cannot be read as JSON (it is larger than 8 MiB)", f'"{"a" * 2**23}"'),
        ("cannot be read as JSON", b"\xff\xfe\x00"),
        ("not a card of keyframe-export", "[]"),
        ("not a card of keyframe-export", "null"),
        ("another version of keyframe", '{"made_by": "keyframe-export"}'),
    ):
        card_path(path).write_bytes(content if isinstance(content, bytes) else content.encode())
        assert words in sentence(path) and "a.onnx.json" in sentence(path), content[:20]
    card_path(path).unlink()
    card_path(path).symlink_to("/dev/zero")
    assert "a.onnx.json cannot be read as JSON (it is not a file)" in sentence(path)
    card_path(path).unlink()
    assert "a.onnx has no card: put a.onnx.json" in sentence(path)
    path.unlink()
    assert "there is no exported model" in sentence(path)


def test_name_content_and_card_agree(exported, config, tmp_path):
    path, _ = exported
    script = tmp_path / "b.torchscript.pt"
    write_torchscript(script)
    (tmp_path / "c.zip").write_bytes(b"PK\x03\x04 torn")
    for name, source, format, kinds in (
        ("script.onnx", script, "torchscript", ("ONNX", "TorchScript", "TorchScript")),
        ("script.onnx", script, "onnx", ("ONNX", "TorchScript", "ONNX")),
        ("script.pt2", script, "torch_export", ("torch.export", "TorchScript", "torch.export")),
        ("data.pt2", path, "onnx", ("torch.export", "ONNX", "ONNX")),
        ("data.pt", path, "torchscript", ("TorchScript", "ONNX", "TorchScript")),
        ("data.onnx", path, "torch_export", ("ONNX", "ONNX", "torch.export")),
        ("data.bin", path, "onnx", ("another kind", "ONNX", "ONNX")),
        ("torn.pt2", tmp_path / "c.zip", "torch_export", ("torch.export", "a damaged archive", "torch.export")),
        ("card.pt", card_path(path), "torchscript", ("TorchScript", "another kind", "TorchScript")),
    ):
        shutil.copy(source, tmp_path / name)
        add_card(tmp_path / name, config, format)
        by_name, by_content, by_card = kinds
        words = f"it is {by_name} by its name, {by_content} by its content and {by_card} by its card"
        assert words in sentence(tmp_path / name, trust=True)


MUTATIONS = (
    *(None, True, "", "x" * 300, "${.x}", {"_target_": "urllib.request.urlopen"}),
    *(-1, 0, 0.5, 1e9, 10**18, 10**400, float("nan"), float("inf")),
    *([], {}, [[[[]]]], [True, True], {"a": {"b": {"c": []}}}, ["a"] * 30_000),
)


def mutate(card, rng):
    """Change one value, at a random place, in a card."""
    place, key = card, rng.choice([key for key in (*Card.__dataclass_fields__, "made_by", "card") if key in card])
    while isinstance(place[key], (dict, list)) and place[key] and rng.random() < 0.8:
        place = place[key]
        key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
    match rng.choice(("drop", "rename", "replace", "replace", "replace", "nest")):
        case "drop":
            del place[key]
        case "rename" if isinstance(place, dict):
            place[f"{key}_"] = place.pop(key)
        case "nest":
            place[key] = [place[key]]
        case _:
            place[key] = deepcopy(rng.choice(MUTATIONS))


def test_changed_cards_are_refused_or_make_a_model_that_scores(exported, tmp_path):
    path, _ = exported
    good, rng = card_path(path).read_text(), random.Random(0)
    refused = []
    for _ in range(150):
        card = json.loads(good)
        for _ in range(rng.choice((1, 1, 1, 3))):
            mutate(card, rng)
        card_path(path).write_text(json.dumps(card))
        try:
            model = load_run(path).model
        except KeyframeError as error:
            assert "\n" not in str(error) and len(str(error)) < 600
            refused.append(str(error))
        else:
            scores = model.program(np.full((1, 3, 3, *model.size), 51, np.uint8))
            np.testing.assert_allclose(scores, np.full((1, 3), 0.2), atol=1e-6)
    assert 50 < len(refused) < 150
    assert {file.name for file in tmp_path.iterdir()} == {"a.onnx", "a.onnx.json"}
