"""The packet index: what it says must be what a full decode shows."""

import pickle
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from keyframe.data import packets, pyav_reader
from keyframe.data.bitstream import Bitstream, Look
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.types import VideoError
from tests.data.fields import write_fields
from tests.videos import (
    COPIES,
    GOP,
    KINDS,
    N_FRAMES,
    first_number,
    overwrite,
    packet_places,
    read_frame_number,
    remux,
    write_video,
)

# AVI and raw streams store no presentation times: PyAV's are None or guesses there.
WITHOUT_TIMES = {"raw.h264", "h264.avi", "mpeg4.avi"}


def decoded(path: Path, size: tuple[int, int] | None = None) -> tuple[list[float], list[bool], list[Any]]:
    """Time, key flag and, with a size, RGB image of each frame of a sequential decode, patched up over errors."""
    times, keys, images = [], [], []
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
            if size:
                scaled = (frame.reformat(size[1], size[0], "rgb24", interpolation="BILINEAR") for frame in frames)
                images += [frame.to_ndarray() for frame in scaled]
    return times, keys, images


@pytest.mark.parametrize("name", [name for name in [*KINDS, *COPIES] if name not in WITHOUT_TIMES])
def test_index_lists_the_frames_of_a_full_decode(name, video):
    index = index_packets(video(name))
    times, keys, _ = decoded(video(name))
    assert index.timestamps.tolist() == times
    assert index.n_frames == N_FRAMES - first_number(name)
    if index.random_access:
        assert index.key_frames.tolist() == keys


_X265 = "keyint=8:b-adapt=0:scenecut=0:log-level=none:pools=1:"
# What leads a group of pictures: B-frames of a closed group, of an open one (no decoder can show them without the group
# before), RADL pictures (which decode), frames refreshed bit by bit; whole frames of two fields.
CODED: dict[str, dict[str, Any]] = {
    "closed": {"codec": "libx264", "options": {"x264-params": "keyint=8:bframes=3:b-pyramid=normal:b-adapt=0"}},
    "open": {"codec": "libx264", "options": {"x264-params": "open-gop=1:keyint=8:bframes=3:b-adapt=0:scenecut=0"}},
    "refresh": {"codec": "libx264", "options": {"x264-params": "intra-refresh=1:keyint=8:bframes=2"}},
    "fields": {"codec": "libx264", "options": {"flags": "+ildct+ilme", "x264-params": "interlaced=1:keyint=8"}},
    "hevc open": {"codec": "libx265", "options": {"x265-params": _X265 + "bframes=3:open-gop=1"}},
    "hevc radl": {"codec": "libx265", "options": {"x265-params": _X265 + "bframes=4:open-gop=0:radl=2"}},
    "hevc layers": {"codec": "libx265", "options": {"x265-params": _X265 + "bframes=4:temporal-layers=3"}},
    "mpeg2": {"codec": "mpeg2video", "options": {"g": "8", "bf": "2"}},
    "mpeg4": {"codec": "mpeg4", "options": {"g": "8", "bf": "2"}},
    "vp9": {"codec": "libvpx-vp9", "options": {"g": "8", "cpu-used": "8", "lag-in-frames": "8"}},
    "snow": {"codec": "snow", "options": {"g": "8"}},  # not among the codecs that were tried
}
# Copies without the first frames, or with the times of some below 0, which makes an edit list.
CUTS = [("mp4", 0, 0), ("mp4", 0, -5), ("mp4", 8, 0), ("mkv", 8, 0), ("ts", 11, 0)]


def test_index_and_reader_agree_with_the_decoder(tmp_path):
    """Every frame's time and image, of each coding x container x cut."""
    n_files = 0
    for coded, settings in CODED.items():
        for suffix, drop, shift in (
            [("nut", 0, 0)] if coded == "snow" else CUTS[: 4 if coded in ("mpeg4", "vp9") else None]
        ):
            whole = tmp_path / f"{coded}.{suffix}"
            if not whole.exists():
                write_video(whole, frames=26, size=(80, 48), **settings)
            path = remux(whole, tmp_path / f"{coded} {drop} {shift}.{suffix}", drop=drop, shift=shift)
            times, _, images = decoded(path, (48, 80))
            index = index_packets(path)
            assert index.timestamps.tolist() == sorted(times), path.name
            read = PyAVReader(deinterlace=False).read(path, np.arange(index.n_frames), (48, 80), index)
            np.testing.assert_array_equal(read.pixels, images, path.name)
            n_files += 1
    assert n_files == 8 * 5 + 2 * 4 + 1


@pytest.mark.parametrize("coded", ["closed", "hevc open", "hevc radl", "hevc layers", "vp9", "av1"])
def test_a_frame_is_reached_from_the_key_frame_before_it(coded, tmp_path, monkeypatch):
    """Each alone, and all, are those of a whole decode, which nothing falls back to."""
    settings = CODED.get(coded, {"codec": "libsvtav1", "options": {"g": "8", "preset": "10", "crf": "40"}})
    if coded == "av1" and "libsvtav1" not in av.codecs_available:
        pytest.skip("this PyAV has no encoder for AV1")
    for suffix in ("mp4", "mkv"):
        path = write_video(tmp_path / f"a.{suffix}", frames=26, size=(80, 48), **settings)
        images = np.stack(decoded(path, (48, 80))[2])
        with monkeypatch.context() as patch:
            for module, name in ((packets, "_decoded_packets"), (pyav_reader, "_numbered_frames")):
                patch.setattr(module, name, lambda *_: pytest.fail("it decodes everything"))
            index = index_packets(path)
            assert index.key_frames.sum() > 2 and index.layers == (3 if coded == "hevc layers" else 1)
            for number in range(26):
                alone = PyAVReader().read(path, np.array([number]), (48, 80), index)
                np.testing.assert_array_equal(alone.pixels[0], images[number], f"{number} of {path.name}")
            for some in (np.arange(26), np.arange(1, 26, 4)):
                np.testing.assert_array_equal(PyAVReader().read(path, some, (48, 80), index).pixels, images[some])


def test_two_packets_of_fields_are_one_frame(tmp_path):
    """PAFF; FFmpeg gives one frame for two fields. One that lacks its other field is not shown."""
    for suffix in ("264", "ts", "mkv", "mp4", "mov", "avi"):
        path = write_fields(tmp_path / f"fields.{suffix}")
        index = index_packets(path)
        assert (index.n_frames, index.n_packets) == (12, 24)
        np.testing.assert_allclose(index.timestamps, np.arange(12) / 25)
        assert index.duration == pytest.approx(12 / 25)
        read = PyAVReader().read(path, np.arange(12), None, index).pixels
        np.testing.assert_array_equal(read, decoded(path, (32, 16))[2])
    lone = remux(path.with_suffix(".mkv"), tmp_path / "lone.mkv", drop=3)
    assert index_packets(lone).timestamps.tolist() == decoded(lone)[0]


def test_vvc_is_sure_until_a_sequence_ends():
    """No encoder is at hand: units of ITU-T H.266 7.3.1.2, their type in the five high bits of the second byte."""
    slice_, end = b"\0\x01\xaa", b"\0" + bytes([21 << 3 | 1])
    for data, ends in ((slice_, False), (slice_ + b"\0\0\1" + end, True)):
        assert Bitstream("vvc", None).look(b"\0\0\1" + data, True) == Look(restarts=True, sure=not ends)
    # ISO/IEC 14496-15 11.2.4.2: after five reserved bits, the bytes of a length less one
    sized = b"".join(len(unit).to_bytes(4, "big") + unit for unit in (slice_, end))
    assert Bitstream("vvc", b"\xff\0\0").look(sized, False) == Look(sure=False)
    assert Bitstream("vvc", b"\xff\0\0").look(sized[:7], False) == Look()


def test_real_field_coded_and_leading_pictures(clips):
    faults = clips.parent / "faults" / "clips"
    for name, n_frames in (("paff_one_pes.ts", 34), ("paff_mkvmerge.mkv", 34), ("hevc_radl_cut.mkv", 103)):
        index = index_packets(faults / name)
        assert index.n_frames == n_frames
        assert index.timestamps.tolist() == decoded(faults / name)[0]


def test_damaged_frames_are_left_out_and_counted(clips, caplog):
    """50 packets, of which 49 decode."""
    index = index_packets(clips / "decord_corrupted.mp4")
    assert (index.n_frames, len(index.lost)) == (49, 1)
    assert index.lost[0] not in index.timestamps and np.diff(index.timestamps).max() > 1.5 / index.fps
    assert index.notes == ("damaged: 1 of 50 frames (2.0%) do not decode and are left out",)
    assert index.between(0, index.lost[0] - index.zero).notes == ()
    assert index.timestamps.tolist() == decoded(clips / "decord_corrupted.mp4")[0]
    assert "50 packets suggest 50 frames, and 49 decode" in caplog.text


def test_side_data_of_any_type_is_no_matter(clips):
    """Motion JPEG whose frames carry EXIF, a type that FFmpeg knows and PyAV 18.1 does not."""
    index = index_packets(clips.parent / "faults" / "clips" / "mjpeg_exif_camera.avi")
    assert (index.n_frames, index.rotation) == (48, 0)


def test_of_several_streams_the_largest_default_one_is_read_and_named(video):
    index = index_packets(video("two_streams.mp4"))
    assert index.stream == 0
    assert index.choice == "stream=0 is read of stream=0 (160x96), stream=1 (160x96)"
    other = index_packets(video("two_streams.mp4"), stream=1)
    assert (other.stream, other.n_frames, other.choice) == (1, N_FRAMES, "")
    numbers = [
        read_frame_number(image) for image in PyAVReader().read(other.path, np.array([0, 9]), None, other).pixels
    ]
    assert numbers == [500, 509]
    with pytest.raises(VideoError, match=r"has no stream=2: choose among stream=0 \(160x96\), stream=1"):
        index_packets(video("two_streams.mp4"), stream=2)


def test_encrypted_video_says_so(clips, video, tmp_path):
    path = tmp_path / "scrambled.ts"
    content = bytearray(video("transport.ts").read_bytes())
    for packet in range(0, len(content), 188):
        if content[packet + 1] & 0x1F == 1:  # PID 256, the video's (ISO/IEC 13818-1 2.4.3.2)
            start = packet + (5 + content[packet + 4] if content[packet + 3] & 0x20 else 4)
            content[packet + 3] |= 0x80  # transport_scrambling_control
            content[start : packet + 188] = bytes(byte ^ 0x5A for byte in content[start : packet + 188])
    path.write_bytes(content)
    for file in (path, clips.parent / "faults" / "clips" / "cenc.mp4"):
        with pytest.raises(VideoError, match="is encrypted: decrypt it"):
            index_packets(file)


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
    assert (index.width, index.height, index.shown_size) == (160, 96, (96, 160))
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
    for name in ("open_gop.mp4", "open_gop.mkv", "intra_refresh.mp4"):
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
    assert (index.rotation, index.mirrored, index.shown_size) == (rotation, mirrored, size)


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
        ("zipped.mp4", lambda path: path.write_bytes(b"PK\x03\x04" + bytes(99)), "is an archive: unpack it"),
        ("page.mp4", lambda path: path.write_text("\n<!DOCTYPE html><html>"), "is a web page, not a video: download"),
        ("lfs.mp4", lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
        ("still.png", write_still, "is an image, not a video: leave it out, or name images"),
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
