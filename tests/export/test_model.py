"""Exported files score videos; programs run only if they are trusted, and what gives no scores is refused."""

import logging
import sys
from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.sampling import average_windows
from keyframe.export.model import ExportedModel, load_exported, load_program, require_packages
from keyframe.pipeline import score_frames
from keyframe.runs import load_run
from keyframe.types import KeyframeError
from tests.export.build import add_card, changed, mean, save_onnx, sentence, write_program, write_torchscript
from tests.videos import write_video


def test_a_card_stands_for_its_run_also_with_names_of_older_versions(exported):
    path, card = exported
    assert "keyframe.data.sources.DemoSource" in str(card.config["datamodule"])
    run = load_run(path)
    assert run.name == "resnet50 (onnx)" and run.frame_shape == (12, 32, 32) and len(run.videos("test")) == 3
    assert run.sizes == {"params_total": 7.0, "weights_mb": path.stat().st_size / 1e6}
    assert run.recipe["format"] == "onnx" and run.model.description["file_sha256"] == card.sha256
    with pytest.raises(KeyframeError, match="exported file without a checkpoint"):
        _ = run.detector
    with pytest.raises(KeyframeError, match="runs on the CPU"):
        run.to("cuda")
    changed(path, config={**card.config, "datamodule": {"_target_": "os.system", "command": "true"}})
    with pytest.raises(KeyframeError, match=r"a\.onnx\.json was not loaded: it asks for os\.system"):
        load_run(path)


def test_an_exported_model_scores_windows_of_any_video(exported, tmp_path):
    path, card = exported
    program = load_exported(path).program
    index = index_packets(write_video(tmp_path / "a.mp4", frames=300))
    frames = np.arange(0, 300, 2)
    own = PyAVReader().read(index.path, frames, card.size, index).pixels.mean((1, 2, 3)) / 255
    for window in (12, None):
        scores = score_frames(ExportedModel(path, replace(card, window=window), program), index, frames, PyAVReader())
        np.testing.assert_allclose(scores, average_windows(lambda places: own[places], 150, window), atol=1e-6)


def test_programs_run_only_if_they_are_trusted(config, tmp_path, caplog):
    caplog.set_level(logging.ERROR, "torch._export.serde.serialize")  # its warning has a fault of its own
    marker = tmp_path / "it ran"
    write_program(tmp_path / "a.pt2", marker)
    write_torchscript(tmp_path / "a.torchscript.pt")
    frames = np.random.default_rng(0).integers(0, 256, (2, 5, 3, 32, 32), dtype=np.uint8)
    for name, format, kind in (
        ("a.pt2", "torch_export", "torch.export"),
        ("a.torchscript.pt", "torchscript", "TorchScript"),
    ):
        path = tmp_path / name
        add_card(path, config, format)
        for trust in (None, False, "mylib"):
            text = sentence(path, trust)
            assert f"it is a program ({kind})" in text and "add trust=true" in text and "use an .onnx file" in text
        with pytest.raises(KeyframeError, match="add trust=true"):
            load_run(path)
    assert not marker.exists()
    for name in ("a.pt2", "a.torchscript.pt"):
        model = load_exported(tmp_path / name, trust=True)
        np.testing.assert_allclose(model.program(frames), mean(frames), atol=1e-6)
    assert marker.exists()  # so a file that is loaded is noticed


def loop_forever():
    """A loop whose condition stays true."""
    state = helper.make_tensor_value_info("state", TensorProto.FLOAT, None)
    more = helper.make_tensor_value_info("more", TensorProto.BOOL, [])
    again = helper.make_tensor_value_info("again", TensorProto.BOOL, [])
    after = helper.make_tensor_value_info("after", TensorProto.FLOAT, None)
    number = helper.make_tensor_value_info("number", TensorProto.INT64, [])
    steps = [helper.make_node("Identity", ["more"], ["again"]), helper.make_node("Identity", ["state"], ["after"])]
    body = helper.make_graph(steps, "body", [number, more, state], [again, after])
    return {
        "nodes": [helper.make_node("Loop", ["", "true", "mean"], ["scores"], body=body)],
        "tensors": [numpy_helper.from_array(np.array(True), "true")],
    }


def billion_laughs():
    """Thirty functions, each of which calls the next one twice."""
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]

    def function(number):
        calls = [(f"f{number + 1}", "own")] * 2 if number < 30 else [("Neg", "")]
        names = ["x", *(f"y{step}" for step in range(len(calls)))]
        nodes = [
            helper.make_node(call, [names[step]], [names[step + 1]], domain=domain)
            for step, (call, domain) in enumerate(calls)
        ]
        return helper.make_function("own", f"f{number}", ["x"], [names[-1]], nodes, opsets)

    return {
        "nodes": [helper.make_node("f0", ["mean"], ["scores"], domain="own")],
        "functions": [function(number) for number in range(31)],
        "domains": ["own"],
    }


def other_files(location):
    """A weight that is in another file."""
    tensor = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return {"nodes": [helper.make_node("Mul", ["mean", "weight"], ["scores"])], "tensors": [tensor]}


def test_onnx_files_that_are_more_than_a_line_of_operators_are_refused(config, tmp_path):
    (tmp_path / "private.bin").write_bytes(np.float32(1).tobytes())
    path = tmp_path / "a.onnx"
    constant = other_files("private.bin")
    constant["nodes"].insert(0, helper.make_node("Constant", [], ["weight"], value=constant.pop("tensors")[0]))
    chain = [
        helper.make_node("Identity", [f"n{number}" if number else "mean"], [f"n{number + 1}"])
        for number in range(50_000)
    ]
    for words, case in (
        ("loops or branches", loop_forever()),
        ("functions", billion_laughs()),
        ("weights in other files", other_files("private.bin")),
        ("weights in other files", other_files(str(tmp_path / "private.bin"))),
        ("weights in other files", constant),
        (
            "operators that are not ONNX's",
            {"nodes": [helper.make_node("Gelu", ["mean"], ["scores"], domain="com.microsoft")]},
        ),
        ("more than 50,000 operators", {"nodes": [*chain, helper.make_node("Identity", ["n50000"], ["scores"])]}),
    ):
        save_onnx(path, config, *case.pop("nodes"), **case)
        assert f"it has {words}, as no file of keyframe-export; add trust=true" in sentence(path)
    external = other_files("private.bin")
    save_onnx(path, config, *external["nodes"], tensors=external["tensors"])
    assert load_exported(path, trust=True).format == "onnx"
    empty = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[10**6, 10**7])
    save_onnx(path, config, *external["nodes"], tensors=[empty])
    assert "a.onnx cannot be loaded (" in sentence(path)


def test_texts_that_are_no_unicode_are_refused_silently(config, tmp_path, capfd):
    path = tmp_path / "a.onnx"
    for texts in (
        {"op_type": "no text"},
        {"op_type": "Neg", "domain": "no text"},
        {"op_type": "Neg", "name": "no text"},
    ):
        node = helper.make_node(inputs=["mean"], outputs=["scores"], **texts)
        save_onnx(path, config, node)
        path.write_bytes(path.read_bytes().replace(b"no text", b"\xff\xfe text"))
        add_card(path, config)
        assert sentence(path).startswith(f"{path} ")
    assert capfd.readouterr() == ("", "")


def test_what_gives_no_scores_is_refused_when_it_is_loaded(config, tmp_path):
    def output(kind, name="scores"):
        return {"output": helper.make_value_info(name, kind)}

    node, scores, path = helper.make_node, ["scores"], tmp_path / "a.onnx"
    double = output(helper.make_tensor_type_proto(TensorProto.DOUBLE, None))
    floats = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    much = [node("ConstantOfShape", ["c"], ["much"]), node("ReduceMean", ["much"], ["one"], keepdims=0)]
    for words, nodes, constant, other in (
        ("gives scores from nan to nan", [node("Log", ["c"], ["nan"]), node("Mul", ["mean", "nan"], scores)], -1.0, {}),
        ("gives scores from -", [node("Neg", ["mean"], scores)], 0.0, {}),
        ("gives scores from ", [node("Mul", ["mean", "c"], scores)], 100.0, {}),
        ("gives float32 (2,), not float32 (1, 2) scores", [node("Squeeze", ["mean", "c"], scores)], [0], {}),
        ("gives float32 (1, 2, 1), not", [node("Unsqueeze", ["mean", "c"], scores)], [2], {}),
        ("gives float64 (1, 2), not", [node("Cast", ["mean"], scores, to=TensorProto.DOUBLE)], 0.0, double),
        (
            "gives list, not",
            [node("SequenceConstruct", ["mean"], scores)],
            0.0,
            output(helper.make_sequence_type_proto(floats)),
        ),
        ("cannot score frames of shape (1, 2, 3, 32, 32) (", [node("Reshape", ["mean", "c"], scores)], [7], {}),
        ("cannot score frames of", [*much, node("Mul", ["mean", "one"], scores)], [2**20, 2**40], {}),
        ("cannot be loaded (", [node("Identity", ["scores"], scores)], 0.0, {}),
        ("cannot be loaded (", [node("Nothing", ["mean"], scores)], 0.0, {}),
        ("cannot score frames of", [node("Identity", ["mean"], ["other"])], 0.0, output(floats, "other")),
    ):
        value = np.float32(constant) if isinstance(constant, float) else np.array(constant)
        save_onnx(path, config, *nodes, tensors=[numpy_helper.from_array(value, "c")], **other)
        text = sentence(path)
        assert f"a.onnx {words}" in text and text.endswith("export the model again."), text


def test_programs_that_raise_or_give_no_tensor_are_refused(config, tmp_path):
    path = tmp_path / "a.pt"
    for words, change in (
        ("gives float32 (1,), not float32 (1, 2) scores", lambda scores: scores.mean(1)),
        ("cannot score frames of shape (1, 2, 3, 32, 32) (AttributeError", lambda scores: (scores, scores)),
        ("cannot score frames of shape (1, 2, 3, 32, 32) (RuntimeError", lambda scores: scores.reshape(3, 2) / 2),
    ):
        write_torchscript(path, change)
        add_card(path, config, "torchscript")
        assert f"a.pt {words}" in sentence(path, trust=True)


def test_scores_of_a_later_call_are_checked_too(config, tmp_path):
    # 0 / 0 for a black frame only
    path = tmp_path / "a.onnx"
    save_onnx(path, config, helper.make_node("Div", ["mean", "mean"], ["scores"]))
    program = load_exported(path).program
    frames = np.full((1, 12, 3, 32, 32), 9, np.uint8)
    np.testing.assert_array_equal(program(frames), np.ones((1, 12), np.float32))
    frames[0, 7] = 0
    with pytest.raises(KeyframeError, match=r"a\.onnx gives scores from nan to nan, not in \[0, 1\]"):
        program(frames)


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"\x08 a program")
    for format in ("torchscript", "torch_export", "onnx"):
        with pytest.raises(KeyframeError, match=r"a.onnx cannot be loaded .*export the model again"):
            load_program(path, format)


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(KeyframeError, match=rf"{package}.*pip install 'keyframe-lightning\[onnx\]'"):
                require_packages()
