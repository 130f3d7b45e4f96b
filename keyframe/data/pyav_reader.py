"""The default reader: PyAV, which decodes no frame that no wanted one needs."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Literal

import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from keyframe.data.container import decoded_frames, open_video
from keyframe.data.packets import PacketIndex
from keyframe.data.picture import Moment, Painter, moments
from keyframe.data.reader import Pieces, Size, Sizes, VideoReader, gather_sizes, key_frame_groups, why_not_seek
from keyframe.files import unchanged
from keyframe.types import Frames, Int64Array, UInt8Array, VideoError

_WORTH_A_SEEK = 32  # frames; reading the packets of fewer costs less than a seek
_SHORT_GROUP = 60  # frames from a key frame to the next; what is lost without the loop filter adds up in more


class PyAVReader(VideoReader):
    """Reads frames of anything that FFmpeg decodes, on any platform; see `VideoReader` for contract and arguments.

    It knows each frame by its time stamp. If key frames are sure (`why_not_seek`), it decodes from the key frame before
    each wanted frame, bit by bit as a full decode; else, or if a wanted frame does not come out so, every frame from
    the start. Without time stamps (AVI, raw streams) it counts the decoded frames. The display matrix is applied.
    """

    _rough = False

    def roughly(self) -> "PyAVReader":
        """This reader without H.264's loop filter, where images then differ by about one level of 255 on average.

        It is left out of all frames if key frames follow each other closely, and else of B-frames, which hardly any
        other frame needs. HEVC's differ more without it.
        """
        reader = copy.copy(self)
        reader.progress, reader._rough = self.progress, True
        return reader

    def _pieces(self, path: Path, wanted: Int64Array, sizes: Sizes, index: PacketIndex, chunk: int) -> Iterator[Pieces]:
        with open_video(path, index.stream) as (container, stream):
            if self._rough:
                stream.codec_context.options = {"skip_loop_filter": _unfiltered(index)}
            painters = [Painter(stream, size, self.tone_map) for size in sizes]
            found = self._found(container, stream, index, np.unique(wanted))
            painted = ((number, [painter(moment) for painter in painters]) for number, moment in found)
            yield from gather_sizes(painted, len(sizes), wanted, index, chunk, self.max_missing)

    def stream_best(
        self, groups: Sequence[Int64Array], size: Size, best: Callable[[UInt8Array], int], index: PacketIndex
    ) -> Iterator[Frames]:
        """As of `VideoReader`, but each frame is decoded once: those of a group are held until one is chosen."""
        whole = index.whole or index
        if whole.region or index.region or not whole.intact or not groups:
            yield from super().stream_best(groups, size, best, index)
            return
        pieces = self._best_pieces(groups, size, best, index)
        n_given = 0
        with unchanged(index.path, index.state, VideoError):
            for (piece,) in self._watched(((piece,) for piece in pieces), groups[-1][-1:], index):
                n_given += 1
                yield piece
        if n_given < len(groups):  # A frame did not decode.
            yield from super().stream_best(groups[n_given:], size, best, index)

    def _best_pieces(
        self, groups: Sequence[Int64Array], size: Size, best: Callable[[UInt8Array], int], index: PacketIndex
    ) -> Iterator[Frames]:
        """The best frame of each group, up to a group of which one does not decode."""
        whole = index.whole or index
        with open_video(whole.path, whole.stream) as (container, stream):
            small, full = Painter(stream, size, self.tone_map), Painter(stream, None, self.tone_map)
            found = self._found(container, stream, whole, np.concatenate(groups) + index.first)
            for group in groups:
                held = list(islice(found, len(group)))
                if [number - index.first for number, _ in held] != group.tolist():
                    return
                place = best(np.stack([small(moment) for _, moment in held])) if len(held) > 1 else 0
                chosen = group[place : place + 1]
                yield Frames(full(held[place][1])[None], index.timestamps[chosen], chosen)

    def _found(
        self, container: InputContainer, stream: VideoStream, index: PacketIndex, distinct: Int64Array
    ) -> Iterator[tuple[int, Moment]]:
        """For each frame of an increasing row, the number and the moment of the one that is shown for it."""
        # An error in one decoding thread takes finished frames of the others with it.
        threads = self.threads if index.intact else 1
        stream.codec_context.thread_count = threads
        if threads != 1:
            stream.codec_context.thread_type = "AUTO"
        if why_not_seek(index) is None:
            needed = distinct
            if self.deinterlace and "deinterlace" in index.corrections:
                needed = np.unique(np.add.outer((-1, 0, 1), distinct).clip(0, index.n_frames - 1))
            frames = _wanted_frames(container, stream, index, needed)
        else:
            frames = _numbered_frames(container, stream, index)
        return _nearest(moments(frames, self.deinterlace), distinct)


def _unfiltered(index: PacketIndex) -> str:
    """The frames that a rough reading does not filter, as FFmpeg's `skip_loop_filter` names them."""
    if index.codec != "h264":
        return "default"
    longest = np.diff(np.flatnonzero(index.key_frames), prepend=0, append=index.n_frames).max()
    return "all" if longest <= _SHORT_GROUP else "bidir"


def _nearest(frames: Iterator[tuple[int, Moment]], wanted: Int64Array) -> Iterator[tuple[int, Moment]]:
    """For each wanted number the frame that bears it, else the latest before it, else the next after it."""
    if not len(wanted):
        return
    place = 0
    latest = None
    for number, frame in frames:
        while place < len(wanted) and wanted[place] <= number:
            yield latest if latest is not None and wanted[place] < number else (number, frame)
            place += 1
        if place == len(wanted):
            return
        latest = number, frame
    if latest is not None:
        for _ in wanted[place:]:
            yield latest


def _wanted_frames(
    container: InputContainer, stream: VideoStream, index: PacketIndex, wanted: Int64Array
) -> Iterator[tuple[int, VideoFrame]]:
    """The wanted frames with their numbers, group of pictures by group; from one that does not come on, all frames."""
    keys = np.flatnonzero(index.key_frames)
    latest = -1
    for group in key_frame_groups(wanted, keys) if len(wanted) else []:
        start = int(keys[np.searchsorted(keys, group[0], side="right") - 1])
        # HEVC's leading frames come after the next key frame, which then has been read.
        if start > latest + _WORTH_A_SEEK or (index.codec == "hevc" and latest >= 0):
            _seek(container, stream, index, start)
        for number, frame in _frames_of_group(container, stream, index, start, group):
            latest = number
            yield number, frame
        if latest != group[-1]:
            _seek(container, stream, index, 0)
            stream.codec_context.skip_frame = "DEFAULT"
            yield from (found for found in _numbered_frames(container, stream, index) if found[0] > latest)
            return


def _frames_of_group(
    container: InputContainer, stream: VideoStream, index: PacketIndex, start: int, group: Int64Array
) -> Iterator[tuple[int, VideoFrame]]:
    """Wanted frames of the group from key frame `start`, in order; it ends before the first that does not come."""
    assert index.pts is not None
    first = int(index.pts[start])
    numbers = dict(zip(index.pts[group].tolist(), group.tolist(), strict=True))
    expected, to_feed = iter(numbers), set(numbers)
    # FFmpeg skips unread what no frame needs: of nal_ref_idc 0 (ITU-T H.264, 7.4.1), or sub-layer non-reference
    # pictures (H.265, 7.4.2.2), which only those of higher layers may need.
    spares = index.codec == "h264" or (index.codec == "hevc" and index.layers == 1)
    droppable: Literal["NONREF", "DEFAULT"] = "NONREF" if spares else "DEFAULT"
    decoding = False
    with suppress(av.error.FFmpegError):
        for packet in container.demux(stream):
            if not packet.size:
                return  # The end of the file, before all was fed.
            if not decoding and packet.pts != first:
                if packet.is_keyframe and (packet.pts is None or packet.pts > first):
                    return  # Not where the index says.
                continue
            decoding = True
            stream.codec_context.skip_frame = "DEFAULT" if packet.pts in to_feed else droppable
            to_feed.discard(packet.pts)
            frames = stream.decode(packet)
            if not to_feed:
                frames += stream.decode(None)  # What the decoder holds back.
                stream.codec_context.flush_buffers()
            for frame in frames:
                if frame.pts in numbers:
                    if frame.pts != next(expected, None):
                        return
                    yield numbers[frame.pts], frame
            if not to_feed:
                return


def _seek(container: InputContainer, stream: VideoStream, index: PacketIndex, number: int) -> None:
    """Go to a key frame, or stay if FFmpeg cannot."""
    if index.pts is not None:
        with suppress(av.error.FFmpegError):
            container.seek(int(index.pts[number]), stream=stream)


def _numbered_frames(
    container: InputContainer, stream: VideoStream, index: PacketIndex
) -> Iterator[tuple[int, VideoFrame]]:
    """The frames that decode, each with its number in the index; frames unknown to the index are left out."""
    number = -1
    for frame in decoded_frames(container, stream):
        if index.pts is None:
            number += 1
            if number < index.n_frames:
                yield number, frame
        elif frame.pts is not None:
            # Frames come in order: of several with one time stamp it is the first not passed yet.
            found = max(int(np.searchsorted(index.pts, frame.pts)), number + 1)
            if found < index.n_frames and index.pts[found] == frame.pts:
                number = found
                yield number, frame
