"""keyframe-benchmark suite=infer on next to nothing; how long it takes is not looked at."""

import json

import pytest

pytestmark = pytest.mark.full

SMALL = (
    *("infer.model1=test_resnet", "infer.model2=test_efficientnet", "infer.size=32", "infer.frames=4"),
    *("infer.videos=[1,2]", "infer.ways=[contiguous]", "infer.chunks=[1,4]", "repeats=2", "infer.device=cpu"),
    *("infer.footage.seconds=40", "infer.footage.width=64", "infer.footage.height=36", "infer.reader.threads=1"),
)
TIMES = ("model2_over_model1_time", "model2_over_model1_end_to_end", "model2_over_bare_backbone")
MEMORY = ("model2_over_model1_weights", "model2_over_model1_peak_chunk4", "model1_peak_chunk1", "model2_peak_chunk64")
WAYS = [f"{model}_{way}_over_eager" for model in ("model1", "model2") for way in ("contiguous",)]


@pytest.fixture(scope="module")
def benchmark(command):
    return lambda *arguments: command(*arguments, program="keyframe-benchmark")


def test_figures_table_and_report(benchmark, tmp_path):
    run = tmp_path / "run"
    done = benchmark("suite=infer", *SMALL, f"footage={tmp_path}/footage", f"hydra.run.dir={run}").good()
    record = json.loads((run / "benchmark.json").read_text())
    for name in (*TIMES, *WAYS):
        assert 0 < record[f"infer/{name}_p25"] <= record[f"infer/{name}"] <= record[f"infer/{name}_p75"]
        assert record[f"infer/{name}_repeats"] == 2
        assert f"infer/{name}" in done.out
    assert all(f"infer/{name}" in record for name in MEMORY)
    ratio = record["infer/model2_weights"] / record["infer/model1_weights"]
    assert record["infer/model2_over_model1_weights"] == pytest.approx(ratio)
    assert record["infer/model1_videos_per_s"] == pytest.approx(1000 / 4 / record["infer/model1_ms_frame"], rel=0.5)
    assert [file.suffix for file in (tmp_path / "footage").iterdir()] == [".mp4"]
    assert "By default 64 frames are encoded at once" in (run / "report.txt").read_text().replace("\n", " ")


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("infer.ways=[fast]", "infer.ways must be of contiguous, bf16, compiled, exported, onnx, not fast"),
        ("infer.model2=none_such", "none_such is not a model that timm knows"),
        ("infer.chunks=[0]", "infer.chunks=[0] must be a whole number from 1 on."),
    ],
)
def test_bad_input_is_one_sentence(benchmark, argument, words):
    assert words in benchmark("suite=infer", argument).sentence()
