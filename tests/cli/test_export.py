"""keyframe-export as a user runs it, and its files as models of the other commands."""

import csv
import hashlib
import json
import shutil
import socket
import sys

import numpy as np
import onnx
import pytest
import torch

import keyframe
from keyframe.cli.export import export as run_export
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.sampling import FpsSampling
from keyframe.export.model import load_program
from keyframe.pipeline import score_frames
from keyframe.runs import load_run
from keyframe.types import KeyframeError
from tests.commands import ROOT, cold, composed, in_process
from tests.videos import write_video

pytestmark = pytest.mark.full

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
    best = (old_run / "checkpoints" / "best.ckpt").read_bytes()
    for format, file in FILES.items():
        card = card_of(out / file)
        assert card["format"] == format and file in done.out
        assert card["sha256"] == hashlib.sha256((out / file).read_bytes()).hexdigest()
        assert card["checkpoint_sha256"] == hashlib.sha256(best).hexdigest()
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


def test_a_fresh_process_without_keyframe_gives_the_same_scores(exported, old_run, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (2, 12, 3, 32, 32), dtype=np.uint8)
    np.save(tmp_path / "frames.npy", frames)
    shutil.copy(ROOT / "examples" / "run_exported.py", tmp_path)
    code = (
        "import runpy, sys\n"
        "for format, file in zip(sys.argv[2::2], sys.argv[3::2]):\n"
        "    sys.argv[1:] = [file, 'frames.npy', f'{format}.npy']\n"
        "    runpy.run_path('run_exported.py', run_name='__main__')\n"
        "assert not [name for name in sys.modules if name.startswith('keyframe')]"
    )
    pairs = [value for format, file in FILES.items() for value in (format, str(exported[1] / file))]
    cold(["-c", code, "-", *pairs], tmp_path, PYTHONPATH="").good()
    with torch.inference_mode():
        own = load_run(old_run).detector(torch.from_numpy(frames)).numpy()
    expected = dict.fromkeys(FLOAT, own)
    expected["onnx_int8"] = load_program(exported[1] / FILES["onnx_int8"], "onnx_int8")(frames)
    for format, scores in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{format}.npy"), scores, rtol=0, atol=PARITY)


def test_a_table_of_the_run_and_of_all_its_files(command, exported, old_run, tmp_path):
    out = tmp_path / "out"
    entries = f"runs=[{','.join(map(str, [old_run, *(exported[1] / file for file in FILES.values())]))}]"
    quick = ("speed.videos=[1]", "speed.repeats=1", "memory.videos=[]", "pictures=0")
    command(entries, "trust=true", *quick, f"hydra.run.dir={out}", program="keyframe-compare").good()
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


def test_a_shared_file_runs_nothing(exported, tmp_path):
    program, data = (exported[1] / FILES[format] for format in ("torch_export", "onnx"))
    named_onnx = shutil.copy(program, tmp_path / "a.onnx")
    shutil.copy(f"{program}.json", tmp_path / "a.onnx.json")
    shutil.copy(data, tmp_path / "b.onnx")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        call = {"_target_": "urllib.request.urlopen", "url": url}
        card = card_of(data)
        for words, file, datamodule in (
            ("it is a program (torch.export), which can do anything that you can; add trust=true", program, {}),
            ("it is ONNX by its name, torch.export by its content", named_onnx, {}),
            ("it asks for urllib.request.urlopen", tmp_path / "b.onnx", call),
            ("configuration contains the unresolved value", tmp_path / "b.onnx", {"source": f"${{oc.create:{call}}}"}),
        ):
            card["config"]["datamodule"] = datamodule
            (tmp_path / "b.onnx.json").write_text(json.dumps(card))
            assert words in in_process("evaluate", f"run={file}", run_dir=tmp_path / "out")
            assert not (tmp_path / "out" / "metrics.json").exists()
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody has called
            listener.accept()


def test_python_takes_a_file(exported, old_run, tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=300)
    video = keyframe.score_video(path, keyframe.load_exported(str(exported[1] / FILES["onnx"])))
    assert video.scored_by == "an exported model, test_efficientnet (onnx)"
    own = keyframe.score_video(path, keyframe.load_run(old_run))
    np.testing.assert_allclose(video.scores, own.scores, rtol=0, atol=PARITY)


def test_extraction_by_onnx_needs_no_torch(exported, old_run, tmp_path):
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
    own = score_frames(load_run(old_run).scorer, index, FpsSampling(2.0).indices(index), PyAVReader())
    assert len(scores) == 24
    np.testing.assert_allclose(scores, own, rtol=0, atol=PARITY)


def refused(*overrides):
    """The sentence with which the task refuses a configuration, in this process."""
    config = composed("export", overrides)
    with pytest.raises(KeyframeError) as error:
        run_export(config)
    return str(error.value)


def test_bad_input(export, exported, old_run, tmp_path, monkeypatch):
    assert "format=coreml is none of torchscript, torch_export, onnx" in refused("run=a", "format=coreml")
    assert "format=[] names none" in refused("run=a", "format=[]")
    assert "opset=9 is not supported: choose one from 18 to 23" in refused("run=a", "opset=9")
    assert "run=/no/where: there is no checkpoint" in refused("run=/no/where")
    assert "there is no checkpoint" in refused(f"run={tmp_path}")
    for format in ("onnx", "torch_export"):  # and not that one should trust it
        assert "exported file without a checkpoint" in refused(f"run={exported[1] / FILES[format]}")
    sentence = export(f"run={old_run}", "calibration.videos=0", f"hydra.run.dir={tmp_path / 'out'}").sentence()
    assert "calibration.videos=0 must be a whole number from 1" in sentence
    again = export(f"run={old_run}", f"hydra.run.dir={exported[1]}")
    assert "holds a run already" in again.out + again.err
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # named before anything is loaded
    assert "onnxscript: pip install 'keyframe-lightning[onnx]'" in refused("run=/no/where", "format=onnx")


def test_training_videos_that_are_gone_are_no_calibration(old_run, tiny_demo, tmp_path):
    moved = shutil.copytree(tiny_demo, tmp_path / "moved")
    for video in load_run(old_run).videos("train").values():
        (moved / video.path.relative_to(tiny_demo)).write_bytes(b"")
    sentence = refused(f"run={old_run}", f"data.root={moved}", "format=onnx_int8", f"run_dir={tmp_path}")
    assert "no video of the train split can be read" in sentence
