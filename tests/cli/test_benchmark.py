"""keyframe-benchmark as a user runs it, on next to nothing; how long it takes is not looked at."""

import json
import logging
import sys
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from keyframe.benchmark import busy, extract, growth, infer, scale, tools, train
from keyframe.benchmark.evaluate import EVALUATION_PARTS
from keyframe.cli.arguments import check_values
from keyframe.cli.benchmark import benchmark
from keyframe.cli.errors import sentence_of
from keyframe.system import cores
from keyframe.types import KeyframeError
from tests.commands import composed, in_process


@pytest.fixture
def measured(command, tmp_path):
    """Runs a suite; what it prints, its figures, and the directory of its run and footage."""

    def run(suite, *arguments):
        where = (f"footage={tmp_path / 'foot age'}", f"hydra.run.dir={tmp_path / 'run'}")
        done = command(f"suite={suite}", *arguments, *where, program="keyframe-benchmark").good()
        assert done.err == ""
        return " ".join(done.out.split()), json.loads((tmp_path / "run" / "benchmark.json").read_text()), tmp_path

    return run


@pytest.fixture
def measured_here(tmp_path, monkeypatch, caplog):
    """Runs a suite in this process, also what it measures in a child: no start of an interpreter."""

    def run(suite, *arguments):
        caplog.set_level(logging.INFO)
        for module in (extract, growth, infer, scale, train):
            monkeypatch.setattr(module, "in_child", lambda task, measured: (item for item in task()))
        footage, place = tmp_path / "foot age", tmp_path / "run"
        assert not in_process("benchmark", f"suite={suite}", *arguments, f"footage={footage}", run_dir=place)
        return " ".join(caplog.text.split()), json.loads((place / "benchmark.json").read_text()), tmp_path

    return run


@pytest.mark.full
def test_evaluate_and_what_every_suite_writes(measured):
    sizes = ("evaluate.videos=2", "evaluate.frames=600", "evaluate.annotators=4", "repeats=3")
    out, record, place = measured("evaluate", *sizes)
    parts = [f"seconds_{part}" for part in EVALUATION_PARTS]
    ratios = ["ratio_kendall_to_scipy", "ratio_kts_to_plain"]
    assert all(record[f"evaluate/{name}"] > 0 for name in ("seconds", "ratio_to_limit", "peak_mb", *parts, *ratios))
    for name in ratios:
        assert record[f"evaluate/{name}_p25"] <= record[f"evaluate/{name}"] <= record[f"evaluate/{name}_p75"]
        assert record[f"evaluate/{name}_repeats"] == 3
    assert record["evaluate/seconds"] == pytest.approx(sum(record[f"evaluate/{part}"] for part in parts))
    assert record["evaluate/ratio_to_limit"] == pytest.approx(record["evaluate/seconds"] / 60)
    assert int(record["machine/cores"]) >= 1 and record["machine/cpu"]

    assert "2 videos of 600 frames with 4 annotators" in out
    assert str(place / "run" / "benchmark.json") in out
    for page in (out, *((place / "run" / f"report.{kind}").read_text() for kind in ("txt", "html"))):
        assert all(f"evaluate/{name}" in page for name in (*parts, *ratios))
        assert "Decoding is not in it" in page
    assert "figures/evaluate.png" in (place / "run" / "report.md").read_text()
    assert (place / "run" / "figures" / "evaluate.png").stat().st_size > 1000
    assert OmegaConf.load(place / "run" / "config.yaml").evaluate.frames == 600


@pytest.mark.full
def test_scale(measured_here):
    _, record, _ = measured_here("scale", "scale.counts=[1,3]", "scale.seconds=5")
    ratio = record["scale/seconds_a_video_3"] / record["scale/seconds_a_video_1"]
    assert record["scale/ratio_3_over_1"] == pytest.approx(ratio)


@pytest.mark.full
def test_long_has_a_model_in_one_process_and_no_torch_in_the_other(measured):
    footage = [f"long.footage.{key}" for key in ("width=64", "height=48", "rate=1", "key_every=10")]
    small = ("long.minutes=[2]", "long.rate=0.05", "long.size=32", "long.model=test_efficientnet")
    out, record, _ = measured("long", *small, *footage)
    assert record["long/seconds_2min"] > 0 and record["long/ratio_to_decode_2min_training_free"] > 0
    if sys.platform == "linux":
        assert 20 < record["long/peak_rss_mb_2min_training_free"] < record["long/peak_rss_mb_2min"] - 50
    assert "of 64x48 at 1 frames per second" in out


@pytest.mark.full
def test_decode(measured):
    pytest.importorskip("cv2")
    pytest.importorskip("imageio_ffmpeg")
    sizes = ("decode.sizes=[[64,48]]", "decode.seconds=40", "decode.frames=6", "decode.repeats=2")
    sizes += ("decode.budget_s=1000",)  # of a busy machine
    out, record, place = measured("decode", *sizes)
    for name in ("ratio_to_ffmpeg", "ratio_to_opencv_seek", "snap_speedup", "snap_speedup_pyav_48p_gop250"):
        assert 0 < record[f"decode/{name}_p25"] <= record[f"decode/{name}"]
        assert record[f"decode/{name}_repeats"] == 2
    for reader in ("pyav", "decord"):
        assert record[f"decode/seconds_{reader}_6_48p"] > 0
        assert record[f"decode/ratio_to_ffmpeg_{reader}_6_48p"] > 0
    assert record["decode/ratio_to_ffmpeg"] == record["decode/ratio_to_ffmpeg_pyav_6_48p"]
    assert 0 < record["decode/peak_mb_48p"] < 150
    assert "of the time in which FFmpeg decodes the file" in out
    assert len(list((place / "foot age").glob("*.mp4"))) == 2


@pytest.mark.full
def test_infer(measured_here):
    models = (
        "infer.model1=test_resnet",
        "infer.model2=test_efficientnet",
        "infer.size=32",
        "infer.frames=4",
        "infer.attention_frames=40",
    )
    rounds = ("infer.ways=[bf16]", "infer.chunks=[1,4]", "repeats=2")
    footage = ("infer.footage.seconds=40", "infer.footage.width=64", "infer.footage.height=36")
    out, record, place = measured_here(
        "infer", *models, *rounds, *footage, "infer.reader.threads=1", "infer.device=cpu"
    )
    ways = [f"{model}_bf16_over_eager" for model in ("model1", "model2")]
    times = ["model2_over_model1_time", "model2_over_model1_end_to_end", "model2_over_bare_backbone"]
    for name in (*times, *ways):
        assert 0 < record[f"infer/{name}_p25"] <= record[f"infer/{name}"] <= record[f"infer/{name}_p75"]
        assert record[f"infer/{name}_repeats"] == 2
        assert f"infer/{name}" in out
    memory = ("model2_over_model1_peak_chunk4", "model1_peak_chunk1", "model2_peak_chunk64")
    assert all(f"infer/{name}" in record for name in memory)
    assert record["attention/step_ratio_40"] > 0
    ratio = record["infer/model2_weights"] / record["infer/model1_weights"]
    assert record["infer/model2_over_model1_weights"] == pytest.approx(ratio)
    assert [file.suffix for file in (place / "foot age").iterdir()] == [".mp4"]
    assert "By default 64 frames are encoded at once" in out


TINY = '"data=labelled","data.size=32","sampling.frames=4","data.batch_size=1","backbone.name=test_efficientnet"'


@pytest.mark.full
def test_train(measured_here):
    contest = "train.contests=[{name: 360p, backbone: timm, width: 96, height: 64}]"
    sizes = ("train.videos=1", "train.seconds=40", "train.epochs=2", "train.switch_epoch=1", "train.rounds=1")
    out, record, place = measured_here("train", contest, f'train.recipe=[{TINY},"trainer=cpu"]', *sizes)
    for side in ("plain", "cached"):
        assert record[f"train/seconds_{side}_360p"] > record[f"train/seconds_{side}_stage1_epoch_360p"] > 0
        assert record[f"train/seconds_{side}_stage2_epoch_backward_360p"] > 0
    plain, cached = record["train/seconds_plain_360p"], record["train/seconds_cached_360p"]
    assert record["train/speedup_over_plain_360p"] == pytest.approx(plain / cached)
    assert record["train/stage1_epoch_speedup"] > 0
    assert "timm, 96x64" in out
    assert len(list((place / "foot age").glob("*.mp4"))) == 1  # the videos are copies of it


def test_ddp(measured_here, monkeypatch):
    """The trainings themselves, in ranks, are those of tests/training/test_ddp.py."""

    def trained(overrides, directory, name):
        assert (directory / "splits.json").is_file()
        checkpoint = directory / name / "checkpoints" / "last.ckpt"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.write_bytes(bytes(1_500_000))
        slow = 3 if "trainer.devices=2" in overrides else 1
        return train.Trained(7, [{"forward": 9}, {"forward": 2 * slow}, {"forward": 9}, {"forward": 4 * slow}], 5)

    monkeypatch.setattr(train, "time_training", trained)
    sizes = ("ddp.videos=2", "ddp.epochs=2", "ddp.rounds=1", "ddp.width=96", "ddp.height=64")
    out, record, _ = measured_here("ddp", *sizes)
    for stage, seconds in (("stage1", 2), ("stage2", 4)):  # the first epoch of each is not counted
        assert record[f"ddp/seconds_one_{stage}_epoch"] == seconds
        assert (record[f"ddp/ranks_over_one_{stage}"], record[f"ddp/tracked_over_one_{stage}"]) == (3, 1)
    assert record["ddp/run_directory_mb"] == record["ddp/checkpoint_mb"] == 1.5
    assert "gradients go over gloo" in out


def test_tools(measured_here, monkeypatch):
    """What each takes is known; torchcodec is not there, and FFmpeg's filter shows the second and the last scene."""

    def use(command):
        line = " ".join(command)
        place = next((Path(part.split("=")[-1]) for part in command if "keyframe-benchmark-" in part), None)
        if "torchcodec" in line:
            raise KeyframeError("no FFmpeg")
        if "thumbnail" in line:
            (place.parent / "75.jpg").touch()
            (place.parent / "999.jpg").touch()
            return tools.Used(6, 7, 30)
        if "scenedetect" in line and "adaptive" in line:
            return tools.Used(9, 9, 9)  # it shows nothing
        if "scenedetect" in line:
            (place / "3-01.jpg").touch()
            return tools.Used(12, 13, 90)
        if "keyframe.cli" in line:
            (place / "video").mkdir(exist_ok=True)
            keyframes = [{"seconds": second} for second in (1, 3, 6, 11, 18, 43)]
            (place / "video" / "summary.json").write_text(json.dumps({"keyframes": keyframes}))
            return tools.Used(3, 4, 200)
        return tools.Used(5, 5, 40)

    monkeypatch.setattr(tools, "use", use)
    monkeypatch.setattr(tools, "find_spec", lambda name: name)
    videos = "tools.videos=[{width: 96, height: 64, seconds: 40}]"
    out, record, _ = measured_here("tools", videos, "repeats=2")
    over = {name: record[f"tools/free_over_{name}_64p"] for name in ("ffmpeg_null", "ffmpeg_thumbnail", "scenedetect")}
    assert over == {"ffmpeg_null": 0.6, "ffmpeg_thumbnail": 0.5, "scenedetect": 0.25}
    assert record["tools/scenes_found"] == 5 / 8 and record["tools/scenes_ffmpeg_thumbnail_64p"] == 2
    assert record["tools/peak_mb_free_64p"] == 200 and record["tools/seconds_free_64p_repeats"] == 2
    assert "tools/seconds_scenedetect_adaptive_64p" not in record and "left out (it shows nothing)" in out
    assert "torchcodec reading two frames a second is left out (no FFmpeg)" in out


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not report the peak exactly")
def test_a_command_is_metered():
    used = tools.use([sys.executable, "-c", "bytearray(range(250)) * 400_000; import time; time.sleep(0.2)"])
    assert used.wall > 0.2 and used.seconds > 0 and 100 < used.peak_mb < 150
    with pytest.raises(KeyframeError, match="failed: no frames"):
        tools.use([sys.executable, "-c", "raise SystemExit('no frames')"])


@pytest.mark.full
def test_engine(measured_here, monkeypatch):
    monkeypatch.setattr(growth, "find_spec", lambda name: None)
    out, record, _ = measured_here("engine", "engine.counts=[2,6]", "engine.workers=1")
    for side in ("local", "workers"):
        assert record[f"engine/seconds_a_job_{side}"] == pytest.approx(record[f"engine/seconds_{side}_6"] / 6)
    assert "Ray is not installed" in out


@pytest.mark.full
def test_growth(measured_here):
    sizes = ("growth.lengths=[4,16]", "growth.features=8", "growth.annotators=[2,4]", "repeats=1")
    _, record, _ = measured_here("growth", *sizes, "growth.evaluation.videos=1", "growth.evaluation.frames=300")
    for name in ("dual", "local", "evaluation"):
        assert f"growth/exponent_{name}" in record
    assert record["growth/seconds_dual_16"] > 0


def test_busy(measured_here, monkeypatch):
    """Epochs and commands take three times as long beside others, of which there is one per core."""
    others = []

    @contextmanager
    def burning(count):
        others.append(count)
        yield
        others.append(0)

    def trained(overrides, directory, name):
        slow = 3 if others and others[-1] else 1
        return train.Trained(7, [{"forward": 9}, {"forward": 2 * slow}, {"forward": 9}, {"forward": 4 * slow}], 5)

    commands = []
    monkeypatch.setattr(busy, "burning", burning)
    monkeypatch.setattr(busy, "time_training", trained)
    monkeypatch.setattr(busy, "run_command", lambda name, arguments, directory: commands.append((name, arguments)))
    sizes = ("busy.videos=1", "busy.epochs=2", "repeats=1", "busy.footage.seconds=40", "busy.footage.width=96")
    _, record, _ = measured_here("busy", *sizes, "busy.footage.height=64")
    assert others == [cores(), 0]
    assert (record["busy/stage1_ratio"], record["busy/stage2_ratio"]) == (3, 3)
    assert record["busy/seconds_stage2_alone"] == 4 and record["busy/extract_ratio"] > 0
    assert [arguments[1] for _, arguments in commands] == ["run=0-False", "run=null", "run=0-True", "run=null"]
    assert {name for name, _ in commands} == {"extract"}


def test_extract_measures_an_older_version_in_turn(measured_here, monkeypatch, tmp_path):
    (tmp_path / "old/keyframe/extraction").mkdir(parents=True)
    (tmp_path / "old/keyframe/extraction/video.py").touch()
    given = []

    def run(command, env, **options):
        given.append((env["PYTHONPATH"], command[3], *command[5:]))
        return CompletedProcess(command, 0, "20.0 40.0\n", "")

    monkeypatch.setattr(extract.subprocess, "run", run)
    sizes = (
        "extract.footage.seconds=40",
        "extract.footage.width=96",
        "extract.footage.height=64",
        "extract.size=32",
        "extract.model=resnet10t",
    )
    _, record, place = measured_here("extract", *sizes, "repeats=2", f"extract.before={tmp_path / 'old'}")
    assert len(set(given)) == 1 and len(given) == 2
    root, video, *settings = given[0]
    assert root == str(tmp_path / "old") and Path(video).parent == place / "foot age"
    assert settings == ["resnet10t", "32", "60", "2.0", "0"]
    assert record["extract/model_over_before"] == pytest.approx(record["extract/cpu_seconds_model"] / 40)
    parts = record["extract/cpu_seconds_free"] + record["extract/cpu_seconds_encoding"]
    assert record["extract/model_over_parts"] == pytest.approx(record["extract/cpu_seconds_model"] / parts, rel=0.5)
    assert record["extract/realtime_factor"] == pytest.approx(40 / record["extract/seconds_model"], rel=0.5)
    assert record["extract/model_over_free"] > 0


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        (
            "extract.before=there",
            "extract.before=there is not a checkout of commit 6d3bddf: make one with git worktree add.",
        ),
        (
            "suite=fast",
            "suite=fast is none of decode, train, infer, scale, evaluate, ddp, tools, engine, growth, busy, extract, "
            "long, feature_scale, all.",
        ),
        ("scale.counts=[0,10]", "scale.counts=0 must be a whole number from 1 on."),
        ("scale.counts=[10,2]", "scale.counts=[10, 2] must rise: give them in order, such as [10,100]."),
        ("scale.seconds=3", "scale.seconds=3 must divide 40: choose 1, 2, 4, 5, 8, 10, 20 or 40."),
        ("decode.seconds=50", "decode.seconds must be a multiple of 40, not 50"),
        (
            "decode.sizes=[[64,48],[96,48]]",
            "decode.sizes=[[64, 48], [96, 48]] must be even [width, height] pairs, each height once.",
        ),
        ("train.seconds=50", "train.seconds must be a multiple of 40, not 50"),
        ("train.epochs=10", "train.switch_epoch must be from 1 to 9, not 10"),
        ("evaluate.videos=0", "evaluate.videos=0 must be a whole number from 1 on."),
        ("evaluate.frames=many", "evaluate.frames=many must be a whole number from 30 on."),
        ("ddp.epochs=1", "ddp.epochs=1 must be a whole number from 2 on."),
        ("infer.ways=[fast]", "infer.ways must be of bf16, compiled, onnx, not fast"),
        ("infer.chunks=[0]", "infer.chunks=0 must be a whole number from 1 on."),
        ("long.minutes=[3]", "long.minutes=[3] must be even."),
        ("long.window=0", "long.window=0 must be a whole number from 1 on, or null."),
    ],
)
def test_bad_input_is_one_sentence(argument, words):
    key = argument.partition("=")[0]
    suite = [] if key == "suite" else [f"suite={key.partition('.')[0]}"]
    config = composed("benchmark", [argument, *suite])
    with pytest.raises((KeyframeError, InstantiationException)) as caught:
        check_values(config, "benchmark")
        benchmark(config)
    assert sentence_of(caught.value) == words


@pytest.mark.full
def test_a_refused_value_ends_the_command(command):
    refused = command("suite=infer", "infer.model2=none_such", program="keyframe-benchmark")
    assert "none_such is not a model that timm knows" in refused.sentence()
