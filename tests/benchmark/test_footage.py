import numpy as np
import pytest

from keyframe.benchmark.footage import Footage
from keyframe.data.decord_reader import why_not_decord
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader

SMALL = Footage(seconds=80, width=96, height=64, rate=5, key_every=20)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return SMALL.write(tmp_path_factory.mktemp("footage"))


def test_length_rate_and_key_frames_are_as_asked(video):
    index = index_packets(video)
    assert (index.n_frames, index.upright_size) == (400, (64, 96))
    assert index.timestamps == pytest.approx(np.arange(400) / 5)
    assert np.flatnonzero(index.key_frames).tolist() == list(range(0, 400, 20))
    assert why_not_decord(index) is None


def test_the_second_piece_shows_what_the_first_does(video):
    frames = PyAVReader().read(video, np.array([3, 111, 203, 311]), None)
    assert np.array_equal(frames.pixels[0], frames.pixels[2]) and np.array_equal(frames.pixels[1], frames.pixels[3])
    assert np.abs(frames.pixels[0].astype(int) - frames.pixels[1]).mean() > 10


def test_it_is_made_once(video):
    before = video.stat().st_mtime_ns
    assert SMALL.write(video.parent) == video and video.stat().st_mtime_ns == before
    assert [path.name for path in video.parent.iterdir()] == [video.name]


def test_pieces_must_fit():
    with pytest.raises(ValueError, match="whole pieces"):
        Footage(seconds=50)
