"""HLS: the video of a playlist is its segments, from its own folder alone."""

import shutil

import av
import numpy as np
import pytest

from keyframe.data.packets import index_packets
from keyframe.data.pyav_reader import PyAVReader
from keyframe.extraction.inputs import find_inputs
from keyframe.extraction.staging import Refused, staged
from keyframe.files import content_hash
from keyframe.types import VideoError
from tests.videos import read_frame_number, write_video

_HEAD = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n"


def write_hls(playlist, **options):
    """36 frames in segments of 12, by FFmpeg's own muxer."""
    playlist.parent.mkdir()
    source = write_video(playlist.parent / "source.mp4", frames=36, options={"g": "12", "sc_threshold": "0", "bf": "2"})
    options |= {"hls_time": "0.4", "hls_list_size": "0", "hls_playlist_type": "vod"}
    with av.open(str(source)) as old, av.open(str(playlist), "w", format="hls", options=options) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    source.unlink()


@pytest.fixture(scope="module")
def streams(tmp_path_factory):
    """`ts`: three segments; `mp4`: the same as byte ranges of one file, after its header."""
    place = tmp_path_factory.mktemp("hls")
    write_hls(place / "ts" / "a b.m3u8")
    write_hls(place / "mp4" / "a b.m3u8", hls_segment_type="fmp4", hls_flags="single_file")
    return place


def only(folder, entry):
    """What one input leads to: name, frame numbers and content of its file, or why there is none."""
    with staged(folder / "run" / "inputs", None) as staging:
        [one] = find_inputs([str(entry)], True, [folder / "run"], staging)
        if isinstance(one, Refused):
            return one.reason
        index = index_packets(one)
        pixels = PyAVReader().read(one, np.arange(index.n_frames), None, index).pixels
        return one.name, [read_frame_number(image) for image in pixels], content_hash(one)


def test_segments_are_one_video_and_part_of_its_content(streams, tmp_path):
    for kind in ("ts", "mp4"):
        place = shutil.copytree(streams / kind, tmp_path / kind)
        assert len(list(place.iterdir())) == (4 if kind == "ts" else 2)
        name, numbers, content = only(tmp_path, place / "a b.m3u8")
        assert (name, numbers) == ("a b.m3u8", list(range(36)))
        assert only(tmp_path, place) == (name, numbers, content)  # the folder's one video
    segment = tmp_path / "ts" / "a b1.ts"
    changed = bytearray(segment.read_bytes())
    changed[-1] ^= 1
    segment.write_bytes(changed)
    assert only(tmp_path, segment.with_name("a b.m3u8"))[2] != only(tmp_path, streams / "ts" / "a b.m3u8")[2]


def test_of_variants_the_largest_is_read(streams, tmp_path):
    shutil.copytree(streams / "ts", tmp_path / "best" / "deep")
    (tmp_path / "all.m3u8").write_text(
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9000,RESOLUTION=64x48\nsmall.m3u8\n"
        '#EXT-X-STREAM-INF:AVERAGE-BANDWIDTH=1,BANDWIDTH=8000,RESOLUTION=160x96,CODECS="a,b"\nbest/deep/a%20b.m3u8\n'
    )
    assert only(tmp_path, tmp_path / "all.m3u8")[1] == list(range(36))


def test_sound_in_files_of_its_own_is_left_out(streams, tmp_path, caplog):
    shutil.copytree(streams / "ts", tmp_path / "video")
    (tmp_path / "all.m3u8").write_text(
        "#EXTM3U\n#EXT-X-VERSION:6\n"
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="English, stereo",DEFAULT=YES,URI="audio/a.m3u8"\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=9000,RESOLUTION=160x96,AUDIO="a"\nvideo/a%20b.m3u8\n'
    )
    with caplog.at_level("INFO"):
        assert only(tmp_path, tmp_path / "all.m3u8")[1] == list(range(36))
    assert caplog.messages == [f"{tmp_path / 'all.m3u8'}: its sound is in separate files, which are not read"]


def test_a_file_of_a_playlist_that_is_not_to_be_had(streams, tmp_path):
    place = shutil.copytree(streams / "ts", tmp_path / "in" / "ts")
    (tmp_path / "secret.ts").write_bytes((place / "a b0.ts").read_bytes())
    (place / "link.ts").symlink_to(tmp_path / "secret.ts")
    path = place / "new.m3u8"
    for segment, says in {
        "../../secret.ts": "names ../../secret.ts, which is outside of its folder",
        "..%2F..%2Fsecret.ts": "which is outside of its folder",
        str(tmp_path / "secret.ts"): "which is outside of its folder",
        "link.ts": "names link.ts, which is outside of its folder",
        f"file://{tmp_path / 'secret.ts'}": "which is not in its folder: download the segments",
        "http://127.0.0.1:9/a.ts?key=1": "names http://127.0.0.1:9/a.ts, which is not in its folder",
        "data:video/mp2t;base64,AAAA": "which is not in its folder",
        "gone.ts": "names gone.ts, which is missing: copy it, too",
    }.items():
        path.write_text(f"{_HEAD}#EXTINF:1,\n{segment}\n")
        reason = only(tmp_path, path)
        assert reason.startswith(f"{path} names ") and says in reason
    for text, says in {
        f'{_HEAD}#EXT-X-KEY:METHOD=AES-128,URI="key"\n#EXTINF:1,\na b0.ts\n': "is encrypted",
        f'{_HEAD}#EXT-X-MAP:URI="a b0.ts"\n#EXT-X-MAP:URI="a b1.ts"\n': "changes its encoding midway",
        _HEAD: "names no segments",
        "#EXTM3U\na.mp4\n": "is a list of videos, not of segments (HLS)",
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nnew.m3u8\n": "names playlists of playlists",
    }.items():
        path.write_text(text)
        assert says in only(tmp_path, path)
    path.write_text(f"{_HEAD}#EXTINF:1,\r\na b0.ts\r\n", encoding="utf-8-sig")
    assert only(tmp_path, path)[1] == list(range(12))
    path.write_bytes(b"#EXTM3U\n\xff\xfe")
    assert "is not a readable playlist" in only(tmp_path, path)


def test_elsewhere_a_playlist_is_no_video_and_names_nothing_to_open(streams, tmp_path):
    (tmp_path / "a.mp4").write_text((streams / "ts" / "a b.m3u8").read_text())
    (tmp_path / "a.mpd").write_text('<?xml version="1.0"?>\n<!-- made -->\n<MPD type="static"></MPD>')
    for path in (streams / "ts" / "a b.m3u8", tmp_path / "a.mp4", tmp_path / "a.mpd"):
        with pytest.raises(VideoError, match="is a playlist, which names other files, not a video"):
            index_packets(path)
