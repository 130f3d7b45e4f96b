import re
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from keyframe.data.decord_reader import DecordReader
from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.summary import skim
from keyframe.summary.skim import write_skim
from keyframe.types import KeyframeError, VideoError
from tests.videos import (
    CAN_ROTATE,
    build,
    draw_frame,
    overwrite,
    packet_places,
    read_frame_number,
    remux,
    write_video,
)

FLASH = 0.08  # seconds; one begins with each second
SPANS = [(0.483, 1.717), (1.717, 2.6), (5.197, 7.4)]
BT709 = 1


def film(
    path,
    *,
    seconds=8.0,
    fps=25,
    times=None,
    size=(160, 96),
    rotation=0,
    codecs=("libx264", "aac"),
    rate=48_000,
    layout="stereo",
    sound_seconds=None,
    late=0.0,
    pitches=(1000,),
):
    """Write a film whose frames carry their number in the lower half, that flashes and beeps once a second.

    `times` are those of the frames in seconds; sound ends after `sound_seconds`; all begins `late` seconds after 0;
    each of `pitches` (in Hz) makes an audio stream.
    """
    options = {"g": "30", "b": "400k", "deadline": "realtime"} if codecs[0] == "libvpx" else {"g": "30", "crf": "20"}
    times = np.arange(round(seconds * fps)) / fps if times is None else np.asarray(times)
    with av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as output:
        video = output.add_stream(codecs[0], rate=fps, options=options)
        video.width, video.height = size[::-1] if rotation % 180 else size
        video.pix_fmt = "yuv420p" if size[0] % 2 == size[1] % 2 == 0 else "yuv444p"
        video.codec_context.time_base = Fraction(1, 12_000)
        if rotation:
            video.set_display_rotation(rotation)
        audios = [output.add_stream(codecs[1], rate=rate, layout=layout) for _ in pitches]
        packets = []
        for number, time in enumerate(times):
            picture = draw_frame(number, size)
            picture[: size[1] // 2] = 235 if time % 1 < FLASH - 1e-6 else 20
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(picture, -rotation // 90)))
            frame.pts, frame.time_base = round((time + late) * 12_000), Fraction(1, 12_000)
            packets += video.encode(frame)
        packets += video.encode(None)
        clock = np.arange(round((seconds if sound_seconds is None else sound_seconds) * rate)) / rate
        for audio, pitch in zip(audios, pitches, strict=True):
            wave = np.where(clock % 1 < FLASH, 0.5 * np.sin(2 * np.pi * pitch * clock), 0).astype(np.float32)
            for start in range(0, len(wave), rate // 10):
                piece = np.tile(wave[start : start + rate // 10], (len(audio.codec_context.layout.channels), 1))
                frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
                frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = start + round(late * rate)
                packets += audio.encode(frame)
            packets += audio.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            output.mux(packet)
    return path


def watch(path):
    """Frames (T, H, W, 3), their times with the end (T + 1,), sound (channels, n) from 0 on, and its rate."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]
        end = float(stream.duration * stream.time_base)
    with av.open(str(path)) as container:
        sound, rate = np.zeros((0, 0), np.float32), 0
        if container.streams.audio:
            blocks = list(container.decode(audio=0))
            assert blocks[0].time == 0
            sound, rate = np.concatenate([block.to_ndarray() for block in blocks], axis=1), blocks[0].sample_rate
    return np.stack([pixels for _, pixels in frames]), np.array([*(time for time, _ in frames), end]), sound, rate


def onsets(loud, times):
    """The times at which a row of booleans turns true."""
    return np.asarray(times)[np.flatnonzero(loud & ~np.concatenate([[False], loud[:-1]]))]


def flashes(pixels, times):
    return onsets(pixels[:, : pixels.shape[1] // 2].mean(axis=(1, 2, 3)) > 128, times[:-1])


def beeps(sound, rate):
    """Times at which beeps begin: the loudness of 5 ms passes half of a beep's."""
    power = np.convolve(np.square(sound).mean(axis=0), np.ones(rate // 200) / (rate // 200), mode="same")
    return onsets(power > 0.5**2 / 4, np.arange(sound.shape[1]) / rate)


def numbers_in(pixels):
    return [read_frame_number(picture) for picture in pixels]


UNEVEN = np.cumsum(np.random.default_rng(0).choice([0.02, 0.04, 0.06], 205)) - 0.02
KINDS = {
    "plain.mp4": {},
    "late.mp4": {"late": 1.48},
    "uneven.mp4": {"times": UNEVEN},
    "uneven.mkv": {"times": UNEVEN},
    "ntsc.mp4": {"fps": Fraction(30_000, 1001)},
    "vp8.webm": {"codecs": ("libvpx", "libopus"), "late": 0.2},
    "mono.mkv": {"codecs": ("libx264", "libmp3lame"), "rate": 22_050, "layout": "mono"},
    "surround.mkv": {"codecs": ("libx264", "ac3"), "layout": "5.1"},
    "odd_rate.mkv": {"codecs": ("libx264", "pcm_f32le"), "rate": 37_800},
    "transport.ts": {"late": 2.0},
    "avi.avi": {"codecs": ("mpeg4", "pcm_s16le")},
}


@pytest.mark.full
@pytest.mark.parametrize("name", [*KINDS, "decord of uneven.mp4"])
def test_the_right_pictures_with_their_sound(name, tmp_path):
    reader = DecordReader() if "decord" in name else PyAVReader()
    name = name.removeprefix("decord of ")
    path = film(tmp_path / name, **KINDS[name])
    write_skim(index_packets(path), SPANS, tmp_path / "skim.mp4", reader)
    pixels, times, sound, rate = watch(tmp_path / "skim.mp4")
    index = index_packets(path)
    starts = np.append(index.timestamps - index.timestamps[0], index.duration)
    expected, lasts = [], []
    for start, end in SPANS:
        first, stop = (int(np.abs(starts - edge).argmin()) for edge in (start, end))
        expected += range(first, stop)
        lasts += np.diff(starts[first : stop + 1]).tolist()
    assert numbers_in(pixels) == expected
    np.testing.assert_allclose(times, np.cumsum([0, *lasts]), atol=1e-3)
    # A frame here lasts 0.06 s at most, and an edge moves by half a frame at most.
    assert times[-1] == pytest.approx(sum(end - start for start, end in SPANS), abs=0.06)
    assert sound.shape[1] / rate == pytest.approx(times[-1], abs=1024 / rate)  # AAC comes in frames of 1024
    seen, heard = flashes(pixels, times), beeps(sound, rate)
    assert len(seen) == 4
    # Beside a variable rate's frames, a flash begins with the first frame that begins in it.
    late = 0.06 if "uneven" in name else 0.034 if "ntsc" in name else 0
    assert len(heard) == 4 and np.all(seen - heard > -0.015) and np.all(seen - heard < late + 0.015)


def test_what_is_written(tmp_path):
    path = film(tmp_path / "v.mp4", rate=44_100)
    write_skim(index_packets(path), SPANS, tmp_path / "deep" / "er" / "skim.mp4", PyAVReader())
    out = tmp_path / "deep" / "er" / "skim.mp4"
    with av.open(str(out)) as container:
        video, audio = container.streams
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (audio.codec_context.name, audio.rate, audio.layout.name) == ("aac", 44_100, "stereo")
        assert video.average_rate == 25
    content = out.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    assert list(out.parent.iterdir()) == [out]


def test_webm_for_browsers_without_h264(tmp_path):
    path = film(tmp_path / "v.mkv", times=UNEVEN)
    index = index_packets(path)
    write_skim(index, [(0.0, index.duration)], tmp_path / "skim.webm", PyAVReader(), height=80)
    with av.open(str(tmp_path / "skim.webm")) as container:
        video, audio = container.streams
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("vp9", "yuv420p")
        assert (video.width, video.height, audio.codec_context.name) == (134, 80, "opus")
        assert video.codec_context.colorspace == BT709
        times = [frame.time for frame in container.decode(video)]
    np.testing.assert_allclose(times, index.timestamps - index.timestamps[0], atol=1e-3)
    content = (tmp_path / "skim.webm").read_bytes()
    assert content.index(b"\x1c\x53\xbb\x6b") < content.index(b"\x1f\x43\xb6\x75")  # cues before clusters


def test_the_same_bytes_each_time(tmp_path):
    """x264's macroblock tree is not repeatable on some CPUs; these pictures make it show soon."""
    blocks = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).repeat(8, axis=0).repeat(8, axis=1)
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=8, options={"qp": "0", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 192, 108, "yuv444p"
        for top in range(30):
            picture = np.ascontiguousarray(blocks[top : top + 108, top : top + 192].astype(np.uint8))
            output.mux(video.encode(av.VideoFrame.from_ndarray(picture)))
        output.mux(video.encode(None))
    written = set()
    for number in range(12):
        write_skim(index_packets(path), [(0.0, 3.75)], tmp_path / f"{number}.mp4", PyAVReader())
        written.add((tmp_path / f"{number}.mp4").read_bytes())
    assert len(written) == 1


def test_touching_spans_are_as_one(tmp_path):
    path = film(tmp_path / "v.mp4")
    # 1.41 and 2.03 lie within frames: both sides of an edge must move to the same frame.
    write_skim(index_packets(path), [(0.4, 1.41), (1.41, 2.03), (2.03, 3.0)], tmp_path / "three.mp4", PyAVReader())
    write_skim(index_packets(path), [(0.4, 3.0)], tmp_path / "one.mp4", PyAVReader())
    three, one = watch(tmp_path / "three.mp4"), watch(tmp_path / "one.mp4")
    assert numbers_in(three[0]) == numbers_in(one[0]) == list(range(10, 75))
    np.testing.assert_array_equal(three[1], one[1])
    np.testing.assert_allclose(three[2], one[2], atol=1e-3)


@pytest.mark.parametrize("rotation", [90, 180, 270] if CAN_ROTATE else [])
def test_rotated(rotation, tmp_path):
    path = film(tmp_path / "v.mp4", seconds=2, rotation=rotation)
    write_skim(index_packets(path), [(0.4, 1.2)], tmp_path / "skim.mp4", DecordReader())
    pixels = watch(tmp_path / "skim.mp4")[0]
    assert pixels.shape[1:3] == (96, 160)
    assert numbers_in(pixels) == list(range(10, 30))


def test_odd_sizes_become_even(tmp_path):
    path = film(tmp_path / "v.mp4", seconds=2, size=(161, 97))
    write_skim(index_packets(path), [(0.4, 1.2)], tmp_path / "skim.mp4", DecordReader())
    pixels = watch(tmp_path / "skim.mp4")[0]
    assert pixels.shape[1:3] == (98, 162)
    assert numbers_in(pixels) == list(range(10, 30))


def test_pixels_become_square(tmp_path):
    path = write_video(tmp_path / "v.mp4", options={"x264-params": "sar=4/3"})
    write_skim(index_packets(path), [(0, 1)], tmp_path / "skim.mp4", DecordReader())
    assert watch(tmp_path / "skim.mp4")[0].shape[1:3] == (96, 214)


@pytest.mark.parametrize("matrix", [1, 5])
@pytest.mark.parametrize("colour_range", [1, 2])
def test_colours(matrix, colour_range, tmp_path):
    colour = {"colorspace": matrix, "color_range": colour_range}
    path = write_video(tmp_path / "v.mp4", frames=3, size=(280, 160), colour=colour, options={"crf": "4"})
    write_skim(index_packets(path), [(0, 1)], tmp_path / "skim.mp4", PyAVReader())
    with av.open(str(tmp_path / "skim.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (BT709, 1)
        pixels = frame.to_ndarray(format="rgb24")
    # The middle of each colour bar, away from its blurred edges; the wrong matrix or range is 10 to 30 levels off.
    bars = (slice(10, 70), slice(12, None, 40))
    assert np.abs(pixels[bars].astype(int) - draw_frame(0, (280, 160))[bars]).mean(axis=0).max() < 7


def test_without_sound(tmp_path):
    path = write_video(tmp_path / "v.mp4", frames=50)
    write_skim(index_packets(path), [(0.4, 0.8), (1.6, 2.0)], tmp_path / "skim.mp4", DecordReader())
    pixels, times, sound, _ = watch(tmp_path / "skim.mp4")
    assert numbers_in(pixels) == [*range(10, 20), *range(40, 50)]
    assert times[-1] == pytest.approx(0.8) and not sound.size


def test_sound_that_ends_early_and_sound_that_starts_late(tmp_path):
    path = film(tmp_path / "v.mp4", sound_seconds=2.5)
    write_skim(index_packets(path), [(1.4, 3.4), (4.8, 6.0)], tmp_path / "skim.mp4", PyAVReader())
    _, times, sound, rate = watch(tmp_path / "skim.mp4")
    assert sound.shape[1] / rate == pytest.approx(times[-1], abs=0.03) and times[-1] == pytest.approx(3.2)
    np.testing.assert_allclose(beeps(sound, rate), [0.6], atol=0.015)
    # The spans lie wholly after the sound: silence, but no failure.
    write_skim(index_packets(path), [(4.8, 6.0)], tmp_path / "skim.mp4", PyAVReader())
    _, _, sound, rate = watch(tmp_path / "skim.mp4")
    assert sound.shape[1] / rate == pytest.approx(1.2, abs=0.03) and not np.abs(sound).max()


def test_of_several_sounds_the_first(tmp_path):
    path = film(tmp_path / "v.mp4", seconds=3, pitches=(500, 2000))
    write_skim(index_packets(path), [(0.8, 2.0)], tmp_path / "skim.mp4", PyAVReader())
    with av.open(str(tmp_path / "skim.mp4")) as container:
        assert len(container.streams.audio) == 1
    _, _, sound, rate = watch(tmp_path / "skim.mp4")
    spectrum = np.abs(np.fft.rfft(sound[0]))
    assert np.fft.rfftfreq(sound.shape[1], 1 / rate)[spectrum.argmax()] == pytest.approx(500, abs=20)


def test_an_edit_list(tmp_path):
    path = build("edit_list.mp4", tmp_path)  # starts at frame 9
    write_skim(index_packets(path), [(0.4, 0.8)], tmp_path / "skim.mp4", DecordReader())
    assert numbers_in(watch(tmp_path / "skim.mp4")[0]) == list(range(19, 29))


def test_damage_leaves_a_frame_out_and_time_goes_on(tmp_path):
    path = write_video(tmp_path / "v.mp4", frames=50, options={"g": "1"})
    overwrite(path, packet_places(path)[20:21])
    write_skim(index_packets(path), [(0.4, 1.2)], tmp_path / "skim.mp4", PyAVReader(max_missing=0.5))
    pixels, times, _, _ = watch(tmp_path / "skim.mp4")
    assert numbers_in(pixels) == [*range(10, 20), *range(21, 30)]
    np.testing.assert_allclose(np.diff(times), [0.04] * 9 + [0.08] + [0.04] * 9, atol=1e-4)


@pytest.mark.full
@pytest.mark.parametrize("name", ["chaplin.mp4", "friday.mp4", "tc_nasa.mp4", "delayed_start.mp4"])
def test_real_clips(name, clips, tmp_path):
    index = index_packets(clips / name)
    first, last = index.n_frames // 4, min(index.n_frames // 4 + 12, index.n_frames)
    span = (index.timestamps[first] - index.timestamps[0], index.timestamps[last] - index.timestamps[0])
    write_skim(index_packets(clips / name), [span], tmp_path / "skim.mp4", DecordReader())
    pixels, times, sound, rate = watch(tmp_path / "skim.mp4")
    expected = PyAVReader().read(clips / name, np.arange(first, last), index.shown_size, index).pixels
    assert times[-1] == pytest.approx(span[1] - span[0], abs=1e-3)
    assert np.abs(pixels.astype(int) - expected).mean() < 5
    if name != "delayed_start.mp4":
        with av.open(str(clips / name)) as container:
            source = list(container.decode(container.streams.audio[0]))
        start = index.timestamps[first]
        loudness = np.concatenate([frame.to_ndarray() for frame in source], axis=1).astype(np.float64)
        at = round((start - source[0].time) * source[0].sample_rate)
        wanted = loudness[0, at : at + round((span[1] - span[0]) * source[0].sample_rate)]
        n = min(len(wanted), sound.shape[1])
        assert rate == source[0].sample_rate and n > 0.9 * len(wanted)
        lags = np.correlate(sound[0, :n].astype(np.float64), wanted[:n], mode="full")
        assert abs(int(lags.argmax()) - (n - 1)) < 0.001 * rate


def test_nothing_is_left_behind_when_it_fails(tmp_path):
    path = write_video(tmp_path / "v.mp4", frames=50, options={"g": "1"})
    index = index_packets(path)
    overwrite(path, packet_places(path)[20:])
    index = replace(index, state=index_packets(path).state)  # as if nothing showed
    out = tmp_path / "out" / "skim.mp4"
    with pytest.raises(VideoError, match=re.escape(str(path))):
        write_skim(index, [(0.0, 2.0)], out, PyAVReader())
    assert list(out.parent.iterdir()) == []


def test_an_interrupt_leaves_the_old_file(tmp_path):
    class Interrupted(PyAVReader):
        def stream(self, *args, **kwargs):
            yield from list(super().stream(*args, **kwargs))[:2]
            raise KeyboardInterrupt

    path = film(tmp_path / "v.mp4", seconds=2)
    out = tmp_path / "out" / "skim.mp4"
    out.parent.mkdir()
    out.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_skim(index_packets(path), [(0.0, 2.0)], out, Interrupted())
    assert out.read_text() == "old" and list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("codec", ["video", "audio"])
def test_a_missing_encoder_is_reported(codec, monkeypatch, tmp_path):
    monkeypatch.setitem(skim._KINDS, ".mp4", skim._KINDS[".mp4"]._replace(**{codec: "libnothing"}))
    path = film(tmp_path / "v.mp4", seconds=1)
    with pytest.raises(KeyframeError, match=r"skim\.mp4.* libnothing .*pip install"):
        write_skim(index_packets(path), [(0.0, 1.0)], tmp_path / "skim.mp4", PyAVReader())


def test_refuses_spans(tmp_path):
    path = write_video(tmp_path / "v.mp4", frames=50)
    for spans in (
        [],
        [(1.0, 1.0)],
        [(1.0, 0.5)],
        [(0.0, float("nan"))],
        [(0.0, float("inf"))],
        [(0.0, 1.0), (0.9, 1.5)],
        [(1.0, 1.5), (0.0, 0.5)],
        [(0.021, 0.023)],
        [(7.0, 9.0)],
    ):
        with pytest.raises(ValueError):
            write_skim(index_packets(path), spans, tmp_path / "skim.mp4", PyAVReader())
    assert sorted(tmp_path.iterdir()) == [path]


def test_sound_before_the_first_picture_is_left_out(tmp_path):
    # Frames before 0 of this copy are hidden by an edit list, the sound there too.
    path = remux(film(tmp_path / "v.mp4", seconds=4, pitches=()), tmp_path / "cut.mp4", shift=-9)
    write_skim(index_packets(path), [(0.0, 1.0)], tmp_path / "skim.mp4", PyAVReader())
    assert numbers_in(watch(tmp_path / "skim.mp4")[0]) == list(range(9, 34))
