"""What is timed against each other reads the same frames, and what is missing is reported."""

import sys

import numpy as np
import pytest

from keyframe.benchmark import decode
from keyframe.benchmark.decode import (
    READERS,
    decode_with_ffmpeg,
    find_ffmpeg,
    import_opencv,
    read_sampled,
    read_with_opencv,
)
from keyframe.benchmark.footage import Footage
from keyframe.types import KeyframeError, VideoError


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return Footage(seconds=40, width=160, height=96, rate=5, key_every=20).write(tmp_path_factory.mktemp("footage"))


def test_opencv_reads_the_frames_that_our_readers_do(video):
    pytest.importorskip("cv2")
    theirs = {seek: read_with_opencv(video, 5, (224, 224), seek, threads=int(seek)) for seek in (True, False)}
    for reader in READERS.values():
        ours = read_sampled(video, reader(), 5).pixels
        for frames in theirs.values():
            assert frames.shape == ours.shape == (5, 224, 224, 3)
            apart = np.abs(frames[:, None].astype(int) - ours[None]).mean(axis=(2, 3, 4))
            assert np.diag(apart).max() < 3 < np.min(apart + 100 * np.eye(5))  # another conversion of colours
    for seek, frames in theirs.items():
        assert np.array_equal(read_with_opencv(video, 5, (224, 224), seek, first=2), frames[:2])


def test_snapped_reading_gives_key_frames(video):
    frames = read_sampled(video, READERS["pyav"](exact=False), 7)
    assert np.isin(frames.indices, np.arange(0, 200, 20)).sum() >= 5


def test_what_is_no_video_is_reported(video, tmp_path):
    pytest.importorskip("cv2")
    pytest.importorskip("imageio_ffmpeg")
    decode_with_ffmpeg(video)
    (tmp_path / "no.mp4").write_bytes(b"nothing")
    with pytest.raises(KeyframeError, match=r"ffmpeg cannot decode .*no\.mp4"):
        decode_with_ffmpeg(tmp_path / "no.mp4")
    with pytest.raises(VideoError, match="OpenCV cannot read frame 0"):
        read_with_opencv(tmp_path / "no.mp4", 7, (32, 32), seek=False)


def test_what_is_missing_is_reported_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setattr(decode.shutil, "which", lambda name: None)
    for find in (import_opencv, find_ffmpeg):
        with pytest.raises(KeyframeError, match=r"pip install 'keyframe-lightning\[benchmark\]'"):
            find()
