"""Shots by PySceneDetect: the same cuts as the library finds by itself."""

import sys

import numpy as np
import pytest

from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.summary.describe import look
from keyframe.summary.shots import ContentShots
from keyframe.types import KeyframeError


def of_video(path, frames, **settings):
    nothing = look(np.zeros((len(frames), 8, 8, 3), np.uint8))
    return ContentShots(**settings).of_video(index_packets(path), np.array(frames), nothing, PyAVReader())


@pytest.fixture
def scenedetect():
    return pytest.importorskip("scenedetect")


@pytest.mark.parametrize("name", ["psd_testvideo.mp4", "bikes.mp4", "chaplin.mp4"])
def test_cuts_are_those_of_the_library(name, clips, scenedetect):
    path = clips / name
    frames = np.arange(0, index_packets(path).n_frames, 5)
    scenes = scenedetect.detect(str(path), scenedetect.ContentDetector(min_scene_len=1.0))
    cuts = [start.frame_num for start, _ in scenes][1:]
    shots = of_video(path, frames)
    assert shots[1:, 0].tolist() == [-(-cut // 5) for cut in cuts if cut <= frames[-1]]
    assert shots[0, 0] == 0 and shots[-1, 1] == len(frames) - 1
    np.testing.assert_array_equal(shots[1:, 0], shots[:-1, 1] + 1)


def test_what_was_looked_at_may_be_one_frame(clips, scenedetect):
    assert of_video(clips / "bikes.mp4", [100]).tolist() == [[0, 0]]


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with pytest.raises(KeyframeError, match=r"pip install 'keyframe\[shots\]'"):
        ContentShots()


@pytest.mark.parametrize("setting", [{"threshold": 0}, {"threshold": 300}, {"min_length": -1}])
def test_settings_outside_their_range(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        ContentShots(**setting)
