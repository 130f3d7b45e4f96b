"""One contract for every reader, over every kind of video; and grids that move to I-frames."""

import logging
import os
import pickle
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from keyframe.data.decord_reader import DecordReader, why_not_decord
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.reader import lost_of_grid, snap
from keyframe.data.sampling import FpsSampling, UniformSampling
from keyframe.files import described
from keyframe.types import VideoError
from tests.data.reading import SIZE, joined, numbers, same
from tests.videos import (
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

READERS = [PyAVReader(), DecordReader()]
THREADED = [PyAVReader(threads=2), DecordReader(threads=2)]
UNEVEN = np.array([0, 0, 3, 4, 5, 6, 6, 6, 6, 6, 6, 6, 6, 6, 13, 14, 14, 25, 40, 46, 47, 47])


@pytest.fixture(params=READERS, ids=["PyAV", "decord"])
def reader(request):
    return request.param


@pytest.fixture(params=[*READERS, *THREADED], ids=["PyAV", "decord", "PyAV, 2 threads", "decord, 2 threads"])
def any_reader(request):
    """For the cases in which threads matter."""
    return request.param


@pytest.fixture
def damaged(video, tmp_path):
    """Gives a copy of a video of key frames, without the packets of a slice."""

    def damage(places):
        path = tmp_path / "hole.mp4"
        path.write_bytes(video("every_frame_key.mp4").read_bytes())
        return overwrite(path, packet_places(path)[places])

    return damage


@pytest.mark.parametrize("name", [*KINDS, *COPIES])
def test_reads_the_frames_asked_for(name, video):
    index = index_packets(video(name))
    n = index.n_frames
    few = (np.arange(7) * 2 + 1) * n // 14
    uneven = np.sort(np.random.default_rng(3).choice(n, 14, replace=False))
    for reader in READERS:
        for indices in (few, uneven, np.array([0, 1, 1, 1, n - 2, n - 1, n - 1]), np.arange(n - 3, n)):
            frames = reader.read(video(name), indices, SIZE, index)
            assert numbers(frames) == (indices + first_number(name)).tolist()
            assert frames.indices.tolist() == indices.tolist()
            assert frames.timestamps.tolist() == index.timestamps[indices].tolist()
            assert frames.pixels.shape == (len(indices), *SIZE, 3)


@pytest.mark.parametrize("name", ["plain.mp4", "long_gop.mp4", "vp9.webm", "uneven.mkv", "rotated_90.mp4", "hevc.mp4"])
def test_a_stream_is_what_read_gives_in_pieces(name, video):
    index = index_packets(video(name))
    for reader in [*READERS, *THREADED]:
        whole = reader.read(video(name), UNEVEN, SIZE, index)
        for chunk in (1, 7, 64, len(UNEVEN)):
            pieces = list(reader.stream(video(name), UNEVEN, SIZE, index, chunk))
            assert {len(piece) for piece in pieces[:-1]} <= {chunk} and 0 < len(pieces[-1]) <= chunk
            same(joined(pieces), whole)
        assert numbers(whole) == UNEVEN.tolist()


@pytest.mark.parametrize("name", ["open_gop.mp4", "no_key_first.ts"])
def test_several_sizes_are_what_each_gives_alone(reader, name, video):
    """Frames that come twice too, and pieces of equal frames, the last one shorter."""
    path = video(name)
    index = index_packets(path)
    wanted = np.sort(np.append(np.linspace(0, index.n_frames - 1, 9).astype(int), [3, 3]))
    sizes = [(36, 64), (20, 20)]
    pieces = list(reader.stream_sizes(path, wanted, sizes, index, chunk=4))
    assert [len(one.pixels) for one, _ in pieces] == [4, 4, 3]
    for place, size in enumerate(sizes):
        alone = reader.read(path, wanted, size, index)
        for name in ("pixels", "timestamps", "indices"):
            joined = np.concatenate([getattr(piece[place], name) for piece in pieces])
            np.testing.assert_array_equal(joined, getattr(alone, name))


def test_what_is_left_out_has_a_default(reader, video):
    assert numbers(reader.read(video("uneven.mkv"), np.array([2, 30]), SIZE)) == [2, 30]
    assert [len(piece) for piece in reader.stream(video("plain.mp4"), np.arange(48).repeat(2), SIZE)] == [64, 32]
    none = np.array([], np.int64)
    assert reader.read(video("plain.mp4"), none, SIZE).pixels.shape == (0, *SIZE, 3)
    assert list(reader.stream(video("plain.mp4"), none, SIZE)) == []


def test_any_size_or_the_upright_one(reader, video, clips):
    for size in ((1, 1), (16, 16), (97, 113), (300, 40)):
        assert reader.read(video("plain.mp4"), np.array([0, 40]), size).pixels.shape == (2, *size, 3)
    sizes = {"plain.mp4": (96, 160), "odd_size.mp4": (97, 161), "vp8.webm": (96, 160), "mpeg4.avi": (96, 160)}
    sizes |= dict.fromkeys(("rotated_90.mp4", "rotated_180.mp4", "rotated_270.mov"), (96, 160))
    for name, size in sizes.items():
        frames = reader.read(video(name), np.array([4, 21, 39]), None)
        assert frames.pixels.shape == (3, *size, 3) and numbers(frames) == [4, 21, 39], name
        assert reader.read(video(name), np.array([], int), None).pixels.shape == (0, *size, 3)
    assert reader.read(clips / "rot90.mov", np.array([0, 2]), None).pixels.shape == (2, 568, 320, 3)


def test_wrong_arguments(reader, video, tmp_path):
    wrong = [([0, N_FRAMES], SIZE), ([-1, 3], SIZE), ([5, 4], SIZE), ([0.5], SIZE), ([[0, 1]], SIZE), ([0], (0, 32))]
    for indices, size in wrong:
        with pytest.raises(ValueError, match=r"indices|size"):
            reader.read(video("plain.mp4"), np.array(indices), size)
    with pytest.raises(ValueError, match="chunk"):
        next(reader.stream(video("plain.mp4"), np.array([0]), SIZE, chunk=0))
    with pytest.raises(VideoError, match=r"nothing\.mp4 does not exist"):
        reader.read(tmp_path / "nothing.mp4", np.array([0]), SIZE)
    for name, value in (("threads", -1), ("max_missing", 1.5), ("max_missing", -0.1), ("exact", "no")):
        with pytest.raises(ValueError, match=name):
            type(reader)(**{name: value})


def test_it_travels_and_keeps_nothing(reader, video, tmp_path):
    reader.read(video("plain.mp4"), np.array([3]), SIZE)
    copy = pickle.loads(pickle.dumps(reader))
    assert numbers(copy.read(video("vp9.webm"), np.array([3, 33]), SIZE)) == [3, 33]
    path = tmp_path / "part:2 %03d é.mp4"  # to FFmpeg a protocol
    path.write_bytes(video("plain.mp4").read_bytes())
    assert numbers(reader.read(path, np.array([7]), SIZE)) == [7]


def open_files():
    return [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted in /proc")
@pytest.mark.parametrize("name", ["plain.mp4", "raw.h264"])
def test_a_file_is_open_within_a_stream_and_closed_early(reader, name, video, tmp_path):
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


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory is read in /proc")
def test_memory_stays_while_the_caller_pauses(reader, tmp_path):
    """decord decodes on: 600 frames of 480 KB here."""

    def resident_mb():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

    path = write_video(tmp_path / "long.mp4", frames=600, options={"preset": "ultrafast", "g": "250"})
    stream = reader.stream(path, np.arange(0, 600, 60), (400, 400), chunk=1)
    next(stream)
    before = resident_mb()
    for _ in stream:
        time.sleep(0.1)
        assert resident_mb() < before + 60


def test_lost_frames_are_no_frames_and_the_others_keep_their_times(any_reader, damaged, video):
    path = damaged(slice(20, 22))
    index = index_packets(path)
    kept = [number for number in range(N_FRAMES) if number not in (20, 21)]
    np.testing.assert_allclose(index.lost, np.array([20, 21]) / 25)
    frames = any_reader.read(path, np.arange(index.n_frames), SIZE, index)
    assert numbers(frames) == kept
    assert frames.timestamps.tolist() == index_packets(video("every_frame_key.mp4")).timestamps[kept].tolist()
    for chunk in (1, 21):  # 21: the damage lies across two pieces
        same(joined(any_reader.stream(path, np.arange(index.n_frames), SIZE, chunk=chunk)), frames)


def test_a_cut_at_intra_refresh_begins_when_the_whole_frame_is_fresh(any_reader, tmp_path):
    options = {"x264-params": "intra-refresh=1:keyint=12:bframes=0"}
    whole = write_video(tmp_path / "refresh.mp4", frames=36, options=options)
    path = remux(whole, tmp_path / "cut.mp4", drop=12)
    index = index_packets(path)
    assert 12 < index.n_frames < 24
    assert numbers(any_reader.read(path, np.arange(index.n_frames), SIZE)) == list(range(36 - index.n_frames, 36))


def test_of_the_wanted_frames_too_many_lost_are_refused(reader, damaged):
    path = damaged(slice(20, 24))
    index = index_packets(path)
    assert numbers(reader.read(path, np.arange(44), SIZE))[19:22] == [19, 24, 25]
    grids = {"each": np.arange(44), "each second": np.arange(0, 44, 2), "each tenth": np.arange(0, 44, 10)}
    assert [lost_of_grid(grid, index) for grid in grids.values()] == [4, 2, 0]
    assert lost_of_grid(FpsSampling(12.5).indices(index), index) == 2
    assert lost_of_grid(np.array([3]), index) == lost_of_grid(np.array([], int), index) == 0
    assert reader.grid(grids["each tenth"], index).tolist() == [0, 10, 20, 30, 40]
    with pytest.raises(VideoError, match=r"hole\.mp4 is damaged, 2 of 24 wanted frames .* reader\.max_missing"):
        reader.grid(grids["each second"], index)
    assert type(reader)(reader.threads, max_missing=0.1).grid(grids["each second"], index).tolist() == [
        *range(0, 44, 2)
    ]
    before = index.between(None, 0.8)
    assert reader.grid(np.arange(before.n_frames), before).tolist() == list(range(20))
    with pytest.raises(VideoError, match="is damaged, none of its frames decodes"):
        index_packets(damaged(slice(None)))


def test_files_that_end_or_change_midway(reader, video, tmp_path):
    content = video("matroska.mkv").read_bytes()
    path = tmp_path / "cut.mkv"
    path.write_bytes(content[: len(content) // 2])
    last = index_packets(path).n_frames - 1
    assert numbers(reader.read(path, np.array([0, last]), SIZE)) == [0, last]
    small = write_video(tmp_path / "small.h264", frames=12, size=(80, 48), options={"g": "12"})
    large = write_video(tmp_path / "large.h264", frames=12, first_number=12, options={"g": "12"})
    path = tmp_path / "both.h264"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    assert numbers(reader.read(path, np.array([2, 11, 12, 20]), SIZE)) == [2, 11, 12, 20]


def test_a_file_that_changed_since_it_was_indexed(reader, video, tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=12)
    index = index_packets(path)
    pieces = reader.stream(path, np.arange(12), SIZE, index, chunk=4)
    next(pieces)
    write_video(tmp_path / "b.mp4", frames=12, first_number=12).replace(path)
    for rest in (pieces, reader.stream(path, np.arange(3), SIZE, index)):
        with pytest.raises(VideoError, match=r"a\.mp4 has changed while it was read"):
            list(rest)


BT601, BT709, BT2020, LIMITED, FULL = 5, 1, 9, 1, 2


@pytest.mark.parametrize("matrix", [BT601, BT709, BT2020])
def test_colours_come_back_whatever_the_tags(matrix, tmp_path):
    for levels in (LIMITED, FULL):
        colour = {"colorspace": matrix, "color_range": levels}
        path = tmp_path / f"{levels}.mp4"
        write_video(path, frames=12, pix_fmt="yuv444p", options={"crf": "8"}, colour=colour)
        for reader in READERS:
            pixels = reader.read(path, np.array([6]), (96, 160)).pixels[0].astype(int)
            assert np.abs(pixels - draw_frame(6, (160, 96))).mean() < 3


@pytest.mark.parametrize("name", ["flower.mp4", "flower.webm", "friday.mp4", "frog.webm", "bikes.mp4", "rot90.mov"])
def test_readers_agree_on_real_clips_in_any_pieces(name, clips):
    index = index_packets(clips / name)
    assert why_not_decord(index) is None
    indices = np.unique((np.arange(6) * 2 + 1) * index.n_frames // 12)
    fast, exact = (reader.read(clips / name, indices, (56, 56), index) for reader in READERS)
    assert fast.timestamps.tolist() == exact.timestamps.tolist()
    assert np.abs(fast.pixels.astype(int) - exact.pixels).mean() < 1
    for reader, frames in zip(READERS, (fast, exact), strict=True):
        same(joined(reader.stream(clips / name, indices, (56, 56), index, chunk=4)), frames)


def _third(seen, images):
    seen.append(images)
    return 2


@pytest.mark.parametrize("name", ["long_gop.mp4", "vp8.webm", "rotated_90.mp4", "mpeg4.avi"])
def test_the_best_frame_of_each_group_is_as_if_it_was_read_alone(name, video):
    whole = index_packets(video(name))
    for index in (whole, whole.between(0.2, None)):
        groups = [np.arange(3, 8), np.array([9]), np.arange(20, 31, 5)]
        for reader in READERS:
            seen = []
            best = list(reader.stream_best(groups, SIZE, partial(_third, seen), index))
            for frame, number in zip(best, (5, 9, 30), strict=True):
                same(frame, reader.read(video(name), np.array([number]), None, index))
            for images, group in zip(seen, (groups[0], groups[2]), strict=True):
                assert np.array_equal(images, reader.read(video(name), group, SIZE, index).pixels)


def test_a_lost_frame_of_a_group_has_its_neighbour(damaged):
    path = damaged(slice(20, 22))
    index = replace(index_packets(path), intact=True)  # as if nothing showed
    groups = [np.arange(3, 8), np.arange(18, 24)]
    for reader in READERS:
        numbers_ = [one.indices.tolist() for one in reader.stream_best(groups, SIZE, lambda images: 1, index)]
        assert numbers_ == [[4], [19]]


def test_a_stream_reports_its_progress(reader, video):
    path = video("late_start.mp4")
    index = index_packets(path)
    calls = []
    watched = type(reader)(max_missing=0.2)
    watched.progress = lambda path, seconds, of: calls.append((path, seconds, of))
    wanted = np.arange(0, index.n_frames - 1, 3)
    pieces = list(watched.stream(path, wanted, (32, 32), index, chunk=4))
    same(joined(pieces), reader.read(path, wanted, (32, 32)))
    times = index.timestamps - index.timestamps[0]
    assert {path for path, _, _ in calls} == {path} and {of for _, _, of in calls} == {times[wanted[-1]]}
    seconds = [at for _, at, _ in calls]
    assert seconds[0] == 0 and seconds[-1] == times[wanted[-1]] and (np.diff(seconds) >= 0).all()
    assert len(set(seconds)) == len(pieces) + 1
    assert list(watched.stream(path, np.array([], int), (32, 32))) == []
    # neither in another process nor in a record
    assert pickle.loads(pickle.dumps(watched)).progress is None
    record = described(watched, without={"threads", "progress"})
    rest = {"max_missing": 0.2, "exact": True, "deinterlace": True, "tone_map": True}
    assert record == {"kind": type(reader).__name__} | rest


def nearest_keys(wanted, index):
    """The rule, frame by frame: each key frame goes to the nearest wanted frame, within half the spacing there."""
    times, keys = index.timestamps, np.flatnonzero(index.key_frames)
    snapped = list(wanted)
    for place, frame in enumerate(wanted):
        before = times[frame] - times[wanted[place - 1]] if place else times[wanted[1]] - times[frame]
        after = times[wanted[place + 1]] - times[frame] if place + 1 < len(wanted) else before
        low = -before / 2 + 1e-9 if place else -before / 2 - 1e-9  # a tie goes to the earlier
        near = [k for k in keys if low < times[k] - times[frame] <= after / 2 + 1e-9]
        if near:
            snapped[place] = min(near, key=lambda k: abs(times[k] - times[frame]))
    return snapped


@pytest.mark.parametrize("name", ["plain.mp4", "uneven.mp4", "long_gop.mp4", "every_frame_key.mp4", "vp9.webm"])
def test_a_grid_moves_to_the_nearest_key_frames_and_stays_distinct(name, video):
    index = index_packets(video(name))
    for frames in (2, 3, 5, 17, 48):
        wanted = UniformSampling(frames).indices(index)
        snapped = snap(wanted, index)
        assert snapped.indices.tolist() == nearest_keys(wanted, index)
        assert np.all(np.diff(snapped.indices) > 0)
        assert snapped.n_keys == np.isin(snapped.indices, np.flatnonzero(index.key_frames)).sum()
        assert snapped.n_keys + snapped.n_decoded == frames


def test_a_grid_by_hand(video):
    """Key frames at 0, 12, 24, 36 of 48; 24 is as near to 20 as to 28."""
    index = index_packets(video("plain.mp4"))
    assert snap(UniformSampling(6).indices(index), index).indices.tolist() == [0, 12, 24, 28, 36, 44]
    assert snap(np.array([30]), index).indices.tolist() in ([24], [36])
    assert snap(np.array([], np.int64), index).indices.tolist() == []
    # a frame that comes several times moves each time, and the first no further outwards than inwards
    assert snap(np.array([1, 1, 2, 13, 13]), index).indices.tolist() == [1, 1, 2, 12, 12]
    # at a variable rate the key frame that is nearest in time need not be the nearest in the count
    times = index.timestamps.copy()
    times[13:] += 10  # 12 is shown for 10 s
    assert snap(np.array([7, 13, 20]), replace(index, timestamps=times)).indices.tolist() == [12, 13, 20]
    assert snap(np.array([7, 13, 20]), index).indices.tolist() == [7, 12, 20]


@pytest.mark.parametrize("name", ["plain.mp4", "uneven.mkv", "rotated_90.mp4"])
def test_frames_of_a_moved_grid_are_true(reader, name, video):
    index = index_packets(video(name))
    moving = type(reader)(exact=False)
    chosen = moving.grid(UniformSampling(6).indices(index), index)
    frames = moving.read(video(name), chosen, SIZE, index)
    same(frames, reader.read(video(name), chosen, SIZE, index))
    assert numbers(frames) == chosen.tolist() == frames.indices.tolist()
    assert frames.timestamps.tolist() == index.timestamps[chosen].tolist()


@pytest.mark.parametrize("name", ["friday.mp4", "bikes.mp4", "flower.webm"])
def test_a_moved_grid_of_a_real_clip(name, clips):
    index = index_packets(clips / name)
    chosen = PyAVReader(exact=False).grid(FpsSampling(2).indices(index), index)
    assert np.isin(chosen, np.flatnonzero(index.key_frames)).sum() >= 2
    everything = PyAVReader().read(clips / name, np.arange(index.n_frames), (40, 56), index)
    read = PyAVReader().read(clips / name, chosen, (40, 56), index)
    np.testing.assert_array_equal(read.pixels, everything.pixels[chosen])


def test_a_moved_grid_is_logged_once(reader, video, caplog):
    caplog.set_level(logging.INFO)
    index = index_packets(video("plain.mp4"))
    assert reader.grid(np.array([1, 5]), index).tolist() == [1, 5]
    moving = type(reader)(exact=False)
    assert moving.read(video("plain.mp4"), np.array([1, 5]), SIZE).indices.tolist() == [1, 5]
    assert not caplog.records
    for _ in range(2):
        moving.grid(np.array([4, 12, 20, 28, 36, 44]), index)
    assert [record.getMessage() for record in caplog.records] == [
        f"{index.path}: 6 frames, 4 of them I-frames near the grid, 2 decoded exactly (no I-frame nearby)"
    ]
    for name, reason in (("open_gop.mp4", "open GOP"), ("mpeg4.avi", "codec is mpeg4")):
        caplog.clear()
        assert moving.grid(np.array([5, 20, 33]), index_packets(video(name))).tolist() == [5, 20, 33]
        assert "all 3 frames decoded exactly despite reader.exact=false" in caplog.text and reason in caplog.text


def test_a_video_that_needs_more_memory_than_there_is_concerns_itself_alone(video):
    path = video("every_frame_key.mp4")
    with pytest.raises(VideoError, match=f"{path} needs more memory than is free"):
        PyAVReader().read(path, np.arange(2), (1 << 23, 1 << 23))
