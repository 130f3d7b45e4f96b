"""One contract for every reader, over every kind of video; then what only the checked reader promises."""

import importlib.util
import logging
import pickle
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from keyframe.data import decord_reader
from keyframe.data.decord_reader import DecordReader, why_not_decord
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.readers import VideoReader
from keyframe.errors import VideoError
from keyframe.types import Frames
from tests.videos import (
    CAN_ROTATE,
    CLIPS,
    COPIES,
    KINDS,
    N_FRAMES,
    build,
    draw_frame,
    first_number,
    overwrite,
    packet_places,
    read_frame_number,
    remux,
    write_video,
)

READERS = [PyAVReader(), PyAVReader(threads=2), DecordReader(), DecordReader(threads=2)]
SIZE = (72, 136)
needs_decord = pytest.mark.skipif(
    importlib.util.find_spec("decord") is None, reason="decord has no wheel for this platform"
)
# Where decord is right, as tried; everywhere else PyAV has to serve.
TRUSTED = {
    *("plain.mp4", "long_gop.mp4", "every_frame_key.mp4", "matroska.mkv", "quicktime.mov", "uneven.mp4"),
    *("uneven.mkv", "late_start.mp4", "vp8.webm", "vp9.webm", "odd_size.mp4", "fragmented.mp4"),
    *("rotated_90.mp4", "rotated_180.mp4", "rotated_270.mov"),
}
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


def named(reader: VideoReader) -> str:
    return f"{type(reader).__name__}-{reader.threads}"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("readers")

    def get(name: str) -> Path:
        if not CAN_ROTATE and {"rotation", "flips"} & KINDS.get(name, {}).keys():
            pytest.skip("this PyAV cannot write display matrices")
        return build(name, folder)

    return get


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    """What is told once a process is told once a test."""
    decord_reader._tell_once.cache_clear()
    decord_reader._import_decord.cache_clear()


def numbers(frames: Frames) -> list[int]:
    return [read_frame_number(picture) for picture in frames.pixels]


@pytest.mark.parametrize("reader", READERS, ids=named)
@pytest.mark.parametrize("name", [*KINDS, *COPIES])
def test_reads_the_frames_asked_for(reader, name, video):
    index = index_packets(video(name))
    n = index.n_frames
    few = (np.arange(7) * 2 + 1) * n // 14
    uneven = np.sort(np.random.default_rng(3).choice(n, 14, replace=False))
    for indices in (few, uneven, np.array([0, 1, 1, 1, n - 2, n - 1, n - 1]), np.arange(n - 3, n)):
        frames = reader.read(video(name), indices, SIZE, index)
        assert numbers(frames) == (indices + first_number(name)).tolist()
        assert frames.indices.tolist() == indices.tolist()
        assert frames.timestamps.tolist() == index.timestamps[indices].tolist()
        assert frames.pixels.shape == (len(indices), *SIZE, 3)


@pytest.mark.parametrize("reader", READERS, ids=named)
class TestContract:
    def test_makes_its_own_index(self, reader, video):
        assert numbers(reader.read(video("uneven.mkv"), np.array([2, 30]), SIZE)) == [2, 30]

    @pytest.mark.parametrize("size", [(1, 1), (16, 16), (48, 72), (97, 113), (224, 224), (300, 40)])
    def test_any_size(self, reader, size, video):
        assert reader.read(video("plain.mp4"), np.array([0, 40]), size).pixels.shape == (2, *size, 3)

    def test_no_frames(self, reader, video):
        frames = reader.read(video("plain.mp4"), np.array([], np.int64), SIZE)
        assert frames.pixels.shape == (0, *SIZE, 3)

    @pytest.mark.parametrize(
        ("indices", "size"),
        [
            ([0, N_FRAMES], SIZE),
            ([-1, 3], SIZE),
            ([5, 4], SIZE),
            ([0.5, 1.5], SIZE),
            ([[0, 1]], SIZE),
            ([0], (0, 32)),
        ],
    )
    def test_wrong_arguments(self, reader, indices, size, video):
        with pytest.raises(ValueError, match=r"indices|size"):
            reader.read(video("plain.mp4"), np.array(indices), size)

    def test_missing_file(self, reader, tmp_path):
        with pytest.raises(VideoError, match=r"nothing\.mp4 does not exist"):
            reader.read(tmp_path / "nothing.mp4", np.array([0]), SIZE)

    def test_name_that_looks_like_a_protocol(self, reader, video, tmp_path):
        path = tmp_path / "part:2 %03d é.mp4"
        path.write_bytes(video("plain.mp4").read_bytes())
        assert numbers(reader.read(path, np.array([7]), SIZE)) == [7]

    def test_travels_and_keeps_nothing(self, reader, video):
        reader.read(video("plain.mp4"), np.array([3]), SIZE)
        copy = pickle.loads(pickle.dumps(reader))
        assert numbers(copy.read(video("vp9.webm"), np.array([3, 33]), SIZE)) == [3, 33]

    @pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted in /proc")
    def test_closes_the_file(self, reader, video, tmp_path):
        path = tmp_path / "closed.mp4"
        path.write_bytes(video("plain.mp4").read_bytes())
        reader.read(path, np.array([3, 20]), SIZE)
        still_open = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        assert path not in still_open

    def test_lost_frame_is_replaced_by_the_one_before_under_its_own_time(self, reader, video, tmp_path):
        path = tmp_path / "hole.mp4"
        path.write_bytes(video("every_frame_key.mp4").read_bytes())
        overwrite(path, packet_places(path)[20:22])
        index = index_packets(path)
        frames = reader.read(path, np.arange(N_FRAMES), SIZE, index)
        expected = [19 if number in (20, 21) else number for number in range(N_FRAMES)]
        assert frames.indices.tolist() == expected
        assert numbers(frames) == expected
        assert frames.timestamps.tolist() == index.timestamps[expected].tolist()

    def test_lost_beginning_is_replaced_by_the_next_frame(self, reader, tmp_path):
        """Cut at a point of intra refresh, a video shows nothing until the refresh has passed the whole picture."""
        options = {"x264-params": "intra-refresh=1:keyint=12:bframes=0"}
        whole = write_video(tmp_path / "refresh.mp4", frames=36, options=options)
        path = remux(whole, tmp_path / "cut.mp4", drop=12)
        frames = type(reader)(reader.threads, max_missing=0.5).read(path, np.arange(24), SIZE)
        first = int(frames.indices[0])
        assert 0 < first < 12
        assert frames.indices.tolist() == [max(first, number) for number in range(24)]
        assert numbers(frames) == (frames.indices + 12).tolist()
        with pytest.raises(VideoError, match=f"{first} of 24"):
            reader.read(path, np.arange(24), SIZE)

    def test_too_many_lost_frames_are_refused(self, reader, video, tmp_path):
        path = tmp_path / "holes.mp4"
        path.write_bytes(video("every_frame_key.mp4").read_bytes())
        overwrite(path, packet_places(path)[20:24])
        with pytest.raises(VideoError, match=r"holes\.mp4 is damaged, 4 of 48 .* reader\.max_missing"):
            reader.read(path, np.arange(N_FRAMES), SIZE)
        # None of the four is wanted here: nothing is missing.
        assert numbers(reader.read(path, np.array([3, 30]), SIZE)) == [3, 30]
        lenient = type(reader)(reader.threads, max_missing=0.1)
        assert numbers(lenient.read(path, np.arange(N_FRAMES), SIZE))[19:25] == [19, 19, 19, 19, 19, 24]

    def test_nothing_decodes(self, reader, video, tmp_path):
        path = tmp_path / "hollow.mp4"
        path.write_bytes(video("every_frame_key.mp4").read_bytes())
        overwrite(path, packet_places(path))
        with pytest.raises(VideoError, match="is damaged, 3 of 3"):
            type(reader)(reader.threads, max_missing=1.0).read(path, np.array([1, 2, 3]), SIZE)

    def test_end_cut_off(self, reader, video, tmp_path):
        content = video("matroska.mkv").read_bytes()
        path = tmp_path / "cut.mkv"
        path.write_bytes(content[: len(content) // 2])
        last = index_packets(path).n_frames - 1
        assert numbers(reader.read(path, np.array([0, last]), SIZE)) == [0, last]

    def test_size_changes_midway(self, reader, tmp_path):
        small = write_video(tmp_path / "small.h264", frames=12, size=(80, 48), options={"g": "12"})
        large = write_video(tmp_path / "large.h264", frames=12, first_number=12, options={"g": "12"})
        path = tmp_path / "both.h264"
        path.write_bytes(small.read_bytes() + large.read_bytes())
        assert numbers(reader.read(path, np.array([2, 11, 12, 20]), SIZE)) == [2, 11, 12, 20]

    @pytest.mark.parametrize("arguments", [{"threads": -1}, {"max_missing": 1.5}, {"max_missing": -0.1}])
    def test_wrong_settings(self, reader, arguments):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            type(reader)(**arguments)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_serves_in_worker_processes_after_use_in_the_parent(method, video):
    if sys.platform != "linux" and method == "fork":
        pytest.skip("forking is safe on Linux only")
    reader, indices = DecordReader(), np.array([3, 17, 40])
    here = reader.read(video("plain.mp4"), indices, SIZE)
    with ProcessPoolExecutor(2, mp_context=get_context(method)) as workers:
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
def test_decord_itself_reads(name, video, monkeypatch):
    def refuse(*_: object) -> Frames:
        raise AssertionError("PyAV was asked")

    monkeypatch.setattr(PyAVReader, "read", refuse)
    assert numbers(DecordReader().read(video(name), np.array([4, 21, 39]), SIZE)) == [4, 21, 39]


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
        fails: bool = False,
    ) -> None:
        super().__init__("decord")
        self.n_frames, self.late, self.keys, self.fails = n_frames, late, keys, fails

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

    def get_batch(self, numbers: np.ndarray) -> np.ndarray:
        if self.fails:
            raise RuntimeError("[12:00:00] /github/workspace/src/video/video_reader.cc:270: Check failed")
        return np.full((len(numbers), *SIZE, 3), 7, np.uint8)


@pytest.mark.parametrize(
    ("fake", "says"),
    [
        (FakeDecord(n_frames=N_FRAMES + 1), f"decord lists {N_FRAMES + 1} frames and its packets {N_FRAMES}"),
        (FakeDecord(late=0.04), "decord's time stamps are not those of its packets"),
        (FakeDecord(late=float("nan")), "decord's time stamps are not those of its packets"),
        (FakeDecord(keys=(0, 10, 24)), "decord starts at frames that are no key frames"),
        (FakeDecord(fails=True), "decord fails on it"),
    ],
)
def test_pyav_takes_over_where_decord_disagrees_or_fails(fake, says, video, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "decord", fake)
    frames = DecordReader().read(video("plain.mp4"), np.array([4, 30]), SIZE)
    assert numbers(frames) == [4, 30]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert says in caplog.text
    assert "workspace" not in caplog.text


def test_agreeing_decord_is_believed(video, monkeypatch):
    """So that the test above fails for its reason and no other."""
    monkeypatch.setitem(sys.modules, "decord", FakeDecord())
    assert np.all(DecordReader().read(video("plain.mp4"), np.array([4, 30]), SIZE).pixels == 7)


def test_platform_without_decord_is_told_once(video, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "decord", None)
    for name in ("plain.mp4", "vp9.webm"):
        assert numbers(DecordReader().read(video(name), np.array([4, 30]), SIZE)) == [4, 30]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "PyAV reads all videos" in caplog.text


BT601, BT709, BT2020, LIMITED, FULL = 5, 1, 9, 1, 2


@pytest.mark.parametrize(
    "colour",
    [{"colorspace": matrix, "color_range": levels} for matrix in (BT601, BT709, BT2020) for levels in (LIMITED, FULL)],
    ids=str,
)
@pytest.mark.parametrize("reader", READERS[::2], ids=named)
def test_colours_come_back_whatever_the_tags(reader, colour, tmp_path):
    path = write_video(tmp_path / "colour.mp4", frames=12, pix_fmt="yuv444p", options={"crf": "8"}, colour=colour)
    pixels = reader.read(path, np.array([6]), (96, 160)).pixels[0].astype(int)
    assert np.abs(pixels - draw_frame(6, (160, 96))).mean() < 3


@needs_decord
@pytest.mark.parametrize("name", sorted(TRUSTED))
def test_both_readers_show_the_same_picture(name, video):
    indices = np.array([4, 21, 39])
    fast, exact = (reader.read(video(name), indices, SIZE).pixels.astype(int) for reader in READERS[::2])
    turned = name.startswith("rotated")  # Chroma is placed after the turn here, before it there.
    assert np.abs(fast - exact).mean() < (2.5 if turned else 1.5)


@pytest.mark.skipif(not CLIPS.is_dir(), reason="no real clips beside the repository (../shared/clips)")
@pytest.mark.parametrize("name", ["flower.mp4", "flower.webm", "friday.mp4", "frog.webm", "bikes.mp4", "rot90.mov"])
def test_readers_agree_on_real_clips(name):
    index = index_packets(CLIPS / name)
    assert why_not_decord(index) is None
    indices = (np.arange(3) * 2 + 1) * index.n_frames // 6
    fast, exact = (reader.read(CLIPS / name, indices, (112, 112), index) for reader in READERS[::2])
    assert fast.timestamps.tolist() == exact.timestamps.tolist()
    assert np.abs(fast.pixels.astype(int) - exact.pixels).mean() < 1


@pytest.mark.skipif(not CLIPS.is_dir(), reason="no real clips beside the repository (../shared/clips)")
@pytest.mark.parametrize("reader", READERS, ids=named)
def test_damaged_real_clip(reader):
    indices = np.arange(50)
    frames = reader.read(CLIPS / "decord_corrupted.mp4", indices, (32, 32))
    assert np.flatnonzero(frames.indices != indices).tolist() == [30]
    assert frames.indices[30] == 29
