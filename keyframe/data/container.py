"""Opening a video file: which of its streams is read, what its decoder gives, and why a file cannot be read."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import av
import av.error
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from keyframe.types import VideoError

# The files of a folder that count as videos, to train on and to extract from. A file of another suffix must be named.
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".mkv", ".webm", ".avi", ".divx", ".flv"),
    *(".mpg", ".mpeg", ".m1v", ".m2p", ".m2v", ".vob", ".vro", ".evo", ".mod", ".tod", ".ts", ".mts", ".m2ts", ".m2t"),
    *(".trp", ".mxf", ".gxf", ".dv", ".wmv", ".asf", ".wtv", ".ogv", ".ogm", ".rm", ".rmvb", ".gif", ".apng", ".y4m"),
    *(".264", ".h264", ".265", ".h265", ".hevc", ".266", ".vvc", ".obu", ".ivf", ".nut", ".mjpeg", ".mjpg", ".mj2"),
    *(".insv", ".dav"),
)
# FFmpeg "plays" these too: text as a terminal recording, an image as a video of one frame.
_NOT_VIDEO = {"tty", "ico", "bin", "xbin", "adf", "idf"}
# How texts that play other files begin: HLS, FFmpeg's own, DASH.
_PLAYLIST = re.compile(rb"(\xef\xbb\xbf)?#EXTM3U|ffconcat|\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<MPD", re.DOTALL)
_ENCRYPTED_TAGS = {"encv", "drmi"}  # sample entries of protected video: ISO/IEC 14496-12 8.12, and FairPlay's
# An MPEG transport packet: its bytes, its first one, how many are looked at (ISO/IEC 13818-1 2.4.3.2).
_TS_BYTES, _TS_SYNC, _TS_LOOKED_AT = 188, 0x47, 5000
# What often bears a video's name: how it begins, and what it is.
_MISTAKEN = {
    rb"PK\x03\x04|\x1f\x8b|Rar!|7z\xbc\xaf|BZh|\xfd7zXZ": "an archive: unpack it, and name a video in it",
    rb"(?i)\s*(<!--.*?-->\s*)?<(!doctype html|html)": "a web page, not a video: download the video itself",
    rb"version https://git-lfs": "a pointer of Git LFS, not a video: fetch it with git lfs pull",
}


@contextmanager
def open_video(path: Path, number: int | None = None) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video and one of its video streams; may raise `VideoError`.

    `number` is that of the stream among the video streams, from 0, cover images left out. None: of those marked as
    default, if any, the one with the largest frames, and of these the first.
    """
    if not path.exists():
        raise VideoError(f"{path} does not exist: check the path.")
    if path.is_dir():
        raise VideoError(f"{path} is a folder: name a video file in it.")
    if path.stat().st_size == 0:
        raise VideoError(f"{path} is empty (0 bytes): copy or download it again.")
    head = b""
    try:
        with path.open("rb") as file:
            head = file.read(1024)
        if _PLAYLIST.match(head):
            remedy = "name a video file, or make one with ffmpeg -i FILE -c copy new.mp4"
            raise VideoError(f"{path} is a playlist, which names other files, not a video: {remedy}.")
        # An absolute path, because to FFmpeg "name:part.mp4" is a protocol. Whatever a file names is not opened.
        container = av.open(str(path.absolute()), options={"protocol_whitelist": "file"})
    except PermissionError as error:
        raise VideoError(f"{path} cannot be read: give yourself read permission.") from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"{path} is {_what_is_unreadable(head)}.") from error
    with container:
        if container.format.name.endswith("_pipe") or container.format.name == "image2":
            remedy = "leave it out, or name images that follow each other as frames/%05d.png"
            raise VideoError(f"{path} is an image, not a video: {remedy}.")
        if container.format.name in _NOT_VIDEO:
            raise VideoError(f"{path} is a text or an image, not a video: leave it out or name a video file.")
        streams = video_streams(container)
        if not streams:
            raise VideoError(f"{path} has no video stream: leave it out or name a video file.")
        if number is not None and not 0 <= number < len(streams):
            raise VideoError(f"{path} has no stream={number}: choose among {listed(streams)}.")
        stream = max(streams, key=_rank) if number is None else streams[number]
        if stream.codec_context is None:
            raise VideoError(f"{path} uses a video codec unknown to PyAV's FFmpeg: convert it to H.264.")
        if stream.codec_context.codec_tag in _ENCRYPTED_TAGS:
            raise encrypted(path)
        yield container, stream


def video_streams(container: InputContainer) -> list[VideoStream]:
    """The video streams of a file in its order, without cover images."""
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def _rank(stream: VideoStream) -> tuple[bool, bool, int]:
    context, default = stream.codec_context, bool(stream.disposition & Disposition.default)
    return context is not None, default, 0 if context is None else context.width * context.height


def listed(streams: Sequence[VideoStream]) -> str:
    """The streams by number and size, for a message."""
    contexts = [stream.codec_context for stream in streams]
    sizes = ["unknown codec" if context is None else f"{context.width}x{context.height}" for context in contexts]
    return ", ".join(f"stream={number} ({size})" for number, size in enumerate(sizes))


def decoded_frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """The frames of a stream that decode, in presentation order."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            packet = None  # What is left of the file cannot be read.
        if packet is not None and not packet.size:
            continue  # To the decoder that would be the end of the stream.
        with suppress(av.error.FFmpegError):
            yield from stream.decode(packet)
        if packet is None:
            return


def encrypted(path: Path) -> VideoError:
    """The error of a video that needs a key."""
    return VideoError(f"{path} is encrypted: decrypt it with the software or key that it came with, or leave it out.")


def why_no_frames(path: Path, n_packets: int) -> VideoError:
    """The error of a video of which no frame decodes."""
    with path.open("rb") as file:
        head = file.read(_TS_BYTES * _TS_LOOKED_AT)
    packets = [head[at : at + 4] for at in range(0, len(head) - _TS_BYTES, _TS_BYTES)]
    if packets and all(packet[0] == _TS_SYNC for packet in packets) and any(packet[3] & 0xC0 for packet in packets):
        return encrypted(path)
    if n_packets:
        return VideoError(f"{path} is damaged, none of its frames decodes: copy or convert it again, or leave it out.")
    return VideoError(f"{path} holds no video frames: copy or download it again.")


def _what_is_unreadable(head: bytes) -> str:
    """What a file is that FFmpeg refuses to open, by its first bytes, and what to do."""
    mistaken = (what for start, what in _MISTAKEN.items() if re.match(start, head, re.DOTALL))
    damaged = "cut short or damaged, its index is missing: copy, download or export it again"
    other = "not a video that FFmpeg can read: leave it out, or convert it to H.264 in MP4"
    return next(mistaken, damaged if head[4:8] == b"ftyp" else other)
