"""keyframe-benchmark as a user runs it, on next to nothing; how long it takes is not looked at."""

import json
import sys

import pytest
from omegaconf import OmegaConf

pytestmark = pytest.mark.full

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


def test_scale(benchmark, tmp_path):
    footage, run = tmp_path / "footage", tmp_path / "run"
    sizes = ("scale.counts=[1,3]", "scale.seconds=1", f"footage={footage}")
    benchmark("suite=scale", *sizes, f"hydra.run.dir={run}").good()
    record = json.loads((run / "benchmark.json").read_text())
    assert record["scale/ratio_3_over_1"] == pytest.approx(
        record["scale/seconds_a_video_3"] / record["scale/seconds_a_video_1"]
    )
    assert 0 < record["scale/seconds_a_video_second_start"] < record["scale/seconds_a_video_3"]


def test_long_has_a_model_in_one_process_and_no_torch_in_the_other(benchmark, tmp_path):
    run = tmp_path / "run"
    video = ("long.minutes=[2]", "long.rate=0.1", "long.size=32", f"footage={tmp_path / 'footage'}")
    small = ("long.footage.width=64", "long.footage.height=48", "long.footage.rate=1", "long.footage.key_every=10")
    end = benchmark("suite=long", *video, *small, f"hydra.run.dir={run}").good()
    record = json.loads((run / "benchmark.json").read_text())
    assert record["long/seconds_2min"] > 0 and record["long/ratio_to_decode_2min_training_free"] > 0
    if sys.platform == "linux":
        assert 20 < record["long/peak_rss_mb_2min_training_free"] < record["long/peak_rss_mb_2min"] - 50
    assert "of 64x48 at 1 frames a second" in " ".join(end.out.split())


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("suite=fast", "suite=fast is none of decode, train, infer, scale, evaluate, ddp, long, all."),
        ("scale.counts=[0,10]", "scale.counts=[0, 10] must be a whole number from 1 on."),
        ("scale.counts=[10,2]", "scale.counts=[10, 2] must rise: give them in order, such as [10,100]."),
        ("scale.seconds=3", "scale.seconds=3 must divide 40: choose 1, 2, 4, 5, 8, 10, 20 or 40."),
        ("decode.seconds=50", "decode.seconds=50 must be a multiple of 40."),
        ("decode.rate=0", "decode.rate=0 must be a number above 0."),
        ("decode.sizes=[[64,48],[96,48]]", "must be pairs [width, height] of even numbers, each height once."),
        ("train.epochs=10", "train.switch_epoch must be from 1 to 9, not 10"),
        ("evaluate.videos=0", "evaluate.videos=0 must be a whole number from 1 on."),
        ("evaluate.frames=many", "evaluate.frames=many must be a whole number from 30 on."),
        ("repeats=0", "repeats=0 must be a whole number from 1 on."),
    ],
)
def test_bad_input_is_one_sentence(benchmark, argument, words):
    assert benchmark(argument).sentence().endswith(words)


@pytest.fixture(scope="module")
def decoded(benchmark, tmp_path_factory):
    pytest.importorskip("cv2")
    pytest.importorskip("imageio_ffmpeg")
    place = tmp_path_factory.mktemp("decode")
    small = ("decode.sizes=[[64,48]]", "decode.seconds=40", "decode.frames=6", "decode.repeats=2")
    arguments = ("suite=decode", *small, f"decode.footage={place / 'footage'}", f"hydra.run.dir={place / 'run'}")
    return benchmark(*arguments).good(), place


def test_decode_gives_its_figures(decoded):
    end, place = decoded
    record = json.loads((place / "run" / "benchmark.json").read_text())
    for name in ("ratio_to_ffmpeg", "ratio_to_opencv_seek", "snap_speedup", "snap_speedup_pyav_48p_gop250"):
        assert 0 < record[f"decode/{name}_p25"] <= record[f"decode/{name}"]
        assert record[f"decode/{name}_repeats"] == 2
    for reader in ("pyav", "decord"):
        for grid in ("6", "2fps"):
            assert record[f"decode/seconds_{reader}_{grid}_48p"] > 0
            assert record[f"decode/ratio_to_ffmpeg_{reader}_{grid}_48p"] > 0
    assert record["decode/ratio_to_ffmpeg"] == record["decode/ratio_to_ffmpeg_pyav_6_48p"]
    assert 0 < record["decode/peak_mb_48p"] < 150
    assert record["decode/ratio_two_workers_to_two_threads_48p"] > 0
    assert "of the time in which FFmpeg decodes the file" in " ".join(end.out.split())
    assert len(list((place / "footage").glob("*.mp4"))) == 2


TINY_TRAINING = (
    "suite=train",
    "train.contests=[{name: 360p, backbone: efficientnet_b0, width: 96, height: 64}]",
    'train.recipe=["data=labelled","data.size=32","sampling.frames=4","data.batch_size=1","trainer=cpu"]',
    *("train.videos=1", "train.seconds=40", "train.epochs=2", "train.switch_epoch=1", "train.rounds=1"),
)


def test_training_is_measured(benchmark, tmp_path):
    run = tmp_path / "run"
    page = benchmark(*TINY_TRAINING, f"footage={tmp_path / 'foot age'}", f"hydra.run.dir={run}").good().out
    record = json.loads((run / "benchmark.json").read_text())
    for side in ("plain", "cached"):
        assert record[f"train/seconds_{side}_360p"] > record[f"train/seconds_{side}_stage1_epoch_360p"] > 0
        assert record[f"train/seconds_{side}_stage2_epoch_backward_360p"] > 0
    plain, cached = record["train/seconds_plain_360p"], record["train/seconds_cached_360p"]
    assert record["train/speedup_over_plain_360p"] == pytest.approx(plain / cached)
    assert record["train/stage1_epoch_speedup"] > 0
    assert "efficientnet_b0, 96x64" in page
    assert len(list((tmp_path / "foot age").glob("*.mp4"))) == 1  # the videos are copies of it


def test_two_processes_are_measured(benchmark, tmp_path):
    run, small = tmp_path / "run", ("ddp.videos=2", "ddp.epochs=2", "ddp.rounds=1", "ddp.width=96", "ddp.height=64")
    small = (*small, "~ddp.sides.tracked")
    recipe = (
        'ddp.recipe=["data=labelled","backbone.pretrained=false","data.size=32","sampling.frames=4","cache=memory"]'
    )
    page = benchmark("suite=ddp", *small, recipe, f"footage={tmp_path}", f"hydra.run.dir={run}").good().out
    record = json.loads((run / "benchmark.json").read_text())
    for stage in ("stage1", "stage2"):
        one, ranks = (record[f"ddp/seconds_{side}_{stage}_epoch"] for side in ("one", "ranks"))
        assert record[f"ddp/ranks_over_one_{stage}"] == pytest.approx(ranks / one)
    assert record["ddp/run_directory_mb"] > record["ddp/checkpoint_mb"] > 10
    assert "gradients go over gloo" in page
