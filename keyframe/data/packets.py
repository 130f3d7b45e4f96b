"""The packet index of a video file: its frames, found without decoding, in milliseconds instead of seconds."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideData, SideDataContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from keyframe.files import FileState, unchanged
from keyframe.types import BoolArray, Float64Array, Int64Array, VideoError

# FFmpeg "plays" these too: text as a terminal recording, an image as a video of one frame. A "concat" text plays
# other files.
_NOT_VIDEO = {"tty", "image2", "ico", "bin", "xbin", "adf", "idf", "concat"}
# Its time stamps are FFmpeg's guess there: AVI stores none, and with H.264 B-frames the guess is wrong.
_WITHOUT_PTS = {"avi"}
# The display matrix comes with a decoded frame only; a decoder gives the first one within so many packets.
_PACKETS_TO_FIRST_FRAME = 64
_ANNEX_B_UNIT = re.compile(rb"\x00\x00\x01([\x00-\xff])")


@dataclass(frozen=True, eq=False)
class PacketIndex:
    """The frames of a video in presentation order, and what decides how they can be read.

    Frames are what a player would show: not what an edit list discards, VP8 reference frames without an image, nor
    what comes before the first key frame.

    Attributes:
        path: the file.
        timestamps: start of each frame in seconds on the container's own clock, float64, shape (N,), not decreasing.
            They equal `frame.time` of a sequential PyAV decode, so the first one need not be 0. If the container
            stores none (AVI, raw streams): decoding times in sorted order, or frame number / average rate.
        pts: the same as integers in the container's ticks, int64, shape (N,), to find a decoded frame; None if the
            container stores none, and frames have to be counted.
        key_frames: which frames are marked as key frames, bool, shape (N,); in decoding order if `pts` is None.
        codec: FFmpeg's codec name, such as "h264".
        container: FFmpeg's name of the container, such as "mov,mp4,m4a,3gp,3g2,mj2".
        pix_fmt: FFmpeg's pixel format, "" if it is not known before decoding.
        width, height: of the coded image in pixels, before any rotation.
        rotation: counterclockwise degrees (0, 90, 180, 270) by which a player turns the coded image; None if the first
            frame does not decode.
        mirrored: whether a player also mirrors the image.
        pixel_aspect: width over height of a coded pixel, as the container or the codec says; 1 if neither does.
        duration: end of the last frame minus start of the first, seconds.
        stated_duration: by the file's header, seconds; None if it states none.
        n_video_streams: number of video streams, cover images included; the index is of the best one.
        n_packets: packets of that stream; more than frames if some are not shown.
        random_access: whether decoding can start at every key frame; False for open GOPs and intra refresh.
        intact: whether each packet looks from the outside like what the codec says it is.
        steady: whether the clock never goes back from packet to packet, as it does in recordings joined byte by byte.
        state: of the file; once that has changed, the index is of no use.
    """

    path: Path
    timestamps: Float64Array
    pts: Int64Array | None
    key_frames: BoolArray
    codec: str
    container: str
    pix_fmt: str
    width: int
    height: int
    rotation: int | None
    mirrored: bool
    pixel_aspect: float
    duration: float
    stated_duration: float | None
    n_video_streams: int
    n_packets: int
    random_access: bool
    intact: bool
    steady: bool
    state: FileState

    @property
    def n_frames(self) -> int:
        """Number of frames that a player shows."""
        return len(self.timestamps)

    @property
    def fps(self) -> float:
        """Average frame rate, 1 / s."""
        return self.n_frames / self.duration

    @property
    def upright_size(self) -> tuple[int, int]:
        """(height, width) of the image as shown, in pixels."""
        return (self.width, self.height) if self.rotation in (90, 270) else (self.height, self.width)


class _Packet(NamedTuple):
    pts: int | None
    dts: int | None
    duration: int
    key: bool
    shown: bool
    intact: bool
    restarts: bool  # decoding can start here


class Orientation(NamedTuple):
    """How coded pixels become the upright image: swap the axes first, then flip.

    Source: `libavutil/display.h` of FFmpeg, which defines the display matrix.
    """

    transposed: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> "Orientation":
        """The orientation in a decoded frame's display matrix, to the nearest quarter turn."""
        # `frame.side_data` would tie the frame to itself: it would live until the garbage collector runs.
        matrix = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg]  # the stub lacks it
        if not isinstance(matrix, SideData):
            return cls()
        a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
        transposed = abs(b) + abs(c) > abs(a) + abs(d)
        return cls(transposed, (b if transposed else d) < 0, (c if transposed else a) < 0)

    @property
    def mirrored(self) -> bool:
        """Whether left and right change places, which no rotation does."""
        return self.transposed ^ self.flip_rows ^ self.flip_columns

    @property
    def rotation(self) -> int:
        """Counterclockwise degrees, 0 to 270; of a mirrored image, those before left and right change."""
        columns = self.flip_columns ^ self.mirrored
        if self.transposed:
            return 270 if columns else 90
        return 180 if columns else 0


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video and its best video stream, the one that FFmpeg would play; may raise `VideoError`."""
    if not path.exists():
        raise VideoError(f"{path} does not exist: check the path.")
    if path.is_dir():
        raise VideoError(f"{path} is a folder: name a video file in it.")
    if path.stat().st_size == 0:
        raise VideoError(f"{path} is empty (0 bytes): copy or download it again.")
    try:
        # An absolute path, because to FFmpeg "name:part.mp4" is a protocol.
        container = av.open(str(path.absolute()))
    except PermissionError as error:
        raise VideoError(f"{path} may not be read: give yourself read permission on it.") from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError(_why_unreadable(path)) from error
    with container:
        stream = container.streams.best("video")
        if container.format.name in _NOT_VIDEO or container.format.name.endswith("_pipe"):
            raise VideoError(f"{path} is a text or an image, not a video: leave it out or name a video file.")
        if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
            raise VideoError(f"{path} has no video stream: leave it out or name a video file.")
        if stream.codec_context is None:
            raise VideoError(f"{path} uses a video codec unknown to PyAV's FFmpeg: convert it to H.264.")
        yield container, stream


def index_packets(path: Path) -> PacketIndex:
    """Index the best video stream by reading its packets; only the first frame is decoded. May raise `VideoError`."""
    with unchanged(path, error=VideoError) as state, open_video(path) as (container, stream):
        assert state is not None
        pixel_aspect = float(stream.sample_aspect_ratio or 1)
        packets, orientation, ended_well = _read_packets(container, stream)
        if container.format.name in _WITHOUT_PTS:
            packets = [packet._replace(pts=None) for packet in packets]
        tick = float(stream.time_base or 0)
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        shown = _presented(packets)
        if not shown:
            raise VideoError(f"{path} holds no video frames: copy or download it again.")
        pts, timestamps = _times(shown, stream, rate)
        last_frame = shown[-1].duration * tick or (timestamps[-1] - timestamps[0]) / max(len(shown) - 1, 1)
        context = stream.codec_context
        return PacketIndex(
            path=path,
            timestamps=timestamps,
            pts=pts,
            key_frames=np.array([packet.key for packet in shown]),
            codec=getattr(context.codec, "canonical_name", context.name),
            container=container.format.name,
            pix_fmt=context.pix_fmt or "",
            width=context.width,
            height=context.height,
            rotation=None if orientation is None else orientation.rotation,
            mirrored=orientation is not None and orientation.mirrored,
            pixel_aspect=pixel_aspect,
            duration=float(timestamps[-1] - timestamps[0] + (last_frame or 1 / rate)),
            stated_duration=None if container.duration is None else container.duration / av.time_base,
            n_video_streams=len(container.streams.video),
            n_packets=len(packets),
            random_access=_keys_in_place(packets) and all(packet.restarts for packet in packets if packet.key),
            intact=ended_well and all(packet.intact for packet in packets),
            steady=_is_steady(packets),
            state=state,
        )


def _read_packets(container: InputContainer, stream: VideoStream) -> tuple[list[_Packet], Orientation | None, bool]:
    """All packets in file order, the first frame's orientation, and whether reading reached the end."""
    stream.codec_context.thread_count = 1
    codec, extradata = stream.codec_context.name, stream.codec_context.extradata
    packets: list[_Packet] = []
    orientation = None
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            shown, intact, restarts = _look_inside(codec, extradata, bytes(packet), packet.is_keyframe)
            packets.append(
                _Packet(
                    pts=packet.pts,
                    dts=packet.dts,
                    duration=packet.duration or 0,
                    key=packet.is_keyframe,
                    shown=shown and not packet.is_discard,
                    intact=intact and not packet.is_corrupt,
                    restarts=restarts,
                )
            )
            if orientation is None and len(packets) <= _PACKETS_TO_FIRST_FRAME:
                orientation = _first_orientation(stream, packet)
    except av.error.FFmpegError:
        return packets, orientation, False
    return packets, orientation or _first_orientation(stream, None), True


def _first_orientation(stream: VideoStream, packet: av.Packet | None) -> Orientation | None:
    """The orientation of the frame that this packet (None: the end) completes, if any."""
    try:
        frames = stream.decode(packet)
    except av.error.FFmpegError:
        return None
    return Orientation.of(frames[0]) if frames else None


def _presented(packets: list[_Packet]) -> list[_Packet]:
    """The packets that a player shows, in presentation order (in decoding order if that is not known)."""
    start = next((number for number, packet in enumerate(packets) if packet.key), 0)
    kept = [packet for packet in packets[start:] if packet.shown]
    if not kept or any(packet.pts is None for packet in kept):
        return kept
    # Frames shown before the first key frame need frames that the file does not hold: none is decoded.
    first = packets[start].pts
    return sorted((p for p in kept if first is None or (p.pts or 0) >= first), key=lambda p: p.pts or 0)


def _times(shown: list[_Packet], stream: VideoStream, rate: float) -> tuple[Int64Array | None, Float64Array]:
    """Integer time stamps, None if any is missing, and seconds."""
    base = stream.time_base
    pts = [packet.pts for packet in shown if packet.pts is not None]
    dts = sorted(packet.dts for packet in shown if packet.dts is not None)
    if base is None or len(shown) not in (len(pts), len(dts)):
        return None, np.arange(len(shown)) / rate
    complete = len(pts) == len(shown)
    ticks = np.array(pts if complete else dts, dtype=np.int64)
    # Multiplied before it is divided, as in PyAV: the results are equal to the last bit.
    return ticks if complete else None, ticks.astype(np.float64) * base.numerator / base.denominator


def _keys_in_place(packets: list[_Packet]) -> bool:
    """Whether each key frame has the same place in decoding and in presentation order (closed GOPs)."""
    if any(packet.pts is None for packet in packets):
        return False
    keys = [number for number, packet in enumerate(packets) if packet.key]
    pts = np.array([packet.pts for packet in packets], dtype=np.int64)
    latest_before = np.maximum.accumulate(pts)
    earliest_after = np.minimum.accumulate(pts[::-1])[::-1]
    return all(earliest_after[key] == pts[key] and (key == 0 or latest_before[key - 1] < pts[key]) for key in keys)


def _is_steady(packets: list[_Packet]) -> bool:
    """Whether decoding times never decrease in file order."""
    dts = [packet.dts for packet in packets if packet.dts is not None]
    return all(one <= two for one, two in pairwise(dts))


def _look_inside(codec: str, extradata: bytes | None, data: bytes, key: bool) -> tuple[bool, bool, bool]:
    """Whether a packet is shown, looks intact, and restarts decoding; for the codecs in which readers may seek.

    Source: ITU-T H.264 7.3.1 and Annex B, ISO/IEC 14496-15 5.3 (lengths in MP4), RFC 6386 9.1 (VP8), the
    VP9 bitstream specification 6.2 and Annex B.
    """
    if codec == "h264":
        kinds, intact = _h264_units(extradata, data)
        return True, intact and bool(kinds & {1, 5}), 5 in kinds
    if codec == "vp8":
        starts_key = not data[0] & 1 and data[3:6] == b"\x9d\x01\x2a"
        return bool(data[0] & 0x10), starts_key == key, starts_key
    if codec == "vp9":
        several = data[-1] & 0xE0 == 0xC0
        if data[0] & 0x30 == 0x30:  # Profile 3 has one bit more: it is not looked into, and nothing is sure.
            return True, True, False
        repeats = bool(data[0] & 0x08)
        shown = several or repeats or bool(data[0] & 0x02)
        return shown, data[0] >> 6 == 2, not repeats and not data[0] & 0x04
    return True, True, key


def _h264_units(extradata: bytes | None, data: bytes) -> tuple[set[int], bool]:
    """Kinds of the units in an H.264 packet, and whether they fill it exactly."""
    if not extradata or extradata[0] != 1:
        headers = [match[1][0] for match in _ANNEX_B_UNIT.finditer(data)]
        return {header & 31 for header in headers}, all(header < 128 for header in headers)
    n_length = (extradata[4] & 3) + 1 if len(extradata) > 4 else 4
    kinds: set[int] = set()
    at = 0
    while at + n_length < len(data):
        length = int.from_bytes(data[at : at + n_length], "big")
        header = data[at + n_length]
        if length == 0 or header >= 128:
            return kinds, False
        kinds.add(header & 31)
        at += n_length + length
    return kinds, at == len(data)


def _why_unreadable(path: Path) -> str:
    """One sentence on a file that FFmpeg refuses to open."""
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp":
        return f"{path} is cut short or damaged, its index is missing: copy, download or export it again."
    return f"{path} is not a video that FFmpeg can read: leave it out, or convert it to H.264 in MP4."
