"""A skim: parts of a video, one after the other, as an MP4 or WebM file with their sound."""

import heapq
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.codec.codec import UnknownCodecError
from av.codec.context import Flags
from av.container import InputContainer, OutputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from PIL import Image, ImageOps

from keyframe.data.container import open_video
from keyframe.data.packets import PacketIndex
from keyframe.data.reader import VideoReader
from keyframe.types import Float32Array, Float64Array, Frames, KeyframeError, VideoError


class _Kind(NamedTuple):
    """FFmpeg's names of a container and its encoders, and their options."""

    container: str
    video: str
    audio: str
    video_options: dict[str, str]
    options: dict[str, str]


_KINDS = {
    # With AVX-512, x264's macroblock tree gives other bytes each time. Without it, crf 22 looks like 20 with it.
    ".mp4": _Kind(
        "mp4",
        "libx264",
        "aac",
        {"preset": "veryfast", "crf": "22", "x264-params": "mbtree=0"},
        {"movflags": "+faststart"},  # the index in front, so that it starts to play while it loads
    ),
    ".webm": _Kind(
        "webm",
        "libvpx-vp9",
        "libopus",
        {"deadline": "realtime", "cpu-used": "8", "crf": "34", "b": "0", "g": "120"},
        {"cues_to_front": "true"},
    ),
}
# Frames at 23.976, 25, 29.97, 50, 59.94 and 119.88 per second all last a whole number of these.
_TICKS_PER_SECOND = 120_000
_FRAMES_AT_ONCE = 4

_LEAD_SECONDS = 1.0  # sound is decoded from this much before a cut: AAC and Vorbis frames depend on the one before
# Timestamps may be this wrong (Matroska rounds them to a millisecond) before samples are moved to fit them.
_DRIFT_SECONDS = 0.01


def write_skim(
    index: PacketIndex, spans: Sequence[tuple[float, float]], out: Path, reader: VideoReader, height: int | None = None
) -> None:
    """Write parts of a video, one after the other, with its sound; the file appears whole or not at all.

    By the suffix of `out`, .mp4 with H.264 and AAC or .webm with VP9 and Opus, the index in front; yuv420p, BT.709,
    even width and height, upright, square pixels. It has the shape of the video's first frame; others are put between
    bars. Frames keep their durations, so a variable frame rate stays one. The ends of a span move to the nearest start
    of a frame. Sound is cut at the same places, to the sample; mono stays mono, all else becomes stereo. If it is
    shorter than the video, the rest is silent. Memory does not grow with the length. `spans` are (start, end) in
    seconds from the first presented frame, in order and not overlapping; they may touch. Frames higher than `height`
    are made smaller.

    Raises:
        VideoError: the video cannot be opened, too many of its frames do not decode, or MP4 cannot hold its times.
        KeyframeError: this PyAV lacks an encoder.
    """
    ranges, starts = _frame_ranges(spans, index)
    kind = _KINDS[out.suffix]
    for codec in (kind.video, kind.audio):
        try:
            av.Codec(codec, "w")
        except UnknownCodecError as error:
            raise KeyframeError(
                f"{out} cannot be written because this PyAV has no {codec} encoder: install its wheel, "
                "pip install --force-reinstall --only-binary av av."
            ) from error
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".skim-", dir=out.parent) as drafts:
        draft = Path(drafts) / f"skim{out.suffix}"
        try:
            with av.open(str(draft), "w", format=kind.container, options=kind.options) as output:
                _encode(index, ranges, starts, output, kind, reader, height)
        except av.error.ArgumentError as error:
            raise VideoError(
                f"{index.path} has timestamps that an MP4 file cannot hold: set summary_video=false for it."
            ) from error
        draft.replace(out)


def _frame_ranges(
    spans: Sequence[tuple[float, float]], index: PacketIndex
) -> tuple[list[tuple[int, int]], Float64Array]:
    """First frame and one past the last of each span that holds any; starts of all frames and the end, (N + 1,)."""
    ends = np.asarray(spans, np.float64).reshape(-1, 2)
    if not np.all(np.isfinite(ends)) or np.any(ends[:, 0] >= ends[:, 1]) or np.any(ends[1:, 0] < ends[:-1, 1]):
        raise ValueError(f"spans must be in order, each start before its end, and not overlap: {list(spans)}")
    first = index.timestamps[0]
    starts = np.append(index.timestamps, first + index.duration)
    nearest = np.searchsorted((starts[1:] + starts[:-1]) / 2 - first, ends)
    ranges = [(start, stop) for start, stop in nearest.tolist() if start < stop]
    if not ranges:
        raise ValueError(f"no frame of {index.path} lies in the spans {list(spans)}")
    return ranges, starts


def _encode(
    index: PacketIndex,
    ranges: list[tuple[int, int]],
    starts: Float64Array,
    output: OutputContainer,
    kind: _Kind,
    reader: VideoReader,
    most_height: int | None,
) -> None:
    """Encode and mux video and sound in order of time, so that the muxer holds little back."""
    numbers = np.concatenate([np.arange(start, stop) for start, stop in ranges])
    lasts = starts[numbers + 1] - starts[numbers]
    begins = np.concatenate([[0.0], np.cumsum(lasts)])
    places = np.cumsum([0] + [stop - start for start, stop in ranges[:-1]])
    cuts = [_Cut(starts[a], starts[b], begins[place]) for (a, b), place in zip(ranges, places, strict=True)]
    shown, size = index.shown_size, None
    if most_height is not None and shown[0] > most_height:
        shown = size = most_height, round(shown[1] * most_height / shown[0])
    height, width = (side + side % 2 for side in shown)
    with open_video(index.path, index.stream) as (container, source):
        rate = max(Fraction(index.fps).limit_denominator(1001), Fraction(1))
        # Any, because PyAV's stubs do not know that a stream passes these on to its codec context.
        video: Any = output.add_stream(kind.video, rate=rate, options=kind.video_options)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.time_base = Fraction(1, _TICKS_PER_SECOND)
        video.codec_context.flags |= Flags.frame_duration  # Else the last frame lasts as long as an average one.
        video.codec_context.colorspace, video.codec_context.color_range = Colorspace.ITU709, ColorRange.MPEG
        mapped = reader.tone_map and "tone_map" in index.corrections
        video.codec_context.color_primaries = ColorPrimaries.BT709 if mapped else source.codec_context.color_primaries
        video.codec_context.color_trc = ColorTrc.BT709 if mapped else source.codec_context.color_trc
        decoded = reader.stream(index.path, numbers, size, index, _FRAMES_AT_ONCE)
        tracks: list[Iterator[tuple[float, Any, VideoFrame | AudioFrame]]] = [
            ((seconds, video, frame) for seconds, frame in _video_frames(decoded, begins, (width, height)))
        ]
        encoders = [video]
        streams = [stream for stream in container.streams.audio if stream.codec_context is not None]  # that decode
        marked = [stream for stream in streams if stream.disposition & Disposition.default]
        if sound := next(iter(marked or streams), None):
            samples = sound.rate if sound.rate in (av.Codec(kind.audio, "w").audio_rates or ()) else 48_000
            layout = "mono" if sound.codec_context.channels == 1 else "stereo"
            audio = output.add_stream(kind.audio, rate=samples, layout=layout)
            encoders.append(audio)
            pieces = _cut_sound(container, sound, cuts, samples, layout)
            tracks.append(((seconds, audio, frame) for seconds, frame in pieces))
        for _, encoder, frame in heapq.merge(*tracks, key=lambda item: item[0]):
            output.mux(encoder.encode(frame))
        for encoder in encoders:
            output.mux(encoder.encode(None))


def _video_frames(
    chunks: Iterator[Frames], begins: Float64Array, size: tuple[int, int]
) -> Iterator[tuple[float, VideoFrame]]:
    """Start of each frame in seconds, and the frame in yuv420p; `begins` has the end of the last one too.

    Frames of another shape than `size`, (width, height), get bars.
    """
    ticks = np.round(begins * _TICKS_PER_SECOND).astype(np.int64)
    order = np.arange(len(ticks))
    ticks = np.maximum.accumulate(ticks - order) + order  # Encoders need distinct times.
    images = (pixels for chunk in chunks for pixels in chunk.pixels)
    reformatter = VideoReformatter()  # one keeps its tables from frame to frame
    for pixels, begin, end in zip(images, ticks[:-1].tolist(), ticks[1:].tolist(), strict=True):
        rows, columns = pixels.shape[:2]
        if (columns + columns % 2, rows + rows % 2) != size:
            pixels = np.asarray(ImageOps.pad(Image.fromarray(pixels), size))
        frame = reformatter.reformat(
            VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"),
            *size,
            "yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        frame.pts, frame.duration, frame.time_base = begin, end - begin, Fraction(1, _TICKS_PER_SECOND)
        yield begin / _TICKS_PER_SECOND, frame


class _Cut(NamedTuple):
    """A part of a video: `start` and `end` on the container's clock, and its place `at` in the skim; in seconds."""

    start: float
    end: float
    at: float


def _cut_sound(
    container: InputContainer, stream: AudioStream, cuts: Sequence[_Cut], rate: int, layout: str
) -> Iterator[tuple[float, AudioFrame]]:
    """The sound of the cuts, one after the other without gap or overlap, silent where nothing decodes.

    The container is read from its current position; cuts are in order, each placed at the end of the one before, the
    first at 0. Yields the start of a piece in seconds, and the piece: "fltp", at most a second long, at `rate` samples
    per second, in FFmpeg's channel `layout`.
    """
    written = current = 0
    places = [(round(cut.start * rate), round(cut.at * rate)) for cut in cuts]
    ends = [at for _, at in places[1:]] + [round((cuts[-1].at + cuts[-1].end - cuts[-1].start) * rate)]
    n_channels = av.AudioLayout(layout).nb_channels

    def piece(samples: Float32Array) -> tuple[float, AudioFrame]:
        nonlocal written
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
        begin, written = written, written + samples.shape[1]
        frame.sample_rate, frame.pts = rate, begin
        return begin / rate, frame

    def silence(until: int) -> Iterator[tuple[float, AudioFrame]]:
        while written < until:
            yield piece(np.zeros((n_channels, min(until - written, rate)), np.float32))

    for position, samples in _resampled(_decode_sound(container, stream, cuts), rate, layout):
        for (start, at), end in zip(places[current:], ends[current:], strict=True):
            begin = at - start + position  # the number of the first sample in the skim, if the cut has it
            if begin >= end:
                current += 1
                continue
            if begin + samples.shape[1] <= at:
                break
            first, last = max(begin, at, written), min(begin + samples.shape[1], end)
            if first < last:
                yield from silence(first)
                yield piece(samples[:, first - begin : last - begin])
    yield from silence(ends[-1])


def _decode_sound(container: InputContainer, stream: AudioStream, cuts: Sequence[_Cut]) -> Iterator[AudioFrame]:
    """The audio frames in and around the cuts; packets that do not decode are left out."""
    current = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            return  # The rest of the file cannot be read.
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


def _resampled(frames: Iterator[AudioFrame], rate: int, layout: str) -> Iterator[tuple[int, Float32Array]]:
    """Samples of shape (channels, n) at the output rate, and the number of the first one on the container's clock."""
    resampler, shape, position = None, None, None
    for frame in frames:
        if resampler is None or shape != (frame.format.name, frame.layout.name, frame.sample_rate):
            resampler = AudioResampler("fltp", layout, rate)
            shape = frame.format.name, frame.layout.name, frame.sample_rate
        for block in resampler.resample(frame):
            stamp = position if block.time is None else round(block.time * rate)
            if position is None or stamp is None or abs(stamp - position) > _DRIFT_SECONDS * rate:
                position = stamp or 0
            samples = block.to_ndarray().astype(np.float32, copy=False)
            yield position, samples
            position += samples.shape[1]
