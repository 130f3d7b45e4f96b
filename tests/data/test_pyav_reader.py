"""PyAV decodes no more than it needs, if key frames are sure."""

from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from keyframe.data import pyav_reader
from keyframe.data.container import open_video
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.reader import why_not_seek
from tests.data.reading import SIZE, TRUSTED, numbers, same
from tests.videos import N_FRAMES, overwrite, packet_places


@pytest.fixture(autouse=True)
def seeks_at_once(monkeypatch):
    monkeypatch.setattr(pyav_reader, "_WORTH_A_SEEK", 1)


@pytest.fixture
def from_the_start(monkeypatch):
    """Reads as if no key frame were sure: every frame is decoded."""

    def read(path, wanted, size):
        with monkeypatch.context() as patch:
            patch.setattr(pyav_reader, "why_not_seek", lambda index: "this is a test")
            return PyAVReader().read(path, wanted, size)

    return read


@pytest.fixture
def decoded(monkeypatch):
    """The numbers of the frames that PyAV gives out, wanted or not."""
    found = []

    class Stream:
        def __init__(self, stream, path):
            self.stream = stream
            self.pts = index_packets(path).pts.tolist()
            self.codec_context = stream.codec_context
            self.sample_aspect_ratio = stream.sample_aspect_ratio

        def decode(self, packet):
            frames = self.stream.decode(packet)
            found.extend(self.pts.index(frame.pts) for frame in frames)
            return frames

    @contextmanager
    def counting(path, number):
        with open_video(path, number) as (container, stream):
            yield (
                SimpleNamespace(
                    demux=lambda counted: container.demux(counted.stream),
                    seek=lambda place, stream: container.seek(place, stream=stream.stream),
                ),
                Stream(stream, path),
            )

    monkeypatch.setattr(pyav_reader, "open_video", counting)
    return found


@pytest.mark.parametrize("name", sorted({*TRUSTED, "ten_bit.mp4", "two_streams.mp4", "mirrored.mp4", "live.mkv"}))
def test_frames_are_those_of_a_full_decode(name, video, from_the_start):
    assert why_not_seek(index_packets(video(name))) is None
    everything = from_the_start(video(name), np.arange(N_FRAMES), SIZE)
    for threads, choices in ((1, ([0, 47], [40], [11, 12, 13, 23, 36], range(48))), (2, ([5, 6, 30, 31],))):
        for wanted in choices:
            frames = PyAVReader(threads).read(video(name), np.array(wanted), SIZE)
            assert frames.indices.tolist() == list(wanted)
            np.testing.assert_array_equal(frames.pixels, everything.pixels[list(wanted)])


@pytest.mark.parametrize("name", ["flower.mp4", "flower.webm", "friday.mp4", "bikes.mp4", "tc_h264_10bit.mp4"])
def test_frames_of_real_clips_too(name, clips, from_the_start):
    wanted = np.sort(np.random.default_rng(0).choice(index_packets(clips / name).n_frames, 9, replace=False))
    same(PyAVReader().read(clips / name, wanted, (36, 64)), from_the_start(clips / name, wanted, (36, 64)))


def test_what_no_frame_needs_is_not_decoded(video, decoded):
    """Frame 38 is a B-frame after the key frame 36, frame 2 one after 0; they need 3 and 39."""
    assert numbers(PyAVReader().read(video("plain.mp4"), np.array([2, 38]), SIZE)) == [2, 38]
    assert {0, 2, 36, 38} <= set(decoded) <= {0, 1, 2, 3, 36, 37, 38, 39}
    decoded.clear()
    assert numbers(PyAVReader().read(video("plain.mp4"), np.array([0, 12, 36]), SIZE)) == [0, 12, 36]
    assert decoded == [0, 12, 36]


@pytest.mark.parametrize("name", ["plain.mp4", "long_gop.mp4", "hevc.mp4"])
def test_a_rough_reading_has_the_same_frames_and_almost_the_same_images(name, video, monkeypatch):
    exact = PyAVReader().read(video(name), np.arange(N_FRAMES), SIZE)
    differ = {}
    for longest in (60, 10):  # 10: as if all groups were long
        monkeypatch.setattr(pyav_reader, "_SHORT_GROUP", longest)
        rough = PyAVReader().roughly().read(video(name), np.arange(N_FRAMES), SIZE)
        assert rough.indices.tolist() == exact.indices.tolist() and numbers(rough) == numbers(exact)
        differ[longest] = np.abs(rough.pixels.astype(int) - exact.pixels).mean()
    if name == "hevc.mp4":
        assert differ == {60: 0, 10: 0}
    else:
        assert 0 <= differ[10] < differ[60] < 4
    assert PyAVReader().roughly().roughly().progress is None


def test_a_seek_that_lands_too_late_costs_time_only(video, monkeypatch):
    seek = pyav_reader._seek
    for lands in (36, 47):
        monkeypatch.setattr(
            pyav_reader,
            "_seek",
            lambda box, stream, index, number, to=lands: seek(box, stream, index, to if number else 0),
        )
        assert numbers(PyAVReader().read(video("plain.mp4"), np.array([2, 13, 30]), SIZE)) == [2, 13, 30]


def test_a_frame_that_does_not_come_is_replaced_as_ever(video, tmp_path):
    """Damage that the index does not show."""
    path = tmp_path / "hole.mp4"
    path.write_bytes(video("every_frame_key.mp4").read_bytes())
    whole = index_packets(path)
    overwrite(path, packet_places(path)[20:22])
    whole = replace(whole, state=index_packets(path).state)
    frames = PyAVReader(max_missing=0.5).read(path, np.array([3, 21, 30]), SIZE, whole)
    assert frames.indices.tolist() == numbers(frames) == [3, 19, 30]
