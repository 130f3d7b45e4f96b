"""keyframe-extract as people type it."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.sampling import FpsSampling
from keyframe.runs import load_run
from tests.commands import environment, hear_ctrl_c, script
from tests.videos import write_video

# Names that a shell, Hydra's grammar or OmegaConf take for something else.
AWKWARD = [
    "my holiday (1).mp4",
    "a=b.mp4",
    "#1, [take] {two}.mp4",
    'it\'s "this".mp4',
    "cost ${x} $HOME.mp4",
    "été 日本語 🎬.mp4",
    "two\nlines.mp4",
    "-dash.mp4",
    "123",
]


@pytest.fixture(scope="module")
def extract(command):
    return lambda *arguments, **changes: command(*arguments, program="keyframe-extract", **changes)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Six seconds: twelve frames at two a second, as many as a tiny run's model sees at once."""
    return write_video(tmp_path_factory.mktemp("video") / "six seconds.mp4", frames=150)


def summary_of(directory):
    return json.loads((directory / "summary.json").read_text())


def scores_of(directory):
    with (directory / "scores.csv").open() as file:
        return [float(row["score"]) for row in csv.DictReader(file)]


def test_awkward_names_a_bad_file_and_a_second_start(extract, video, tmp_path):
    names = [str(tmp_path / name) for name in AWKWARD]
    for number, name in enumerate(names):
        write_video(name, frames=8, container="mp4", seed=number)
    bad = tmp_path / "bad.mp4"
    bad.write_text("not a video")
    common = (f"output={tmp_path / 'the output'}", "selection=uniform", "selection.k=1", "workers=1")
    done = extract(*names, bad, tmp_path / "gone.mp4", *common)
    assert done.status == 1 and "Traceback" not in done.err
    assert "2 of 11 videos failed" in done.err and "11 videos: 9 done, 0 skipped, 2 failed" in done.out
    assert "gone.mp4 does not exist" in done.out and "bad.mp4 is not a video" in done.out
    folders = list((tmp_path / "the output").iterdir())
    assert {summary_of(folder)["video"]["name"] for folder in folders} == set(AWKWARD)
    assert "without a trained model" in done.out
    again = extract(*names, *common).good()
    assert "9 videos: 0 done, 9 skipped, 0 failed" in again.out


def test_a_folder_and_a_list(extract, video, tmp_path):
    place = tmp_path / "a, b"
    (place / "deep").mkdir(parents=True)
    for path in (place / "one.mp4", place / "deep" / "two.mp4"):
        write_video(path, frames=8, seed=len(str(path)))
    (place / "list.txt").write_text("one.mp4\ndeep/two.mp4\n")
    assert "see" in extract(f"input={place}", f"output={tmp_path / '1'}").good().out
    for number, given in ((2, (f"input={place}", "recursive=true")), (3, (place / "list.txt",))):
        out = tmp_path / str(number)
        assert "2 videos: 2 done" in extract(*given, f"output={out}", "workers=1").good().out
        assert {path.name for path in out.iterdir()} == {"one", "two"}


@pytest.fixture(scope="module")
def scored(extract, runs, video, tmp_path_factory):
    place = tmp_path_factory.mktemp("scored") / "out"
    run = runs / "folds" / "0"
    return extract(video, f"run={run}", f"output={place}", "summary_video=true", "threads=1").good(), run, place


def test_a_run_scores_a_video_of_one_window_as_its_model_does(scored, video):
    _, path, place = scored
    run = load_run(path)
    index = index_packets(video)
    frames = PyAVReader().read(video, FpsSampling(2.0).indices(index), run.frame_shape[1:], index)
    with torch.inference_mode():
        expected = run.detector(torch.from_numpy(frames.pixels).permute(0, 3, 1, 2)[None])[0].numpy()
    assert len(expected) == run.window == 12
    # decord and PyAV place chroma a little differently.
    np.testing.assert_allclose(scores_of(place / "six seconds"), expected, atol=5e-3)
    assert np.ptp(expected) > 2e-3


def test_what_a_run_leaves(scored):
    done, run, place = scored
    summary = summary_of(place / "six seconds")
    assert summary["scorer"]["kind"] == "model" and len(summary["scorer"]["checkpoint_sha256"]) == 64
    assert {"torch", "timm"} <= summary["versions"].keys()
    assert str(run) not in json.dumps(summary)
    assert "skim.mp4" in summary["files"]
    assert "a trained model, efficientnet_b0" in (place / "six seconds" / "index.html").read_text()
    assert "without a trained model" not in done.out


def test_in_bfloat16_the_scores_are_nearly_those(extract, scored, video, tmp_path):
    _, run, place = scored
    extract(video, f"run={run}", f"output={tmp_path / 'out'}", "threads=1", "bf16=true").good()
    ours, theirs = scores_of(tmp_path / "out" / "six seconds"), scores_of(place / "six seconds")
    assert not np.array_equal(ours, theirs)
    np.testing.assert_allclose(ours, theirs, atol=0.02)  # bfloat16 has 8 bits of precision
    assert summary_of(tmp_path / "out" / "six seconds")["scorer"]["bf16"] is True
    assert "bf16" not in summary_of(place / "six seconds")["scorer"]


def test_another_run_is_other_work_and_the_same_is_none(extract, scored, runs, video):
    _, run, place = scored
    common = (video, f"output={place}", "summary_video=true", "threads=1")
    assert "Done before" in extract(*common, f"run={run / 'checkpoints' / 'best.ckpt'}").good().out
    before = summary_of(place / "six seconds")["fingerprint"]
    extract(*common, f"run={runs / 'seed1'}").good()
    assert summary_of(place / "six seconds")["fingerprint"] != before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "there is no video"),
        (["VIDEO", "bf16=true"], "bf16=true is for the model of a run"),
        (["VIDEO", "bf16=half"], "bf16"),
        (["gone.mp4"], "gone.mp4 does not exist: check the path"),
        (["."], "holds no videos"),
        (["VIDEO", "selection=top", "selection.k=0"], "selection.k must be a whole number from 1 on, not 0"),
        (["VIDEO", "selection=best"], "selection=best is not there"),
        (["VIDEO", "rate=0"], "rate=0 must be a number above 0"),
        (["VIDEO", "quality=100"], "quality=100"),
        (["VIDEO", "workers=0"], "workers=0 must be a whole number from 1 on"),
        (["VIDEO", "engine=cloud"], "engine=cloud is not there: choose one of local, ray"),
        (["VIDEO", "run=nowhere"], "run=nowhere: there is no checkpoint"),
        (["VIDEO", "output=VIDEO"], "cannot be written"),
        (["VIDEO", "hight=3"], "hight"),
    ],
)
def test_bad_input_is_one_sentence(arguments, said, extract, video):
    sentence = extract(*(argument.replace("VIDEO", str(video)) for argument in arguments)).sentence()
    assert said in sentence


def test_a_checkpoint_of_something_else(extract, video, tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "x.ckpt")
    assert "x.ckpt" in extract(video, f"run={tmp_path / 'x.ckpt'}").sentence()


@pytest.mark.parametrize(("workers", "number"), [(1, signal.SIGINT), (2, signal.SIGINT), (1, signal.SIGTERM)])
def test_interrupted_it_leaves_whole_folders_only(workers, number, video, tmp_path):
    videos = [write_video(tmp_path / f"{name}.mp4", frames=50, seed=name) for name in range(8)]
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, *script("extract"), *map(str, videos), f"output={out}", f"workers={workers}"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=hear_ctrl_c,
    )
    limit = time.monotonic() + 120
    while not (out.is_dir() and any(path.is_dir() and path.name[0] == "." for path in out.iterdir())):  # A draft.
        assert process.poll() is None and time.monotonic() < limit, process.communicate()[0]
        time.sleep(0.005)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130, output
    assert "the same command goes on" in output
    for path in out.iterdir():
        assert set(summary_of(path)["files"]) == {file.name for file in path.iterdir()}
    assert len(list(out.iterdir())) < 8
