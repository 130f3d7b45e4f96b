"""The packet index: what it says must be what a full decode shows."""

import pickle
from pathlib import Path

import av
import numpy as np
import pytest

from keyframe.data.packets import index_packets
from keyframe.types import VideoError
from tests.videos import COPIES, GOP, KINDS, N_FRAMES, first_number, overwrite, packet_places, write_video

# AVI and raw streams store no presentation times: PyAV's are None or guesses there.
WITHOUT_TIMES = {"raw.h264", "h264.avi", "mpeg4.avi"}


def decoded(path: Path) -> tuple[list[float], list[bool]]:
    """Time and key flag of each frame of a sequential decode, patched up over errors."""
    times, keys = [], []
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            try:
                frames = stream.decode(packet)
            except av.FFmpegError:
                continue
            times += [frame.time for frame in frames]
            keys += [bool(frame.key_frame) for frame in frames]
    return times, keys


@pytest.mark.parametrize("name", [name for name in [*KINDS, *COPIES] if name not in WITHOUT_TIMES])
def test_index_lists_the_frames_of_a_full_decode(name, video):
    index = index_packets(video(name))
    times, keys = decoded(video(name))
    assert index.timestamps.tolist() == times
    assert index.n_frames == N_FRAMES - first_number(name)
    if index.random_access:
        assert index.key_frames.tolist() == keys


def test_time_is_counted_if_none_is_stored(video):
    for name in WITHOUT_TIMES:
        index = index_packets(video(name))
        assert index.pts is None
        np.testing.assert_allclose(index.timestamps, np.arange(N_FRAMES) / 25)
        assert index.duration == pytest.approx(N_FRAMES / 25)


def test_index_describes_the_file(video):
    index = index_packets(video("plain.mp4"))
    assert (index.codec, index.pix_fmt, index.n_video_streams) == ("h264", "yuv420p", 1)
    assert "mp4" in index.container.split(",")
    assert (index.width, index.height, index.upright_size) == (160, 96, (96, 160))
    assert index.duration == pytest.approx(N_FRAMES / 25)
    assert index.fps == pytest.approx(25)
    assert np.flatnonzero(index.key_frames).tolist() == [0, 12, 24, 36]
    assert (index.random_access, index.intact, index.n_packets) == (True, True, N_FRAMES)


def test_duration_of_uneven_frames_reaches_past_the_last(video):
    index = index_packets(video("uneven.mp4"))
    shown = index.timestamps[-1] - index.timestamps[0]
    assert shown < index.duration < shown + 9 / 100
    assert index.fps == pytest.approx(N_FRAMES / index.duration)


def test_key_frames_that_restart_nothing_are_noticed(video):
    for name in ("open_gop.mp4", "open_gop.mkv", "intra_refresh.mp4", "hevc.mp4"):
        index = index_packets(video(name))
        assert index.key_frames.sum() > 1 and not index.random_access, name


@pytest.mark.parametrize(
    ("name", "rotation", "mirrored", "size"),
    [
        ("plain.mp4", 0, False, (96, 160)),
        ("rotated_90.mp4", 90, False, (96, 160)),
        ("rotated_180.mp4", 180, False, (96, 160)),
        ("rotated_270.mov", 270, False, (96, 160)),
        ("mirrored.mp4", 0, True, (96, 160)),
        ("upside_down.mp4", 180, True, (96, 160)),
        ("turned_and_mirrored.mp4", 90, True, (96, 160)),
    ],
)
def test_rotation_is_known(name, rotation, mirrored, size, video):
    index = index_packets(video(name))
    assert (index.rotation, index.mirrored, index.upright_size) == (rotation, mirrored, size)


def test_hidden_packets_other_streams_and_a_missing_duration(video):
    index = index_packets(video("edit_list.mp4"))
    assert (index.n_frames, index.n_packets) == (N_FRAMES - 9, N_FRAMES)
    assert index_packets(video("two_streams.mp4")).n_video_streams == 2
    index = index_packets(video("live.mkv"))
    assert index.stated_duration is None
    assert index.duration == pytest.approx(N_FRAMES / 25)


def test_vp8_packet_without_a_picture_is_no_frame(video, tmp_path):
    path = tmp_path / "hidden.webm"
    content = bytearray(video("vp8.webm").read_bytes())
    content[packet_places(video("vp8.webm"))[20][0]] &= ~0x10  # show_frame, RFC 6386 9.1
    path.write_bytes(content)
    index = index_packets(path)
    assert (index.n_frames, index.n_packets) == (N_FRAMES - 1, N_FRAMES)
    assert index.timestamps.tolist() == decoded(path)[0]


def test_a_packet_that_is_not_what_its_codec_says_is_noticed(video, tmp_path):
    for name in ("plain.mp4", "vp8.webm", "vp9.webm"):
        path = tmp_path / name
        path.write_bytes(video(name).read_bytes())
        assert index_packets(path).intact
        assert not index_packets(overwrite(path, packet_places(path)[20:21])).intact


def test_end_cut_off_leaves_the_frames_before(video, tmp_path):
    content = video("matroska.mkv").read_bytes()
    path = tmp_path / "cut.mkv"
    path.write_bytes(content[: len(content) // 2])
    index = index_packets(path)
    assert 10 < index.n_frames < N_FRAMES
    assert index.timestamps.tolist() == decoded(path)[0]


def test_a_single_frame_with_a_name_like_a_protocol_travels(tmp_path):
    index = pickle.loads(
        pickle.dumps(index_packets(write_video(tmp_path / "part:2 %03d é.mp4", frames=1, options=GOP)))
    )
    assert (index.n_frames, index.rotation) == (1, 0)
    assert index.duration == pytest.approx(1 / 25)


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def write_headless(path: Path) -> None:
    """An MP4 whose index at the end is cut off."""
    content = write_video(path, frames=12).read_bytes()
    path.write_bytes(content[: len(content) // 2])


def write_still(path: Path) -> None:
    with av.open(str(path), "w", format="image2") as output:
        stream = output.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "rgb24"
        output.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        output.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        ("missing.mp4", lambda path: None, "does not exist"),
        ("folder.mp4", Path.mkdir, "is a folder"),
        ("empty.mp4", Path.touch, "is empty"),
        ("text.mp4", lambda path: path.write_text("not a video at all\n" * 500), "is not a video"),
        ("text.txt", lambda path: path.write_text("not a video at all\n" * 500), "a text or an image"),
        ("noise.mkv", lambda path: path.write_bytes(bytes(range(256)) * 40), "is not a video"),
        ("headless.mp4", write_headless, "is cut short"),
        ("still.png", write_still, "a text or an image"),
        ("sound.mp4", write_sound, "no video stream"),
    ],
)
def test_bad_file_is_named_in_one_sentence_with_a_remedy(name, make, says, tmp_path):
    path = tmp_path / name
    make(path)
    with pytest.raises(VideoError) as caught:
        index_packets(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert says in message
    assert ": " in message[len(str(path)) :]
    assert message.endswith(".")
    assert "Errno" not in message
    assert "avcodec" not in message


@pytest.mark.parametrize(
    ("name", "n_frames", "start"),
    [
        ("flower.webm", 150, 0.003),
        ("delayed_start.mp4", 24, 1.075),
        ("tc_nasa.mp4", 390, 0.0),
        ("rot90.mov", 3, 0.0),
        ("tc_av1.mkv", 125, 0.0),
    ],
)
def test_real_clip(name, n_frames, start, clips):
    index = index_packets(clips / name)
    assert (index.n_frames, index.timestamps[0]) == (n_frames, start)
    assert index.timestamps.tolist() == decoded(clips / name)[0]


def test_a_text_that_plays_other_files_is_no_video(tmp_path):
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile other.mp4\n")
    with pytest.raises(VideoError, match=r"list\.mp4"):
        index_packets(tmp_path / "list.mp4")
