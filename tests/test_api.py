"""Keyframes in three lines of Python, as the README has them."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image

import keyframe
from keyframe.config import conf_dir, plain
from keyframe.types import KeyframeError, VideoError
from tests.commands import environment, in_process
from tests.models.build import live
from tests.videos import write_video


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Twenty seconds; a number in each picture, and colours that change every second."""
    return write_video(tmp_path_factory.mktemp("video") / "a film.mp4", frames=160, fps=8, size=(160, 96))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """Model 2 at its full size as a run directory, untrained but for norm layers that tell pictures apart."""
    folder = tmp_path_factory.mktemp("run") / "A"
    (folder / "checkpoints").mkdir(parents=True)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(
            "train", ["data=demo", f"data.root={folder}", "backbone.pretrained=false", f"run_dir={folder}"]
        )
    torch.manual_seed(0)
    detector = instantiate(config.model)
    live(detector.backbone.model)
    weights = {f"detector.{name}": value for name, value in detector.state_dict().items()}
    torch.save({"state_dict": weights, "hyper_parameters": plain(config)}, folder / "checkpoints" / "best.ckpt")
    return folder


def test_three_lines(video, run_folder, tmp_path):
    run = keyframe.load_run(str(run_folder))
    scores = keyframe.score_video(str(video), run, rate=1)
    keyframes = keyframe.select_keyframes(scores, k=4, max_similarity=1.0)
    assert scores.seconds.tolist() == list(range(20)) and scores.frames.tolist() == list(range(0, 160, 8))
    assert scores.scores.shape == (20,) and np.ptp(scores.scores) > 0
    assert scores.scored_by == "a trained model, efficientnet_b0"
    best = np.sort(np.argsort(-scores.scores, kind="stable")[:4])
    assert keyframes.frames.tolist() == scores.frames[best].tolist()
    assert list(keyframes) == keyframes.seconds.tolist() == scores.seconds[best].tolist() and len(keyframes) == 4
    assert keyframes.ranks[np.argmax(keyframes.scores)] == 1
    for given, features in ((run, "lite0"), (None, "clip")):
        with pytest.raises(KeyframeError, match=f"features={features} is "):
            keyframe.score_video(str(video), given, features=features)
    stills = keyframes.save(tmp_path / "found")
    assert [still.seconds for still in stills] == list(keyframes)
    assert sorted(path.name for path in (tmp_path / "found").iterdir()) == sorted(still.path.name for still in stills)
    assert Image.open(stills[0].path).size == (160, 96)


def test_the_model_takes_a_batch_of_videos_at_full_size(run_folder):
    model = keyframe.load_run(run_folder).detector
    batch = torch.rand(2, 6, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        scores = model(batch)
    assert scores.shape == (2, 6) and scores.dtype == torch.float32
    assert scores.min() >= 0 and scores.max() <= 1 and not torch.equal(scores[0], scores[1])


@pytest.mark.full
def test_as_the_command_does(video, tmp_path):
    chosen = ("selection=knapsack", "selection.ratio=0.4", "selection.min_distance=2")
    assert not in_process("extract", video, f"output={tmp_path / 'out'}", *chosen, run_dir=tmp_path / "run")
    keyframes = keyframe.select_keyframes(keyframe.score_video(video), ratio=0.4, min_distance=2)
    keyframes.save(tmp_path / "found")
    for path in (tmp_path / "found").iterdir():
        assert path.read_bytes() == (tmp_path / "out" / "a film" / path.name).read_bytes()
    assert len(list((tmp_path / "out" / "a film").glob("*.jpg"))) == len(keyframes) + 1  # and the contact sheet


def test_methods_and_options(video):
    scores = keyframe.score_video(video)
    assert len(keyframe.select_keyframes(scores, "uniform", k=3, max_similarity=1)) == 3
    assert len(keyframe.select_keyframes(scores, most=2)) <= 2
    with pytest.raises(KeyframeError, match=r"selection\.k=0 must be a whole number"):
        keyframe.select_keyframes(scores, k=0)
    with pytest.raises(TypeError, match="ratio"):
        keyframe.select_keyframes(scores, "top", ratio=0.1)
    with pytest.raises(ValueError, match="method must be one of adaptive, top, knapsack, uniform, not 'best'"):
        keyframe.select_keyframes(scores, "best")
    with pytest.raises(VideoError, match="does not exist"):
        keyframe.score_video("gone.mp4")


def test_importing_the_package_costs_nothing():
    code = (
        "import sys, keyframe; assert not {'torch', 'numpy', 'hydra', 'av'} & set(sys.modules);"
        "keyframe.score_video; assert 'torch' not in sys.modules; assert 'load_run' in dir(keyframe)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())
    with pytest.raises(AttributeError, match="no attribute 'score_vido'"):
        keyframe.score_vido  # noqa: B018
