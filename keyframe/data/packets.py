"""The packet index of a video file: its frames, found in milliseconds without decoding if its packets are sure."""

import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from keyframe.data.bitstream import Bitstream
from keyframe.data.container import decoded_frames, encrypted, listed, open_video, video_streams, why_no_frames
from keyframe.data.picture import Orientation, corrections_of, shown_size
from keyframe.files import FileState, unchanged
from keyframe.system import log_once
from keyframe.types import BoolArray, Float64Array, Int64Array, Region, VideoError

log = logging.getLogger(__name__)

# Its time stamps are FFmpeg's guess there: AVI stores none, and with H.264 B-frames the guess is wrong.
_WITHOUT_PTS = {"avi"}


@dataclass(frozen=True, eq=False)
class PacketIndex:
    """The frames of a video in presentation order, and what decides how they can be read.

    Frames are what a sequential decode gives: not what an edit list discards, VP8 reference frames without an image,
    the second field of a frame, nor leading pictures that need frames before the first key frame. If packets leave a
    doubt, the decoder has been asked. Size, rotation and pixel aspect are those of the first frame; others may follow.
    """

    path: Path
    stream: int  # number of the indexed stream among the video streams, from 0, cover images left out
    # Start of each frame in seconds on the container's own clock, (N,), not decreasing: `frame.time` of a sequential
    # PyAV decode, so the first one need not be 0. If the container stores none (AVI, raw streams): decoding times in
    # sorted order, or frame number / average rate.
    timestamps: Float64Array
    # The same in the container's ticks, (N,); None if it stores none, and frames have to be counted.
    pts: Int64Array | None
    key_frames: BoolArray  # which frames are marked as key frames, (N,); in decoding order if `pts` is None
    codec: str  # FFmpeg's name, such as "h264"
    container: str  # FFmpeg's name, such as "mov,mp4,m4a,3gp,3g2,mj2"
    pix_fmt: str  # FFmpeg's pixel format, "" if it is not known before decoding
    width: int  # of the coded image in pixels, before any rotation
    height: int
    rotation: int | None  # counterclockwise degrees, 0 to 270, by a player; None if the first frame does not decode
    mirrored: bool  # whether a player also mirrors the image
    pixel_aspect: float  # width over height of a coded pixel by the container or the codec; 1 if neither says
    corrections: tuple[str, ...]  # as of `keyframe.data.picture.corrections`
    duration: float  # end of the last frame minus start of the first, seconds
    stated_duration: float | None  # by the file's header, seconds
    n_video_streams: int  # cover images included
    choice: str  # which stream is indexed and which others there are, if there was a choice that was not made
    n_packets: int  # of the indexed stream; more than frames if some are not shown
    # Start of each frame that does not decode, for damage, and is left out, seconds on the same clock, (L,), not
    # decreasing; spread evenly if the container stores no times.
    lost: Float64Array
    # Whether decoding can start at every key frame: False for intra refresh, and for open groups but those of HEVC,
    # where no frame that is shown after a key frame needs one from before it.
    random_access: bool
    intact: bool  # whether each packet looks from the outside like what the codec says it is
    steady: bool  # whether the clock never goes back between packets, as in recordings joined byte by byte
    state: FileState  # once that of the file has changed, the index is of no use
    whole: "PacketIndex | None" = None  # the index of the whole video, if this one is `between` two times of it
    first: int = 0  # number of this index's first frame in the whole video
    region: Region | None = None  # of each frame, which readers give in place of the whole frame
    layers: int = 1  # temporal ones, of HEVC

    @property
    def n_frames(self) -> int:
        """Number of frames that a player shows."""
        return len(self.timestamps)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of a video that is read: its other streams, its damage."""
        n_lost, n_all = len(self.lost), len(self.lost) + self.n_frames
        damage = f"damaged: {n_lost} of {n_all} frames ({n_lost / n_all:.1%}) do not decode and are left out"
        return tuple(note for note in (self.choice, damage if n_lost else "") if note)

    @property
    def fps(self) -> float:
        """Average frame rate, 1 / s."""
        return self.n_frames / self.duration

    @property
    def zero(self) -> float:
        """The start of the video's first frame, from which a player counts, in seconds on the container's clock."""
        return float((self.whole or self).timestamps[0])

    def between(self, start: float | None, end: float | None) -> "PacketIndex":
        """The frames on screen from `start` to `end`, seconds from the first frame, None for the first or the last.

        Their numbers begin at 0, as if they were a video. Raises `VideoError` if there are none.
        """
        if start is None and end is None:
            return self
        times = np.append(self.timestamps, self.timestamps[0] + self.duration) - self.zero
        begin = max(0, int(np.searchsorted(times[:-1], start or 0, side="right")) - 1)
        stop = self.n_frames if end is None else int(np.searchsorted(times[:-1], end))
        if (start or 0) >= times[-1]:
            raise VideoError(
                f"{self.path} lasts {self.duration:.3f} s, so that nothing is left from start={start:g} on."
            )
        lost = self.lost - self.zero
        return replace(
            self,
            timestamps=self.timestamps[begin:stop],
            pts=None if self.pts is None else self.pts[begin:stop],
            key_frames=self.key_frames[begin:stop],
            duration=float(times[stop] - times[begin]),
            n_packets=self.n_packets - self.n_frames + stop - begin,
            lost=self.lost[(lost >= (start or -np.inf)) & (lost < (np.inf if end is None else end))],
            whole=self,
            first=begin,
        )

    @property
    def shown_size(self) -> tuple[int, int]:
        """(height, width) of the region of the first frame as a player shows it: upright, in square pixels."""
        size = shown_size(self.height, self.width, self.pixel_aspect, self.rotation in (90, 270))
        if self.region is None:
            return size
        height, width = self.region.of(np.broadcast_to(np.uint8(0), (*size, 3))).shape[:2]
        return height, width


class _Packet(NamedTuple):
    pts: int | None
    dts: int | None
    duration: int
    key: bool
    shown: bool = True  # this and what follows: as of `Look`, and by the container
    intact: bool = True
    restarts: bool = False
    field: tuple[int, bool] | None = None
    sure: bool = True


class _Start(NamedTuple):
    """The first frames that a decoder gives, in its order, up to the first one from which on all packets give one."""

    pts: list[int | None]
    frame: VideoFrame | None  # the first one
    complete: bool  # whether the last one came


def index_packets(path: Path, stream: int | None = None) -> PacketIndex:
    """Index a video stream by reading its packets, and by decoding it if these leave a doubt; may raise `VideoError`.

    Without a doubt only the first frames are decoded. `stream` is as of `open_video`; if it is None and there are
    several, `choice` names the one that is taken.
    """
    with unchanged(path, error=VideoError) as state, open_video(path, stream) as (container, video):
        assert state is not None
        streams = video_streams(container)
        number = streams.index(video)
        choice = f"stream={number} is read of {listed(streams)}" if stream is None and len(streams) > 1 else ""
        pixel_aspect = float(video.sample_aspect_ratio or 1)
        timed = container.format.name not in _WITHOUT_PTS
        codec = getattr(video.codec_context.codec, "canonical_name", video.codec_context.name)
        bits = Bitstream(codec, video.codec_context.extradata)
        packets, start, ended_well = _read_packets(path, container, video, timed, bits)
        intact = ended_well and all(packet.intact for packet in packets)
        shown, sure = _presented(packets, start)
        steady = all(one <= two for one, two in pairwise(one.dts for one in packets if one.dts is not None))
        # Some writers put decoding times in place of presentation times.
        swapped = timed and video.codec_context.has_b_frames and all(one.pts == one.dts for one in packets)
        suggested = shown
        if swapped or not (sure and intact):
            shown = _decoded_packets(path, number, timed, steady)
            if len(shown) != len(suggested):
                message = "%s: %d packets suggest %d frames, and %d decode: what decodes is taken"
                level = logging.INFO if intact or len(shown) > len(suggested) else logging.WARNING
                log_once(log, level, (path, "decoded"), message, path, len(packets), len(suggested), len(shown))
        if not shown:
            raise why_no_frames(path, len(packets))
        tick = float(video.time_base or 0)
        rate = float(video.average_rate or video.guessed_rate or 25)
        pts, timestamps = _times(shown, video, rate)
        last_frame = shown[-1].duration * tick or (timestamps[-1] - timestamps[0]) / max(len(shown) - 1, 1)
        context = video.codec_context
        orientation = None if start.frame is None else Orientation.of(start.frame)
        return PacketIndex(
            path=path,
            stream=number,
            timestamps=timestamps,
            pts=pts,
            key_frames=np.array([packet.key for packet in shown]),
            codec=codec,
            container=container.format.name,
            pix_fmt=context.pix_fmt or "",
            width=context.width,
            height=context.height,
            rotation=None if orientation is None else orientation.rotation,
            mirrored=orientation is not None and orientation.mirrored,
            pixel_aspect=pixel_aspect,
            corrections=corrections_of(context, start.frame),
            duration=float(timestamps[-1] - timestamps[0] + (last_frame or 1 / rate)),
            stated_duration=None if container.duration is None else container.duration / av.time_base,
            n_video_streams=len(container.streams.video),
            choice=choice,
            n_packets=len(packets),
            lost=np.zeros(0) if intact else _lost(suggested, shown, timestamps, tick),
            random_access=all(packet.restarts for packet in packets if packet.key)
            and (codec == "hevc" or _keys_in_place(packets)),
            intact=intact,
            steady=steady,
            state=state,
            layers=bits.layers,
        )


def _read_packets(
    path: Path, container: InputContainer, stream: VideoStream, timed: bool, bits: Bitstream
) -> tuple[list[_Packet], _Start, bool]:
    """All packets in file order, the first frames, and whether reading reached the end."""
    stream.codec_context.thread_count = 1
    packets: list[_Packet] = []
    start: list[int | None] = []
    first, key, started = None, None, False
    packet: av.Packet | None
    ended_well = False
    demuxed = container.demux(stream)
    while not ended_well:
        try:
            packet = next(demuxed, None)
        except av.error.FFmpegError:
            break
        ended_well = packet is None
        if packet is not None:
            if not packet.size:
                continue
            if packet.has_sidedata("encryption_info"):
                raise encrypted(path)
            look = bits.look(bytes(packet), packet.is_keyframe)
            pts = packet.pts if timed else None
            shown, intact = look.shown and not packet.is_discard, look.intact and not packet.is_corrupt
            packets.append(_Packet(pts, packet.dts, packet.duration or 0, packet.is_keyframe, shown, intact, *look[2:]))
            if key is None and packet.is_keyframe:
                key = packets[-1]
        if not started:
            with suppress(av.error.FFmpegError):
                for frame in stream.decode(packet):
                    pts = frame.pts if timed else None
                    first = first or frame
                    start.append(pts)
                    started = key is not None and (pts is None or key.pts is None or pts >= key.pts)
                    if started:
                        break
    return packets, _Start(start, first, started), ended_well


def _presented(packets: list[_Packet], start: _Start) -> tuple[list[_Packet], bool]:
    """The packets that a player shows, in presentation order (in decoding order if that is not known); whether sure."""
    joined, paired = _joined_fields(packets)
    sure = paired and start.complete and all(packet.sure for packet in packets[1:-1])
    first = next((number for number, packet in enumerate(joined) if packet.key), 0)
    kept = [packet for packet in joined[first:] if packet.shown]
    times = {packet.pts for packet in kept}
    if times <= {None}:
        return kept, sure and bool(kept) and first == 0 and joined[0].restarts
    by_time = {packet.pts: packet for packet in joined}
    in_order = all(two is not None and one is not None and one < two for one, two in pairwise(start.pts))
    if None in times or len(times) < len(kept) or not by_time.keys() >= set(start.pts) or not in_order:
        return kept, False
    # What precedes the first key frame in time decodes or not, as the decoder has shown.
    rest = [packet for packet in kept if not start.pts or (packet.pts or 0) > (start.pts[-1] or 0)]
    return [by_time[pts] for pts in start.pts] + sorted(rest, key=lambda packet: packet.pts or 0), sure


def _decoded_packets(path: Path, number: int, timed: bool, steady: bool) -> list[_Packet]:
    """The frames that decode, in presentation order, as if each were a packet."""
    with open_video(path, number) as (container, stream):
        # With more, an error in one decoding thread takes finished frames of the others with it.
        stream.codec_context.thread_count = 1
        found = [
            _Packet(frame.pts if timed else None, frame.dts, frame.duration, bool(frame.key_frame))
            for frame in decoded_frames(container, stream)
        ]
    times = [frame.pts for frame in found if frame.pts is not None]
    if len(times) < len(found) or times == sorted(times):
        return found
    if steady:  # These were decoding times: in order they are right, but no frame has its own.
        return [frame._replace(pts=None, dts=frame.pts) for frame in found]
    return sorted(found, key=lambda frame: frame.pts or 0)


def _joined_fields(packets: list[_Packet]) -> tuple[list[_Packet], bool]:
    """The packets of frames, of which two packets of fields make one; and whether each field has its other one.

    A second field follows the first at once, with the same frame number and the other parity (ITU-T H.264 7.4.1.2.4).
    """
    joined: list[_Packet] = []
    whole = True
    waits = None
    for packet in packets:
        if waits is not None and packet.field == (waits[0], not waits[1]):
            one = joined.pop()
            begin, middle = (one.dts, packet.dts) if packet.pts is None else (one.pts, packet.pts)
            lasts = 0 if begin is None or middle is None else 2 * (middle - begin)
            joined.append(one._replace(duration=max(lasts, one.duration), intact=one.intact and packet.intact))
            waits = None
            continue
        whole = whole and waits is None
        waits = packet.field
        joined.append(packet)
    return joined, whole and waits is None


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


def _lost(suggested: list[_Packet], shown: list[_Packet], timestamps: Float64Array, tick: float) -> Float64Array:
    """Seconds of the frames that packets suggest and that do not decode, rising."""
    known = {packet.pts for packet in shown}
    missing = sorted(packet.pts for packet in suggested if packet.pts is not None and packet.pts not in known)
    n_lost = max(0, len(suggested) - len(shown))
    if len(missing) == n_lost:
        return np.array(missing, np.float64) * tick
    return np.linspace(timestamps[0], timestamps[-1], n_lost)


def _keys_in_place(packets: list[_Packet]) -> bool:
    """Whether each key frame has the same place in decoding and in presentation order (closed GOPs)."""
    if any(packet.pts is None for packet in packets):
        return False
    keys = [number for number, packet in enumerate(packets) if packet.key]
    pts = np.array([packet.pts for packet in packets], dtype=np.int64)
    latest, earliest_after = np.maximum.accumulate(pts), np.minimum.accumulate(pts[::-1])[::-1]
    return all(earliest_after[key] == pts[key] and (key == 0 or latest[key - 1] < pts[key]) for key in keys)
