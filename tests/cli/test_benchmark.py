"""keyframe-benchmark as a user runs it, on next to nothing; how long it takes is not looked at."""

import json

import pytest
from omegaconf import OmegaConf

PARTS = ("kts", "people", "measure", "reference_f1", "reference_lines", "means")
FIGURES = ("seconds", "ratio_to_limit", "peak_mb", *(f"seconds_{part}" for part in PARTS))
RATIOS = ("ratio_kendall_to_scipy", "ratio_kts_to_plain")
SMALL = ("evaluate.videos=2", "evaluate.frames=600", "evaluate.annotators=4", "repeats=3")


@pytest.fixture(scope="module")
def benchmark(command):
    return lambda *arguments: command(*arguments, program="keyframe-benchmark")


@pytest.fixture(scope="module")
def done(benchmark, tmp_path_factory):
    run = tmp_path_factory.mktemp("benchmark") / "run"
    return benchmark("suite=evaluate", *SMALL, f"hydra.run.dir={run}").good(), run


def test_one_flat_object_of_figures(done):
    record = json.loads((done[1] / "benchmark.json").read_text())
    assert all(record[f"evaluate/{name}"] > 0 for name in (*FIGURES, *RATIOS))
    for name in RATIOS:
        assert record[f"evaluate/{name}_p25"] <= record[f"evaluate/{name}"] <= record[f"evaluate/{name}_p75"]
        assert record[f"evaluate/{name}_repeats"] == 3
    assert record["evaluate/seconds"] == pytest.approx(sum(record[f"evaluate/seconds_{part}"] for part in PARTS))
    assert record["evaluate/ratio_to_limit"] == pytest.approx(record["evaluate/seconds"] / 60)
    assert int(record["machine/cores"]) >= 1 and record["machine/cpu"]


def test_table_report_picture_and_configuration(done):
    end, run = done
    assert "2 videos of 600 frames with 4 annotators" in end.out
    for page in (end.out, (run / "report.txt").read_text(), (run / "report.html").read_text()):
        assert all(f"evaluate/{name}" in page for name in (*FIGURES, *RATIOS))
        assert "Decoding is not in it" in page
    assert "figures/evaluate.png" in (run / "report.md").read_text()
    assert (run / "figures" / "evaluate.png").stat().st_size > 1000
    assert OmegaConf.load(run / "config.yaml").evaluate.frames == 600
    assert str(run / "benchmark.json") in end.out
    assert end.err == ""


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("suite=fast", "suite=fast is none of evaluate, all."),
        ("evaluate.videos=0", "evaluate.videos=0 must be a whole number from 1 on."),
        ("evaluate.frames=many", "evaluate.frames=many must be a whole number from 30 on."),
        ("repeats=0", "repeats=0 must be a whole number from 1 on."),
    ],
)
def test_bad_input_is_one_sentence(benchmark, argument, words):
    assert benchmark(argument).sentence() == f"keyframe-benchmark: {words}"
