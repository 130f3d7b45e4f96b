"""`keyframe-features`: from videos to a feature file that trains."""

import json
import logging
import shlex
import shutil

import h5py
import numpy as np
import pytest
import torch

from keyframe.data.feature_file import read_feature_files
from keyframe.data.labels import read_labels, write_tsv
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.splits import read_folds
from keyframe.runs import load_detector
from keyframe.summary.shots import check_shots
from tests.commands import in_process
from tests.data.labelled import FRAMES, write_labelled

SMALL = ("size=32", "backbone=resnet18", "backbone.pretrained=false")


@pytest.fixture(scope="module")
def demo(tiny_demo):
    """The folder of the demo's videos, and its label file."""
    (labels,) = tiny_demo.rglob("*.tsv")
    return labels.parent / "videos", labels


@pytest.fixture(scope="module")
def made(command, demo, tmp_path_factory):
    """A file of the demo's videos and one that is none, under names that Hydra cannot read unquoted."""
    place = tmp_path_factory.mktemp("my features (1)")
    (place / "torn.mp4").write_bytes(b"no video")
    out = place / "a=b.h5"
    videos, labels = demo
    done = command(
        f"input=[{videos},{place / 'torn.mp4'}]", f"out={out}", f"labels={labels}", *SMALL, program="keyframe-features"
    )
    return done.good(), out


@pytest.fixture
def features(tmp_path_factory, caplog):
    """Runs the task on arguments in this process; the sentence that it refuses them with, or ""."""
    caplog.set_level(logging.INFO)
    return lambda *arguments: in_process("features", *arguments, run_dir=tmp_path_factory.mktemp("run"))


@pytest.fixture
def own(tmp_path):
    """Three short videos of a user's own, with labels."""
    return write_labelled(tmp_path / "own", videos=3)


@pytest.mark.full
def test_the_file_is_what_published_systems_read(made, demo):
    _, out = made
    videos, labels = demo
    tracks = read_labels(labels)
    with h5py.File(out) as file:
        assert (file.attrs["backbone"], file.attrs["weights"]) == ("resnet18", "random, seed 0")
        assert (file.attrs["height"], file.attrs["width"], file.attrs["step"]) == (32, 32, 15)
        assert set(file) == {f"video_{number}" for number in range(1, 16)}
        names = {group["video_name"].asstr()[()] for group in file.values()}
        assert names == {path.stem for path in videos.iterdir()} == set(tracks)
        for group in file.values():
            name = group["video_name"].asstr()[()]
            n_frames = index_packets(videos / f"{name}.mp4").n_frames
            n_steps = len(range(0, n_frames, 15))
            assert (group["n_frames"][()], group["n_steps"][()]) == (n_frames, n_steps)
            np.testing.assert_array_equal(group["picks"], range(0, n_frames, 15))
            assert group["features"].shape == (n_steps, 512) and group["features"].dtype == np.float32
            check_shots(group["change_points"][()], n_frames)
            np.testing.assert_array_equal(group["n_frame_per_seg"], np.diff(group["change_points"][()])[:, 0] + 1)
            np.testing.assert_array_equal(group["gtscore"], tracks[name].annotators.mean(0)[::15].astype(np.float32))
            assert group["gtsummary"].shape == (n_steps,)
            users = group["user_summary"][()]
            assert users.shape == (20, n_frames) and set(np.unique(users)) == {0, 1}
            assert (users.sum(1) <= int(0.15 * n_frames)).all()


@pytest.mark.full
def test_it_says_what_was_left_out_and_trains_as_it_says(command, made, tmp_path):
    done, out = made
    assert "1 of 16 videos were left out:\n  torn: " in done.out and "torn.mp4" in done.out
    assert "(15 videos, 512 channels" in done.out
    (line,) = [line for line in done.out.splitlines() if line.startswith("Train on it: ")]
    program, *arguments = shlex.split(line.removeprefix("Train on it: "))
    assert program == "keyframe-train" and f"data.path={out}" in arguments
    quick = ("trainer=cpu", "logger=csv", "trainer.max_epochs=2", f"hydra.run.dir={tmp_path / 'run'}")
    command(*arguments, *quick).good()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert sum(metrics[f"data/videos_{part}"] for part in ("train", "val", "test")) == 15
    assert -1 <= metrics["test/spearman"] <= 1


@pytest.mark.full
def test_the_backbone_of_a_run_encodes_at_its_size(command, runs, demo, tmp_path):
    out = tmp_path / "run.h5"
    videos, _ = demo
    name = sorted(path.stem for path in videos.iterdir())[0]
    command(videos / f"{name}.mp4", f"out={out}", f"run={runs / 'resnet'}", program="keyframe-features").good()
    backbone = load_detector(runs / "resnet").backbone
    picks = np.arange(0, index_packets(videos / f"{name}.mp4").n_frames, 15)
    pixels = PyAVReader().read(videos / f"{name}.mp4", picks, (32, 32)).pixels
    pictures = (torch.from_numpy(pixels) / 255 - torch.tensor(backbone.mean)) / torch.tensor(backbone.std)
    with torch.inference_mode():
        expected = backbone(pictures.permute(0, 3, 1, 2)).numpy()
    with h5py.File(out) as file:
        assert file.attrs["weights"] == "of a training run" and file.attrs["width"] == 32
        np.testing.assert_allclose(file["video_1/features"], expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_videos_without_labels(features, own, tmp_path, caplog):
    out = tmp_path / "none.h5"
    arguments = (f"input={own / 'videos'}", f"out={out}", *SMALL, "width=16", "unit_length=true", "folds=3")
    assert not features(*arguments, f"splits=[{tmp_path / 'a b.json'},{tmp_path / 'new' / 'c.txt'}]")
    assert "Folds: " in caplog.text and "(3 of 3 videos)" in caplog.text and "3 videos, 16 channels" in caplog.text
    with h5py.File(out) as file:
        assert (file.attrs["channels"], file.attrs["unit_length"]) == (16, 1)
        assert file.attrs["projection"] == "fixed random orthonormal, from 512 channels"
        np.testing.assert_allclose(np.linalg.norm(file["video_3/features"], axis=1), 1, rtol=1e-5)
    tested = [fold["test_keys"] for fold in read_folds(tmp_path / "a b.json")]
    assert sorted(tested) == [["video_1"], ["video_2"], ["video_3"]]
    assert (tmp_path / "new" / "c.txt").read_text().startswith("none/split0/video_")
    assert "a b.json exists already" in features(
        *arguments, f"splits={tmp_path / 'a b.json'}", f"out={tmp_path / 'b.h5'}"
    )
    assert "labels=FILE" in caplog.text and "Train on it" not in caplog.text
    assert "features of random weights (seed=0)" in caplog.text
    with h5py.File(out) as file:
        assert not {"gtscore", "gtsummary", "user_summary"} & set(file["video_3"])
    # labels of two of three
    write_tsv(tmp_path / "two.tsv", {name: np.ones((2, FRAMES), int) for name in ("clip2", "clip0", "elsewhere")})
    assert not features(*arguments, f"labels={tmp_path / 'two.tsv'}", "overwrite=true")
    assert "Without labels: 1 of 3 (clip1)" in caplog.text and "Train on it" not in caplog.text
    with h5py.File(out) as file:
        # numbered as in the label file, in which a video without a file is the third
        names = {key: group["video_name"].asstr()[()] for key, group in file.items()}
        assert names == {"video_1": "clip2", "video_2": "clip0", "video_4": "clip1"}
        assert {key: "gtscore" in group for key, group in file.items()} == {
            "video_1": True,
            "video_2": True,
            "video_4": False,
        }


def test_a_video_whose_labels_do_not_fit_is_left_out(features, own, tmp_path, caplog):
    write_tsv(tmp_path / "l.tsv", {f"clip{n}": np.ones((2, FRAMES * (1 + n)), int) for n in range(3)})
    (tmp_path / "disk").mkdir()
    (tmp_path / "a.h5").symlink_to(tmp_path / "disk" / "b.h5")
    assert not features(own / "videos", f"out={tmp_path / 'a.h5'}", f"labels={tmp_path / 'l.tsv'}", *SMALL)
    assert (tmp_path / "a.h5").is_symlink() and (tmp_path / "disk" / "b.h5").is_file()
    assert "2 of 3 videos were left out" in caplog.text and f"its labels {2 * FRAMES}" in caplog.text
    assert list(read_feature_files(tmp_path / "a.h5")) == ["clip0"]
    # and its principal components are the directions of another file
    out = tmp_path / "p.h5"
    assert not features(own / "videos", f"out={out}", *SMALL, "width=2", f"pca={tmp_path / 'a.h5'}")
    with h5py.File(out) as file:
        assert file.attrs["projection"] == "PCA of a.h5 (1 videos, 100.0% of the variance), from 512 channels"
        assert file["video_1/features"].shape == (3, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["out={out}"], ["no video", "keyframe-features videos out="]),
        (["input={videos}"], ["out is not set"]),
        (["input={videos}", "out={there}"], ["there.h5 exists already", "overwrite=true"]),
        (["input={videos}", "out={videos}"], ["videos is a folder", "features.h5"]),
        (["input={videos}", "out={dangling}"], ["dangling.h5 is a link to", "whose folder is missing"]),
        (["input={videos}", "out={there}/a.h5"], ["there.h5", "cannot be written", "name another"]),
        (["input={videos}", "out={out}", "step=0"], ["step=0 must be a whole number from 1"]),
        (["input={videos}", "out={out}", "size=small"], ["size=small must be a whole number from 1"]),
        (["input={videos}", "out={out}", "pca={there}"], ["pca=", "add width=1024"]),
        (["input={videos}", "out={out}", "width=0"], ["width=0 must be a whole number from 1"]),
        (
            ["input={videos}", "out={out}", "splits=folds.csv", "folds=2"],
            ["splits=folds.csv", "in .json, .yml or .txt"],
        ),
        (["input={videos}", "out={out}", "splits=a.yml"], ["folds=5 are too many for 3 videos"]),
        (["input={videos}", "out={out}", "splits={there}/a.yml", "folds=2"], ["a.yml cannot be written"]),
        (["input={videos}", "out={out}", "lowest=low"], ["lowest=low must be a number"]),
        (["input={videos}", "out={out}", "backbone=resnet5000"], ["backbone.name=resnet5000", "near it: resnet50"]),
        (["input={videos}", "out={out}", "backbone=none"], ["no image backbone", "backbone=resnet50"]),
        (["input={videos}", "out={out}", "backbone=vit_tiny_patch16_224"], ["vit_tiny", "32x32", "set size"]),
        (["input={videos}", "out={out}", "run=gone"], ["run= and backbone", "cannot be combined"]),
        (["input={videos}", "out={out}", "labels=gone.tsv"], ["no file gone.tsv", "set labels"]),
        (["input={videos}", "out={out}", "labels={stranger}"], ["elsewhere", "none of the videos clip0", "by its id"]),
        (["input=[{videos},{copy}]", "out={out}"], ["both the video clip1", "rename one"]),
        (["input={torn}", "out={out}"], ["torn.mp4"]),
        (["input=[{torn},{stranger}]", "out={out}"], ["none of 2 videos", "torn.mp4"]),
    ],
)
def test_bad_input_is_one_sentence(features, own, tmp_path, arguments, words):
    places = {"videos": own / "videos", "out": tmp_path / "out.h5", "there": tmp_path / "there.h5"}
    places |= {"torn": tmp_path / "torn.mp4", "copy": tmp_path / "clip1.mp4", "stranger": tmp_path / "strange.tsv"}
    places["dangling"] = tmp_path / "dangling.h5"
    places["dangling"].symlink_to(tmp_path / "unmounted" / "a.h5")
    places["there"].write_text("precious")
    places["torn"].write_text("no video")
    shutil.copy(places["videos"] / "clip1.mp4", places["copy"])
    write_tsv(places["stranger"], {"elsewhere": np.ones((1, 5), int)})
    before = {path.name for path in tmp_path.iterdir()}
    small = [one for one in SMALL if not any(given.startswith(one.split("=")[0] + "=") for given in arguments)]
    if "backbone=none" in arguments:
        small.remove("backbone.pretrained=false")
    given = [argument.format(**places) for argument in arguments]
    sentence = features(*given, *small)
    assert all(word in sentence for word in words), sentence
    assert places["there"].read_text() == "precious" and {path.name for path in tmp_path.iterdir()} == before


def test_weights_that_cannot_be_downloaded_are_never_replaced_by_random_ones(features, own, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no"))
    sentence = features(f"input={own / 'videos'}", f"out={tmp_path / 'a.h5'}", "size=32")
    assert "ImageNet weights of efficientnet_b0" in sentence and "backbone.pretrained=false" in sentence
