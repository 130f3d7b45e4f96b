"""From frames to pictures: scan lines, HDR, sizes that change, bars. Expected values are FFmpeg's and the ITU's."""

import subprocess

import av
import numpy as np
import pytest
from av.filter import Graph

from keyframe.data.decord_reader import DecordReader, why_not_decord
from keyframe.data.packets import index_packets
from keyframe.data.picture import corrections, unbarred_size
from keyframe.data.pyav_reader import PyAVReader
from tests.videos import CLIPS, read_frame_number, write_video

SIZE = (96, 160)
INTERLACED = {
    "seeks.mp4": {"options": {"x264-params": "tff=1:keyint=12:bframes=2"}},
    "runs.ts": {"codec": "mpeg2video", "options": {"g": "12", "flags": "+ildct+ilme"}},
}
# H.273: transfer characteristics, and the primaries of BT.2020.
PQ, HLG, SDR, BT2020 = 16, 18, 1, 9


def decode(path, name=None, **options):
    """All frames of a video, through a filter of FFmpeg, as RGB."""
    graph, pictures = Graph(), []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        chain = [graph.add_buffer(template=stream), *([graph.add(name, **options)] if name else [])]
        graph.link_nodes(*chain, graph.add("buffersink")).configure()
        for frame in [*container.decode(stream), None]:
            graph.push(frame)
            while True:
                try:
                    shown = graph.pull()
                except (av.error.BlockingIOError, av.error.EOFError):
                    break
                pictures.append(shown.to_ndarray(format="rgb24", interpolation="BILINEAR"))
    return np.stack(pictures).astype(int)


def test_interlaced_video_is_what_ffmpeg_deinterlaces(tmp_path):
    for name, how in INTERLACED.items():
        path = write_video(tmp_path / name, frames=36, **how)
        index = index_packets(path)
        assert index.corrections == corrections(path) == ("deinterlace",)
        assert why_not_decord(index) is not None
        expected, combed = decode(path, "bwdif", mode="send_frame"), decode(path)
        assert len(expected) == len(combed) == 36 and np.abs(expected - combed).mean() > 1
        for wanted in ([0, 1, 2, 17, 30, 34, 35], np.arange(36)):
            for reader in (PyAVReader(), DecordReader()):
                pixels = reader.read(path, np.array(wanted), SIZE, index).pixels
                np.testing.assert_array_equal(pixels, expected[wanted], f"{name} {wanted}")
        plain = PyAVReader(deinterlace=False).read(path, np.array([5, 20]), SIZE, index).pixels
        np.testing.assert_array_equal(plain, combed[[5, 20]])


def grey(path, transfer, levels, primaries=BT2020):
    """A lossless video of a row of grey patches of these R'G'B' values in [0, 1], 10 bits, limited range."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32 * len(levels), 32, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = transfer, primaries, 9, 1
        frame = av.VideoFrame(stream.width, stream.height, "yuv420p10le")
        luma = np.repeat(np.round(64 + 876 * np.array(levels)).astype("<u2"), 32)
        for plane, row in zip(frame.planes, (luma, *[np.full(16 * len(levels), 512, "<u2")] * 2), strict=True):
            rows = np.zeros((plane.height, plane.line_size // 2), "<u2")
            rows[:, : len(row)] = row
            plane.update(rows.tobytes())
        frame.pts = 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def test_hdr_becomes_sdr(tmp_path):
    # ITU-R BT.2408, table 1: reference white of 203 cd/m2 is at 58 % of PQ and 75 % of HLG; 1000 cd/m2 at 75 % and
    # 100 %. FFmpeg's mobius curve leaves .679 of white to reference white, 217 of 255 under BT.1886; black is black.
    for transfer, levels in ((PQ, (0, 0.5807, 0.7518, 1)), (HLG, (0, 0.75, 1, 1))):
        path = grey(tmp_path / f"{transfer}.mkv", transfer, levels)
        index = index_packets(path)
        assert index.corrections == corrections(path) == ("tone_map",)
        middles = PyAVReader().read(path, np.array([0]), None, index).pixels[0, 16, 16::32].astype(int)
        np.testing.assert_allclose(middles, np.array([0, 217, 255, 255])[:, None].repeat(3, axis=1), atol=2)
        pale = PyAVReader(tone_map=False).read(path, np.array([0]), None, index).pixels[0, 16, 16::32].astype(int)
        np.testing.assert_allclose(pale[:, 1], 255 * np.array(levels), atol=3)
    # Grey of SDR is the same in both gamuts; of BT.709 nothing is touched.
    for primaries in (BT2020, SDR):
        path = grey(tmp_path / "sdr.mkv", SDR, (0, 0.3, 0.6, 1), primaries)
        assert corrections(path) == (("tone_map",) if primaries == BT2020 else ())
        middles = PyAVReader().read(path, np.array([0]), None).pixels[0, 16, 16::32].astype(int)
        np.testing.assert_allclose(middles[:, 1], [0, 76.5, 153, 255], atol=3)


@pytest.mark.parametrize(("name", "tolerance"), [("pq_hdr10.mp4", 2), ("hlg_iphone.mov", 4)])
def test_agrees_with_ffmpegs_tone_mapping(name, tolerance):
    """The programme's chain has zscale, which PyAV's FFmpeg lacks; zscale takes HLG per channel, BT.2100 by luma."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    path = CLIPS.parent / "faults" / "clips" / name
    filters = subprocess.run([ffmpeg, "-filters"], capture_output=True, check=True).stdout
    if not path.exists() or b"zscale" not in filters:
        pytest.skip("the clip, or an ffmpeg with zscale, is not on this machine")
    chain = "zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709,tonemap=mobius:desat=0:peak=4.926,zscale=t=bt709"
    command = [ffmpeg, "-v", "error", "-i", path, "-vf", f"{chain},format=gbrpf32le,format=rgb24", "-frames:v", "1"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-"], capture_output=True, check=True).stdout
    expected = np.frombuffer(raw, np.uint8).reshape(432, 768, 3).astype(int)
    pixels = PyAVReader().read(path, np.array([0]), None).pixels[0]
    difference = np.abs(pixels - expected)
    assert difference.mean() < tolerance and np.percentile(difference, 99) < 4 * tolerance
    pale = PyAVReader(tone_map=False).read(path, np.array([0]), None).pixels[0]
    assert np.abs(pale - expected).mean() > 15


@pytest.fixture(scope="session")
def changing(tmp_path_factory):
    """12 frames of 160x96, 12 of the same pixels 4:3 as wide, 12 of 96x160."""
    folder = tmp_path_factory.mktemp("changing")
    parts = [
        write_video(folder / f"{number}.h264", frames=12, size=size, first_number=12 * number, options=options)
        for number, (size, options) in enumerate(
            [
                ((160, 96), {"x264-params": "sar=1/1"}),
                ((160, 96), {"x264-params": "sar=4/3"}),
                ((96, 160), {"x264-params": "sar=1/1"}),
            ]
        )
    ]
    path = folder / "changing.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def test_each_frame_has_the_size_of_its_moment(changing):
    index = index_packets(changing)
    assert index.shown_size == (96, 160)
    for reader in (PyAVReader(), DecordReader()):
        pieces = list(reader.stream(changing, np.arange(36), None, index, chunk=8))
        assert [piece.pixels.shape[:3] for piece in pieces] == [
            *[(8, 96, 160), (4, 96, 160), (8, 96, 213), (4, 96, 213), (8, 160, 96), (4, 160, 96)]
        ]
        assert [read_frame_number(pixels) for piece in pieces for pixels in piece.pixels] == list(range(36))
    # At once all have the size of the first.
    assert PyAVReader().read(changing, np.array([3, 20, 30]), None).pixels.shape == (3, 96, 160, 3)


def test_a_frame_is_stretched_by_no_more_than_a_cinema_film(tmp_path):
    for shown, size, unbarred in (
        ((1080, 1920), (224, 224), (224, 224)),
        ((800, 1920), (224, 224), (224, 224)),
        ((1920, 1080), (96, 160), (96, 135)),
        ((96, 400), (96, 96), (58, 96)),
        ((400, 96), (96, 96), (96, 58)),
        ((1, 4000), (96, 96), (1, 96)),
    ):
        assert unbarred_size(shown, size) == unbarred
    path = write_video(tmp_path / "wide.mp4", frames=6, size=(400, 96))
    index = index_packets(path)
    assert why_not_decord(index) is None
    for reader in (PyAVReader(), DecordReader()):
        (pixels,) = reader.read(path, np.array([3]), (96, 96), index).pixels
        assert not pixels[:19].any() and not pixels[77:].any() and read_frame_number(pixels[19:77]) == 3
