"""When the checked reader trusts decord, and that PyAV takes over where it must not."""

import importlib.util
import logging
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from keyframe.data import decord_reader
from keyframe.data.decord_reader import DecordReader, why_not_decord, why_too_much_for_decord
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.types import Frames
from tests.data.reading import SIZE, TRUSTED, joined, needs_decord, numbers, same
from tests.videos import COPIES, KINDS, N_FRAMES, overwrite, packet_places

REASONS = {
    "open_gop.mp4": "open GOP",
    "open_gop.mkv": "open GOP",
    "intra_refresh.mp4": "intra refresh",
    "ten_bit.mp4": "yuv420p10le",
    "two_streams.mp4": "2 video streams",
    "transport.ts": "mpegts",
    "flash.flv": "flv",
    "raw.h264": "container is h264",
    "h264.avi": "avi",
    "mpeg4.avi": "mpeg4",
    "mpeg4.mp4": "mpeg4",
    "mpeg2.ts": "mpeg2video",
    "hevc.mp4": "hevc",
    "mirrored.mp4": "mirrored",
    "upside_down.mp4": "mirrored",
    "turned_and_mirrored.mp4": "mirrored",
    "edit_list.mp4": "not shown",
    "edit_list_one_gop.mp4": "not shown",
    "live.mkv": "no duration",
    "no_key_first.mp4": "not shown",
    "no_key_first.ts": "mpegts",
    "open_gop_cut.mp4": "not shown",
}


@needs_decord
class TestBeyondDecord:
    """Videos that decord reads rightly but not in little memory."""

    def test_pyav_reads_large_files(self, video, monkeypatch, caplog):
        monkeypatch.setattr(decord_reader, "_MOST_FILE_BYTES", 0)
        with caplog.at_level(logging.INFO):
            frames = DecordReader().read(video("plain.mp4"), np.array([3, 40]), SIZE)
        assert "larger than 0 MB" in caplog.text
        same(frames, PyAVReader().read(video("plain.mp4"), np.array([3, 40]), SIZE))

    def test_group_that_is_too_large(self, video, monkeypatch):
        monkeypatch.setattr(decord_reader, "_MOST_GROUP_BYTES", 3 * SIZE[0] * SIZE[1] * 5)
        index = index_packets(video("plain.mp4"))  # Key frames at 0, 12, 24 and 36.
        few, many = np.array([0, 1, 1, 2, 3, 11, 12, 20]), np.array([0, 12, 13, 14, 15, 16, 17])
        assert why_too_much_for_decord(index, few, SIZE) is None
        assert "between two key frames" in (why_too_much_for_decord(index, many, SIZE) or "")


def test_a_width_that_decord_cannot_scale_to_is_read_by_pyav(video, caplog):
    caplog.set_level(logging.INFO)
    for width in (16, 24, 48, 72):
        frames = DecordReader().read(video("plain.mp4"), np.array([0, 3]), (32, width))
        assert frames.pixels.shape == (2, 32, width, 3)
        assert f"cannot scale to a width of {width}" in caplog.text and "fails" not in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="forking is safe on Linux only")
def test_it_serves_in_forked_processes_after_use_in_the_parent(video):
    reader, indices = DecordReader(), np.array([3, 17, 40])
    here = reader.read(video("plain.mp4"), indices, SIZE)
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as workers:
        for there in [workers.submit(reader.read, video("plain.mp4"), indices, SIZE) for _ in range(2)]:
            np.testing.assert_array_equal(there.result(timeout=60).pixels, here.pixels)


def test_every_kind_is_either_trusted_or_has_its_reason():
    assert TRUSTED.isdisjoint(REASONS)
    assert TRUSTED | set(REASONS) == set(KINDS) | set(COPIES)


@pytest.mark.parametrize("name", sorted(REASONS))
def test_decord_is_kept_from(name, video, caplog):
    index = index_packets(video(name))
    assert REASONS[name] in (why_not_decord(index) or "")
    if importlib.util.find_spec("decord"):
        with caplog.at_level(logging.INFO):
            DecordReader().read(video(name), np.array([0]), SIZE, index)
            DecordReader().read(video(name), np.array([5]), SIZE, index)
        assert [REASONS[name] in record.getMessage() for record in caplog.records] == [True]
        assert str(video(name)) in caplog.text


@needs_decord
@pytest.mark.parametrize("name", sorted(TRUSTED))
def test_decord_itself_reads_and_shows_what_pyav_shows(name, video, monkeypatch):
    def refuse(*_: object) -> Frames:
        raise AssertionError("PyAV was asked")

    indices = np.array([4, 21, 39])
    exact = PyAVReader().read(video(name), indices, SIZE)
    monkeypatch.setattr(PyAVReader, "stream", refuse)
    fast = DecordReader().read(video(name), indices, SIZE)
    assert numbers(fast) == [4, 21, 39]
    turned = name.startswith("rotated")  # PyAV places chroma after the turn, decord before it
    assert np.abs(fast.pixels.astype(int) - exact.pixels).mean() < (2.5 if turned else 1.5)


@needs_decord
def test_both_readers_give_the_same_pictures_of_the_kind_of_file_that_tvsum_has(video):
    path = video("long_gop.mp4")  # H.264 in MP4 with B-frames and rare key frames, 8 bits
    wanted = np.arange(0, N_FRAMES, 3)
    same(DecordReader().read(path, wanted, None), PyAVReader().read(path, wanted, None))
    scaled = [reader.read(path, wanted, (90, 90)).pixels.astype(int) for reader in (DecordReader(), PyAVReader())]
    assert np.abs(scaled[0] - scaled[1]).mean() < 1  # chroma is placed differently


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"stated_duration": 1e9}, "far from the true one"),
        ({"rotation": None}, "first frame does not decode"),
        ({"pix_fmt": ""}, "unknown"),
        ({"intact": False}, "damaged"),
        ({"pts": np.zeros(N_FRAMES, np.int64)}, "share a time stamp"),
    ],
)
def test_rules_that_no_generated_video_breaks(change, says, video):
    index = index_packets(video("plain.mp4"))
    assert why_not_decord(index) is None
    assert says in (why_not_decord(replace(index, **change)) or "")


class FakeDecord(ModuleType):
    """A decord that lists other frames than the file has, or fails."""

    logging = SimpleNamespace(set_level=lambda level: None, QUIET=0)

    def __init__(
        self,
        n_frames: int = N_FRAMES,
        late: float = 0.0,
        keys: tuple[int, ...] = (0, 12, 24, 36),
        fails_at: int = N_FRAMES,
    ) -> None:
        super().__init__("decord")
        self.n_frames, self.late, self.keys, self.fails_at = n_frames, late, keys, fails_at
        self.calls: list[object] = []

    def cpu(self, number: int) -> int:
        return number

    def VideoReader(self, *_: object, **__: object) -> "FakeDecord":  # noqa: N802
        return self

    def __len__(self) -> int:
        return self.n_frames

    def get_frame_timestamp(self, numbers: np.ndarray) -> np.ndarray:
        starts = np.asarray(numbers) / 25
        starts[-1] += self.late
        return np.stack([starts, starts + 0.04], axis=1).astype(np.float32)

    def get_key_indices(self) -> list[int]:
        return list(self.keys)

    def seek(self, _: int) -> None:
        self.calls.append("seek")

    def get_batch(self, numbers: np.ndarray) -> np.ndarray:
        self.calls.append(numbers.tolist())
        if max(numbers) >= self.fails_at:
            raise RuntimeError("[12:00:00] /github/workspace/src/video/video_reader.cc:270: Check failed")
        return np.full((len(numbers), *SIZE, 3), 7, np.uint8)


@pytest.mark.parametrize(
    ("fake", "says"),
    [
        (FakeDecord(n_frames=N_FRAMES + 1), f"decord lists {N_FRAMES + 1} frames and its packets {N_FRAMES}"),
        (FakeDecord(late=0.04), "decord's time stamps are not those of its packets"),
        (FakeDecord(late=float("nan")), "decord's time stamps are not those of its packets"),
        (FakeDecord(keys=(0, 10, 24)), "decord starts at frames that are not key frames"),
        (FakeDecord(fails_at=0), "decord fails on it"),
    ],
)
def test_pyav_takes_over_if_decord_disagrees_or_fails(fake, says, video, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "decord", fake)
    frames = DecordReader().read(video("plain.mp4"), np.array([4, 30]), SIZE)
    assert numbers(frames) == [4, 30]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert says in caplog.text
    assert "workspace" not in caplog.text


def test_pyav_takes_over_in_mid_stream(video, monkeypatch, caplog):
    """From there on; and what was shown last stands for frames that PyAV does not have."""
    monkeypatch.setitem(sys.modules, "decord", FakeDecord(fails_at=24))
    stream = DecordReader().stream(video("plain.mp4"), np.arange(0, 48, 3), SIZE, chunk=5)
    pieces = list(stream)
    assert joined(pieces).indices.tolist() == list(range(0, 48, 3))
    assert np.all(pieces[0].pixels == 7)
    assert numbers(joined(pieces[1:])) == list(range(15, 48, 3))
    assert "decord fails on it" in caplog.text


def test_time_never_runs_backwards_if_pyav_takes_over(video, monkeypatch, tmp_path):
    path = tmp_path / "hole.mp4"
    path.write_bytes(video("plain.mp4").read_bytes())
    whole = index_packets(path)
    overwrite(path, packet_places(path)[12:24])  # The second group of pictures: decord "decodes" its beginning.
    whole = replace(whole, state=index_packets(path).state)
    monkeypatch.setitem(sys.modules, "decord", FakeDecord(fails_at=24))
    reader = DecordReader(max_missing=1.0)
    pieces = list(reader.stream(path, np.arange(12, 30, 2), SIZE, whole, chunk=4))
    assert pieces[0].indices.tolist() == [12, 14, 16, 18]
    assert pieces[1].indices.tolist() == [18, 18, 24, 26]
    assert np.all(pieces[1].pixels[:2] == 7)
    assert pieces[1].timestamps.tolist() == whole.timestamps[[18, 18, 24, 26]].tolist()


def test_decord_is_believed_if_it_agrees_and_holds_nothing_between_pieces(video, monkeypatch):
    fake = FakeDecord()
    monkeypatch.setitem(sys.modules, "decord", fake)
    assert np.all(DecordReader().read(video("plain.mp4"), np.array([4, 30]), SIZE).pixels == 7)
    fake.calls.clear()
    asked = [list(fake.calls) for _ in DecordReader().stream(video("plain.mp4"), np.array([4, 5, 30]), SIZE, chunk=1)]
    assert asked == [[[4, 5], "seek"], [[4, 5], "seek"], [[4, 5], "seek", [30], "seek"]]


def test_a_platform_without_decord_is_logged_once(video, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "decord", None)
    for name in ("plain.mp4", "vp9.webm"):
        assert numbers(DecordReader().read(video(name), np.array([4, 30]), SIZE)) == [4, 30]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "PyAV reads all videos" in caplog.text
