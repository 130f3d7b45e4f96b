"""What is timed against each other gives the same frames, and what is missing is told."""

import sys

import numpy as np
import pytest

from keyframe.benchmark import decode as decoding
from keyframe.benchmark.decode import READERS, FFmpegDecode, OpenCVSeeks, Reading
from keyframe.benchmark.footage import Footage
from keyframe.data.sampling import UniformSampling
from keyframe.types import KeyframeError


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return Footage(seconds=40, width=160, height=96, rate=5, key_every=20).write(tmp_path_factory.mktemp("footage"))


@pytest.mark.parametrize("reader", READERS)
def test_opencv_reads_the_same_frames(reader, video):
    pytest.importorskip("cv2")
    theirs = OpenCVSeeks(video, UniformSampling(5))()
    ours = Reading(video, READERS[reader](), UniformSampling(5))()
    assert theirs.shape == ours.pixels.shape == (5, 224, 224, 3)
    apart = np.abs(theirs[:, None].astype(int) - ours.pixels[None]).mean(axis=(2, 3, 4))
    assert np.diag(apart).max() < 3 < np.min(apart + 100 * np.eye(5))


def test_snapped_reading_gives_key_frames(video):
    frames = Reading(video, READERS["pyav"](exact=False), UniformSampling(7))()
    assert np.isin(frames.indices, np.arange(0, 200, 20)).sum() >= 5


def test_ffmpeg_must_decode_the_file(video, tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    FFmpegDecode(video)()
    (tmp_path / "no.mp4").write_bytes(b"nothing")
    with pytest.raises(KeyframeError, match=r"ffmpeg cannot decode .*no\.mp4"):
        FFmpegDecode(tmp_path / "no.mp4")()


def test_what_is_missing_is_told_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setattr(decoding.shutil, "which", lambda name: None)
    for find in (decoding.import_opencv, decoding.find_ffmpeg):
        with pytest.raises(KeyframeError, match=r"pip install 'keyframe\[benchmark\]'"):
            find()
