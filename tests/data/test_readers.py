"""One contract for every reader, over every kind of video."""

import os
import pickle
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from keyframe.data import pyav_reader
from keyframe.data.decord_reader import DecordReader, why_not_decord
from keyframe.data.packets import index_packets, open_video
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.reader import VideoReader, why_not_seek
from keyframe.types import Frames, VideoError
from tests.data.reading import SIZE, TRUSTED, joined, numbers, same
from tests.videos import (
    CLIPS,
    COPIES,
    KINDS,
    N_FRAMES,
    draw_frame,
    first_number,
    overwrite,
    packet_places,
    remux,
    write_video,
)

READERS = [PyAVReader(), PyAVReader(threads=2), DecordReader(), DecordReader(threads=2)]


def named(reader: VideoReader) -> str:
    return f"{type(reader).__name__}-{reader.threads}"


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

    @pytest.mark.parametrize(
        "arguments", [{"threads": -1}, {"max_missing": 1.5}, {"max_missing": -0.1}, {"exact": "no"}]
    )
    def test_wrong_settings(self, reader, arguments):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            type(reader)(**arguments)


UNEVEN = np.array([0, 0, 3, 4, 5, 6, 6, 6, 6, 6, 6, 6, 6, 6, 13, 14, 14, 25, 40, 46, 47, 47])


def open_files() -> list[Path]:
    return [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]


def resident_mb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


def count_decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the frames that PyAV gives out from now on, wanted or not."""
    decoded: list[int] = []

    class Stream:
        def __init__(self, stream, path):
            self.stream = stream
            self.pts = index_packets(path).pts.tolist()
            self.codec_context = stream.codec_context

        def decode(self, packet):
            frames = self.stream.decode(packet)
            decoded.extend(self.pts.index(frame.pts) for frame in frames)
            return frames

    @contextmanager
    def counting(path):
        with open_video(path) as (container, stream):
            yield (
                SimpleNamespace(
                    demux=lambda counted: container.demux(counted.stream),
                    seek=lambda place, stream: container.seek(place, stream=stream.stream),
                ),
                Stream(stream, path),
            )

    monkeypatch.setattr(pyav_reader, "open_video", counting)
    return decoded


@pytest.mark.parametrize("reader", READERS, ids=named)
class TestStream:
    @pytest.mark.parametrize("chunk", [1, 7, 64, len(UNEVEN)])
    @pytest.mark.parametrize(
        "name", ["plain.mp4", "long_gop.mp4", "vp9.webm", "uneven.mkv", "rotated_90.mp4", "raw.h264", "hevc.mp4"]
    )
    def test_is_what_read_gives_in_pieces(self, reader, name, chunk, video):
        index = index_packets(video(name))
        pieces = list(reader.stream(video(name), UNEVEN, SIZE, index, chunk))
        sizes = [len(piece) for piece in pieces]
        assert sizes[:-1] == [chunk] * (len(UNEVEN) // chunk - (len(UNEVEN) % chunk == 0))
        assert sum(sizes) == len(UNEVEN)
        assert numbers(joined(pieces)) == UNEVEN.tolist()
        same(joined(pieces), reader.read(video(name), UNEVEN, SIZE, index))

    def test_no_frames_no_piece(self, reader, video):
        assert list(reader.stream(video("plain.mp4"), np.array([], np.int64), SIZE)) == []

    def test_makes_its_own_index_and_has_a_chunk(self, reader, video):
        assert [len(piece) for piece in reader.stream(video("plain.mp4"), np.arange(48).repeat(2), SIZE)] == [64, 32]

    @pytest.mark.parametrize(
        ("name", "size"),
        [("plain.mp4", (96, 160)), ("odd_size.mp4", (97, 161)), ("vp8.webm", (96, 160)), ("mpeg4.avi", (96, 160))]
        + [(f"rotated_{turn}", (96, 160)) for turn in ("90.mp4", "180.mp4", "270.mov")],
    )
    def test_own_size_is_the_upright_one(self, reader, name, size, video):
        indices = np.array([4, 21, 39])
        pieces = list(reader.stream(video(name), indices, None, chunk=2))
        assert [piece.pixels.shape for piece in pieces] == [(2, *size, 3), (1, *size, 3)]
        assert numbers(joined(pieces)) == indices.tolist()
        same(reader.read(video(name), indices, None), joined(pieces))
        empty = reader.read(video(name), indices[:0], None)
        assert empty.pixels.shape == (0, *size, 3)

    def test_own_size_of_a_real_rotated_clip(self, reader, clips):
        assert reader.read(clips / "rot90.mov", np.array([0, 2]), None).pixels.shape == (2, 568, 320, 3)

    def test_wrong_chunk(self, reader, video):
        with pytest.raises(ValueError, match="chunk"):
            next(reader.stream(video("plain.mp4"), np.array([0]), SIZE, chunk=0))

    @pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted in /proc")
    @pytest.mark.parametrize("name", ["plain.mp4", "raw.h264"])
    def test_is_open_in_between_and_closed_early(self, reader, name, video, tmp_path):
        path = tmp_path / f"early_{name}"
        path.write_bytes(video(name).read_bytes())
        stream = reader.stream(path, np.arange(40), SIZE, chunk=4)
        next(stream)
        assert open_files().count(path) == 1
        stream.close()
        assert path not in open_files()
        with pytest.raises(ZeroDivisionError):
            for frames in reader.stream(path, np.arange(40), SIZE, chunk=4):
                len(frames) / 0
        assert path not in open_files()
        for _ in reader.stream(path, np.arange(40), SIZE, chunk=4):
            break
        assert path not in open_files()

    def test_damage_shows_as_in_read(self, reader, video, tmp_path):
        path = tmp_path / "hole.mp4"
        path.write_bytes(video("every_frame_key.mp4").read_bytes())
        overwrite(path, packet_places(path)[20:22])
        expected = [19 if number in (20, 21) else number for number in range(N_FRAMES)]
        for chunk in (1, 7, 21):  # 21: the damage lies across two pieces.
            frames = joined(reader.stream(path, np.arange(N_FRAMES), SIZE, chunk=chunk))
            assert frames.indices.tolist() == expected
            same(frames, reader.read(path, np.arange(N_FRAMES), SIZE))

    def test_too_much_damage_ends_it_with_an_error(self, reader, video, tmp_path):
        path = tmp_path / "holes.mp4"
        path.write_bytes(video("every_frame_key.mp4").read_bytes())
        overwrite(path, packet_places(path)[20:24])
        stream = reader.stream(path, np.arange(N_FRAMES), SIZE, chunk=8)
        assert [int(next(stream).indices[0]) for _ in range(2)] == [0, 8]
        with pytest.raises(VideoError, match=r"holes\.mp4 is damaged, 4 of 24 .* reader\.max_missing"):
            list(stream)

    def test_damaged_real_clip(self, reader, clips):
        path, indices = clips / "decord_corrupted.mp4", np.arange(50)
        same(joined(reader.stream(path, indices, (32, 32), chunk=6)), reader.read(path, indices, (32, 32)))

    @pytest.mark.parametrize("name", ["flower.mp4", "flower.webm", "friday.mp4", "rot90.mov"])
    def test_real_clips(self, reader, name, clips):
        index = index_packets(clips / name)
        indices = np.arange(0, index.n_frames, 15)
        same(
            joined(reader.stream(clips / name, indices, (56, 56), index, chunk=4)),
            reader.read(clips / name, indices, (56, 56), index),
        )

    @pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory is read in /proc")
    def test_memory_stays_while_nobody_asks(self, reader, tmp_path):
        """decord decodes on for itself: 600 pictures of 480 KB here."""
        options = {"preset": "ultrafast", "g": "250"}
        path = write_video(tmp_path / "long.mp4", frames=600, options=options)
        stream = reader.stream(path, np.arange(0, 600, 60), (400, 400), chunk=1)
        next(stream)
        before = resident_mb()
        for _ in stream:
            time.sleep(0.1)
            assert resident_mb() < before + 60


class TestSeeking:
    """PyAV decodes no more than it needs, where key frames are sure."""

    @pytest.fixture(autouse=True)
    def seeks_at_once(self, monkeypatch):
        monkeypatch.setattr(pyav_reader, "_WORTH_A_SEEK", 1)

    @pytest.fixture
    def from_the_start(self, monkeypatch):
        """Reads as where no key frame is sure: every frame is decoded."""

        def read(path: Path, wanted: np.ndarray, size: tuple[int, int]) -> Frames:
            with monkeypatch.context() as patch:
                patch.setattr(pyav_reader, "why_not_seek", lambda index: "this is a test")
                return PyAVReader().read(path, wanted, size)

        return read

    @pytest.mark.parametrize("threads", [1, 2])
    @pytest.mark.parametrize("name", sorted({*TRUSTED, "ten_bit.mp4", "two_streams.mp4", "mirrored.mp4", "live.mkv"}))
    def test_pictures_are_those_of_a_full_decode(self, name, threads, video, from_the_start):
        assert why_not_seek(index_packets(video(name))) is None
        everything = from_the_start(video(name), np.arange(N_FRAMES), SIZE)
        for wanted in ([0, 47], [40], [11, 12, 13, 23, 36], [5, 6, 30, 31], range(48)):
            frames = PyAVReader(threads).read(video(name), np.array(wanted), SIZE)
            assert frames.indices.tolist() == list(wanted)
            np.testing.assert_array_equal(frames.pixels, everything.pixels[list(wanted)])

    @pytest.mark.parametrize("name", ["flower.mp4", "flower.webm", "friday.mp4", "bikes.mp4", "tc_h264_10bit.mp4"])
    def test_pictures_of_real_clips_too(self, name, clips, from_the_start):
        wanted = np.random.default_rng(0).choice(index_packets(clips / name).n_frames, 9, replace=False)
        same(
            PyAVReader().read(clips / name, np.sort(wanted), SIZE), from_the_start(clips / name, np.sort(wanted), SIZE)
        )

    def test_what_nobody_needs_is_not_decoded(self, video, monkeypatch):
        """Frame 38 is a B-frame after the key frame 36, frame 2 one after 0; 3 and 39 are what they lean on."""
        decoded = count_decoded(monkeypatch)
        assert numbers(PyAVReader().read(video("plain.mp4"), np.array([2, 38]), SIZE)) == [2, 38]
        assert {0, 2, 36, 38} <= set(decoded) <= {0, 1, 2, 3, 36, 37, 38, 39}
        decoded.clear()
        assert numbers(PyAVReader().read(video("plain.mp4"), np.array([0, 12, 36]), SIZE)) == [0, 12, 36]
        assert decoded == [0, 12, 36]

    @pytest.mark.parametrize("lands", [36, 47])
    def test_seek_that_lands_too_late_costs_time_only(self, lands, video, monkeypatch):
        seek = pyav_reader._seek
        monkeypatch.setattr(
            pyav_reader, "_seek", lambda box, stream, index, number: seek(box, stream, index, lands if number else 0)
        )
        assert numbers(PyAVReader().read(video("plain.mp4"), np.array([2, 13, 30]), SIZE)) == [2, 13, 30]

    def test_a_frame_that_does_not_come_is_replaced_as_ever(self, video, tmp_path):
        """Damage that the index is made not to see."""
        path = tmp_path / "hole.mp4"
        path.write_bytes(video("every_frame_key.mp4").read_bytes())
        whole = index_packets(path)
        overwrite(path, packet_places(path)[20:22])
        frames = PyAVReader(max_missing=0.5).read(path, np.array([3, 21, 30]), SIZE, whole)
        assert frames.indices.tolist() == numbers(frames) == [3, 19, 30]


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
