"""The sound of parts of a video, to the sample."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import av.error
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition

Samples = npt.NDArray[np.float32]

# Decoding starts this much before a cut: AAC and Vorbis frames lean on the one before.
_LEAD_SECONDS = 1.0
# Time stamps may be this wrong (Matroska rounds them to a millisecond) before samples are moved to fit them.
_TOLERANCE_SECONDS = 0.01


class Cut(NamedTuple):
    """A part of a video: `start` and `end` on the container's clock, and its place `at`; all in seconds."""

    start: float
    end: float
    at: float


def audio_stream(container: InputContainer) -> AudioStream | None:
    """The stream marked as the default, else the first one; None where there is no sound that can be decoded."""
    streams = [stream for stream in container.streams.audio if stream.codec_context is not None]
    return next((stream for stream in streams if stream.disposition & Disposition.default), next(iter(streams), None))


def cut_sound(
    container: InputContainer, stream: AudioStream, cuts: Sequence[Cut], rate: int, layout: str
) -> Iterator[tuple[float, AudioFrame]]:
    """The sound of the cuts, one after the other without gap or overlap.

    Where the video has no sound, or none that decodes, there is silence; so the whole is as long as the cuts.

    Args:
        container: the open file, which is read from where it stands.
        stream: of that container.
        cuts: in order, not overlapping; each placed at the end of the one before, the first at 0.
        rate: samples a second of the answer.
        layout: FFmpeg's channel layout of the answer, such as "stereo".

    Yields:
        Second at which a piece begins, and the piece: "fltp", at most a second long.
    """
    written = 0
    places = [(round(cut.start * rate), round(cut.at * rate)) for cut in cuts]
    ends = [at for _, at in places[1:]] + [round((cuts[-1].at + cuts[-1].end - cuts[-1].start) * rate)]
    current = 0
    n_channels = av.AudioLayout(layout).nb_channels

    def piece(samples: Samples) -> tuple[float, AudioFrame]:
        nonlocal written
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, written
        begin = written / rate
        written += samples.shape[1]
        return begin, frame

    def silence(until: int) -> Iterator[tuple[float, AudioFrame]]:
        while written < until:
            yield piece(np.zeros((n_channels, min(until - written, rate)), np.float32))

    for position, samples in _blocks(_decoded(container, stream, cuts), rate, layout):
        for (start, at), end in zip(places[current:], ends[current:], strict=True):
            offset = at - start  # from the source's sample numbers to ours
            if offset + position >= end:
                current += 1
                continue
            if offset + position + samples.shape[1] <= at:
                break
            first = max(offset + position, at, written)
            last = min(offset + position + samples.shape[1], end)
            if first < last:
                yield from silence(first)
                yield piece(samples[:, first - offset - position : last - offset - position])
    yield from silence(ends[-1])


def _decoded(container: InputContainer, stream: AudioStream, cuts: Sequence[Cut]) -> Iterator[AudioFrame]:
    """The frames in and around the cuts; packets that do not decode are passed over."""
    current = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            return  # What is left of the file cannot be read.
        if packet is None or not packet.size:
            return
        if packet.pts is not None and packet.time_base is not None:
            seconds = float(packet.pts * packet.time_base)
            while current < len(cuts) and seconds > cuts[current].end + _LEAD_SECONDS:
                current += 1
            if current == len(cuts):
                return
            if seconds < cuts[current].start - _LEAD_SECONDS:
                continue
        try:
            yield from stream.decode(packet)
        except av.error.FFmpegError:
            continue


def _blocks(frames: Iterator[AudioFrame], rate: int, layout: str) -> Iterator[tuple[int, Samples]]:
    """Samples of shape (channels, n) at the wanted rate, and the number of the first on the container's clock."""
    resampler, shape, position = None, None, None
    for frame in frames:
        if resampler is None or shape != (frame.format.name, frame.layout.name, frame.sample_rate):
            resampler = AudioResampler("fltp", layout, rate)
            shape = frame.format.name, frame.layout.name, frame.sample_rate
        for block in resampler.resample(frame):
            stamp = position if block.time is None else round(block.time * rate)
            if position is None or stamp is None or abs(stamp - position) > _TOLERANCE_SECONDS * rate:
                position = stamp or 0
            samples = block.to_ndarray().astype(np.float32, copy=False)
            yield position, samples
            position += samples.shape[1]
