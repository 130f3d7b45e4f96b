"""keyframe-export as a user runs it, and its files as models of the other commands."""

import csv
import hashlib
import json
import shutil

import numpy as np
import onnx
import pytest
import torch

import keyframe
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.sampling import FpsSampling
from keyframe.runs import load_run
from tests.commands import ROOT, TINY, cold, script
from tests.videos import write_video

FILES = {
    "torchscript": "test_efficientnet.torchscript.pt",
    "torch_export": "test_efficientnet.pt2",
    "onnx": "test_efficientnet.onnx",
    "onnx_int8": "test_efficientnet.int8.onnx",
}
FLOAT = [format for format in FILES if format != "onnx_int8"]
# The parity that the requirements ask of fp32.
PARITY = 1e-4


@pytest.fixture(scope="module")
def export(command):
    return lambda *arguments, **changes: command(*arguments, program="keyframe-export", **changes)


@pytest.fixture(scope="module")
def exported(export, old_run, tmp_path_factory):
    """What the command says, and a folder of all formats."""
    out = tmp_path_factory.mktemp("exported") / "out"
    done = export(f"run={old_run}", "calibration.videos=2", "repeats=1", f"hydra.run.dir={out}").good()
    return done, out


def card_of(path):
    return json.loads(path.with_name(f"{path.name}.json").read_text())


def per_video(out):
    with (out / "per_video.csv").open() as file:
        return list(csv.DictReader(file))


def test_all_files_their_cards_and_the_table(exported, old_run):
    done, out = exported
    written = {path.name for path in out.glob("test_efficientnet*")}
    assert written == {name for file in FILES.values() for name in (file, f"{file}.json")}
    assert not [path for path in out.iterdir() if path.name.startswith(".test_efficientnet")]
    assert done.err == ""
    assert done.out.count("TorchScript") == 1 and "Warning" not in done.out
    for format, file in FILES.items():
        card = card_of(out / file)
        assert card["format"] == format and file in done.out
        assert card["sha256"] == hashlib.sha256((out / file).read_bytes()).hexdigest()
        best = (run / "checkpoints" / "best.ckpt").read_bytes()
        assert card["checkpoint_sha256"] == hashlib.sha256(best).hexdigest()
        assert card["input"]["shape"] == ["videos", "frames", 3, 32, 32] and card["input"]["dtype"] == "uint8"
        assert card["window"] == 12 and card["config"]["sampling"]["frames"] == 12
        assert card["file_mb"] == pytest.approx((out / file).stat().st_size / 1e6)
        assert len(card["check"]["videos"]) == 3 and card["check"]["split"] == "test"
        assert torch.__version__.startswith(card["versions"]["torch"].split("+")[0])
    assert all(card_of(out / FILES[format])["check"]["largest_difference"] <= PARITY for format in FLOAT)


def test_int8_is_calibrated_on_training_videos_only_and_computes_in_int8(exported, old_run):
    path = exported[1] / FILES["onnx_int8"]
    check, calibration = card_of(path)["check"], card_of(path)["making"]["calibration"]
    train = set(load_run(old_run).videos("train"))
    assert calibration["split"] == "train" and len(calibration["videos"]) == 2
    assert set(calibration["videos"]) <= train and not set(check["videos"]) & train
    graph = onnx.load(path).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    restored = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert convolutions and all(kinds[restored[node.input[1]]] == onnx.TensorProto.INT8 for node in convolutions)
    assert check["spearman_change_lo"] <= check["spearman_change"] <= check["spearman_change_hi"]


@pytest.mark.parametrize("format", FILES)
def test_a_fresh_process_without_keyframe_gives_the_same_scores(exported, old_run, format, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (2, 12, 3, 32, 32), dtype=np.uint8)
    np.save(tmp_path / "frames.npy", frames)
    shutil.copy(ROOT / "examples" / "run_exported.py", tmp_path)
    path = exported[1] / FILES[format]
    arguments = ["run_exported.py", str(path), "frames.npy", "scores.npy"]
    cold(arguments, tmp_path, PYTHONPATH="").good()
    with torch.inference_mode():
        own = load_run(old_run).detector(torch.from_numpy(frames)).numpy()
    scores = np.load(tmp_path / "scores.npy")
    if format == "onnx_int8":
        own = load_run(path).model.program(frames)
    np.testing.assert_allclose(scores, own, rtol=0, atol=PARITY)
    text = (tmp_path / "run_exported.py").read_text()
    assert "import keyframe" not in text and "from keyframe" not in text


def test_a_table_of_the_run_and_of_all_its_files(command, exported, old_run, tmp_path):
    out = tmp_path / "out"
    entries = f"runs=[{','.join(map(str, [old_run, *(exported[1] / file for file in FILES.values())]))}]"
    quick = ("speed.videos=[1]", "speed.repeats=1", "memory.videos=[]", "pictures=0")
    command(entries, *quick, f"hydra.run.dir={out}", program="keyframe-compare").good()
    metrics = json.loads((out / "metrics.json").read_text())
    own = "test_efficientnet"
    for format, file in FILES.items():
        name = f"{own} ({format})"
        assert metrics[f"{name}/weights_mb"] == pytest.approx((exported[1] / file).stat().st_size / 1e6)
        assert metrics[f"{name}/params_total"] == metrics[f"{own}/params_total"]
        assert metrics[f"{name}/seconds_1"] > 0
        assert np.isfinite(metrics[f"{name}/test/spearman"])
    rows = {(row["model"], row["video"]): row for row in per_video(out)}
    assert len(rows) == 15
    for (model, video), row in rows.items():
        if "int8" not in model:
            for name in ("annotator_kendall", "spearman", "f1_user_mean", "mse"):
                assert float(row[name]) == pytest.approx(float(rows[own, video][name]), abs=2e-3), (model, video)


def test_evaluation_of_a_file(command, exported, tmp_path):
    command(
        f"run={exported[1] / FILES['onnx']}", f"hydra.run.dir={tmp_path / 'out'}", program="keyframe-evaluate"
    ).good()
    assert len(per_video(tmp_path / "out")) == 3
    assert "test_efficientnet (onnx)" in (tmp_path / "out" / "report.txt").read_text()


def test_python_takes_a_file(exported, old_run, tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=300)
    video = keyframe.score_video(path, keyframe.load_exported(str(exported[1] / FILES["onnx"])))
    assert video.scored_by == "an exported model, test_efficientnet (onnx)"
    own = keyframe.score_video(path, keyframe.load_run(old_run))
    np.testing.assert_allclose(video.scores, own.scores, rtol=0, atol=PARITY)


def test_extraction_by_onnx_needs_no_torch(command, exported, old_run, tmp_path):
    # twelve seconds: 24 frames at two a second, so two windows of twelve
    video = write_video(tmp_path / "a.mp4", frames=300)
    code = (
        "import sys\nfrom keyframe.cli.main import extract\nextract()\n"
        "print('TORCH:', *[name for name in ('torch', 'pytorch_lightning', 'timm') if name in sys.modules])"
    )
    out = tmp_path / "found"
    arguments = [str(video), f"run={exported[1] / FILES['onnx']}", f"output={out}", "workers=1"]
    done = cold(["-c", code, *arguments], tmp_path).good()
    assert done.out.splitlines()[-1].strip() == "TORCH:"
    summary = json.loads((out / "a" / "summary.json").read_text())
    assert summary["scorer"]["kind"] == "exported" and "onnxruntime" in summary["versions"]
    with (out / "a" / "scores.csv").open() as file:
        scores = [float(row["score"]) for row in csv.DictReader(file)]
    index = index_packets(video)
    own = load_run(old_run).scorer.score_frames(index, FpsSampling(2.0).indices(index), PyAVReader())
    assert len(scores) == 24
    np.testing.assert_allclose(scores, own, rtol=0, atol=PARITY)


def damaged(path, **changes):
    """Write the card of a file anew with other values; None leaves one out."""
    card = {**card_of(path), **changes}
    place = path.with_name(f"{path.name}.json")
    place.write_text(json.dumps({name: value for name, value in card.items() if value is not None}))


def card_missing(path):
    path.with_name(f"{path.name}.json").unlink()
    return "has no card", path.name, f"{path.name}.json"


def card_of_another_file(path):
    damaged(path, sha256="0" * 64)
    return "the card of another file", path.name


def card_of_another_version(path):
    damaged(path, card=99)
    return "another version of keyframe", "export the model again"


def card_with_a_part_missing(path):
    damaged(path, window=None, size=None)
    return "is damaged", "size", "export the model again"


def card_that_is_no_json(path):
    path.with_name(f"{path.name}.json").write_text("no")
    return "not a card of keyframe-export"


def card_that_asks_for_code(path):
    config = card_of(path)["config"]
    config["datamodule"] = {"_target_": "os.system", "command": "true"}
    damaged(path, config=config)
    return "was not loaded", "os.system"


def a_file_of_noise(path):
    path.write_bytes(b"noise")
    damaged(path, sha256=hashlib.sha256(b"noise").hexdigest())
    return "cannot be loaded", path.name


CARDS = (
    *(card_missing, card_of_another_file, card_of_another_version, card_with_a_part_missing, card_that_is_no_json),
    *(card_that_asks_for_code, a_file_of_noise),
)


@pytest.mark.parametrize("spoil", CARDS, ids=lambda spoil: spoil.__name__)
def test_bad_files_and_cards(command, exported, spoil, tmp_path):
    for name in (FILES["onnx"], f"{FILES['onnx']}.json"):
        shutil.copy(exported[1] / name, tmp_path)
    words = spoil(tmp_path / FILES["onnx"])
    done = command(f"run={tmp_path / FILES['onnx']}", program="keyframe-evaluate")
    sentence = done.sentence()
    assert all(word in sentence for word in ([words] if isinstance(words, str) else words)), sentence


BAD = {
    "unknown format": (["format=coreml"], ["format=coreml is none of torchscript, torch_export, onnx, onnx_int8"]),
    "no format": (["format=[]"], ["format=[] names none"]),
    "opset": (["opset=9"], ["opset=9 is not supported", "18 to 23"]),
    "empty calibration set": (["calibration.videos=0"], ["calibration.videos=0 must be a whole number from 1"]),
    "no run": (["run=/no/where"], ["run=/no/where: there is no checkpoint"]),
    "misspelled": (["formt=onnx"], ["no key formt", "did you mean format"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(export, old_run, case, tmp_path):
    arguments, words = BAD[case]
    given = [f"run={old_run}"] if not any(one.startswith("run=") for one in arguments) else []
    sentence = export(*given, *arguments, f"hydra.run.dir={tmp_path / 'out'}").sentence()
    assert all(word in sentence for word in words), sentence
    assert not list(tmp_path.glob("out/*.onnx*"))


def test_what_has_no_model_to_export(export, exported, old_run, tmp_path):
    empty = tmp_path / "empty"
    (empty / "checkpoints").mkdir(parents=True)
    assert "there is no checkpoint" in export(f"run={empty}").sentence()
    assert "which holds no checkpoint" in export(f"run={exported[1] / FILES['onnx']}").sentence()
    again = export(f"run={old_run}", f"hydra.run.dir={exported[1]}")
    assert "holds a run already" in again.out + again.err


def test_training_videos_that_are_gone_are_no_calibration(export, old_run, tiny_demo, tmp_path):
    moved = shutil.copytree(tiny_demo, tmp_path / "moved")
    for video in load_run(old_run).videos("train").values():
        (moved / video.path.relative_to(tiny_demo)).write_bytes(b"")
    sentence = export(f"run={old_run}", f"data.root={moved}", "format=onnx_int8").sentence()
    assert "no video of the train split can be read" in sentence


def test_a_missing_package_is_named_before_anything_is_loaded(old_run, tmp_path):
    (tmp_path / "onnxscript.py").write_text("raise ImportError(name='onnxscript')")
    arguments = [*script("export"), f"run={old_run}", "format=onnx"]
    sentence = cold(arguments, tmp_path, PYTHONPATH=f"{tmp_path}:{ROOT}").sentence()
    assert "onnxscript: pip install 'keyframe[onnx]'" in sentence
