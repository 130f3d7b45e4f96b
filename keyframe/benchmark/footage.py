"""What the suites measure on: videos of any length, labelled videos to train on, and videos as evaluation sees them."""

import os
import struct
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from scipy.fft import irfft2

from keyframe.data.labels import read_tvsum_tsv, write_tsv
from keyframe.data.splits import Split
from keyframe.evaluation.video import picks
from keyframe.files import make_folder
from keyframe.summary.describe import Appearance, describe_frames
from keyframe.system import cores
from keyframe.types import Float32Array, FloatArray, Int64Array, LabelledVideo, Labels, UInt8Array

_PIECE_S = 40
_SHOTS_S = (2, 3, 5, 7, 4, 6, 3, 10)  # of a piece
N_SCENES = len(_SHOTS_S)
_GRAIN = 6  # sensor noise, levels of 255
_FALL = 1.6  # detail falls as 1 / frequency ** this
_FORMAT = 3  # raised when the same values would give another video
# Options of an encoder, with {0} for the frames of a group.
_ENCODERS = {
    "libx264": {"preset": "veryfast", "crf": "23", "g": "{0}", "keyint_min": "{0}", "sc_threshold": "0"},
    "libx265": {
        "preset": "ultrafast",
        "crf": "26",
        "x265-params": "keyint={0}:min-keyint={0}:scenecut=0:open-gop=0:log-level=none",
    },
    "libsvtav1": {"preset": "12", "crf": "40", "g": "{0}"},
}


@dataclass(frozen=True)
class Footage:
    """Video in mp4, by default H.264 with B-frames; equal values give equal videos.

    One piece of 40 s is encoded; the rest are copies of its packets.
    """

    seconds: int = 240  # a multiple of 40
    width: int = 640
    height: int = 360
    rate: int = 25  # frames per second
    key_every: int = 250  # frames from one key frame to the next, a divisor of those of a piece
    seed: int = 0
    encoder: str = "libx264"  # one of FFmpeg's names in `_ENCODERS`

    def __post_init__(self) -> None:
        if self.encoder not in _ENCODERS:
            raise ValueError(f"encoder must be one of {', '.join(_ENCODERS)}, not {self.encoder}")
        if self.seconds < 1 or self.seconds % _PIECE_S:
            raise ValueError(f"seconds must be a multiple of {_PIECE_S}, not {self.seconds}")
        if (_PIECE_S * self.rate) % self.key_every:
            raise ValueError(f"key_every must divide {_PIECE_S * self.rate} frames, not be {self.key_every}")

    @property
    def name(self) -> str:
        """The file's stem."""
        size = f"{self.width}x{self.height}"
        size += "" if self.encoder == "libx264" else f"-{self.encoder}"
        return f"footage-v{_FORMAT}-{size}-{self.seconds}s-{self.rate}fps-gop{self.key_every}-seed{self.seed}"

    @staticmethod
    def scenes(seconds: Sequence[float]) -> set[int]:
        """Which of the `N_SCENES` distinct scenes are seen at these seconds."""
        at = np.asarray(seconds, np.float64) % _PIECE_S
        return set(np.searchsorted(np.cumsum(_SHOTS_S), at, side="right").tolist())

    def write(self, directory: Path) -> Path:
        """Write the file into a directory, unless it is there, whole or not at all, and return its path."""
        path = directory / f"{self.name}.mp4"
        if path.is_file():
            return path
        make_folder(directory)
        with tempfile.TemporaryDirectory(prefix=f".{self.name}-", dir=directory) as drafts:
            piece, draft = Path(drafts) / "piece.mp4", Path(drafts) / "whole.mp4"
            self._encode(piece)
            with av.open(str(piece)) as source:
                stream = source.streams.video[0]
                assert stream.time_base is not None and stream.average_rate is not None
                length = Fraction(stream.frames) / stream.average_rate / stream.time_base
                _copy_packets(_repeated(piece, self.seconds // _PIECE_S, length), stream, draft)
            draft.rename(path)
        return path

    def _encode(self, path: Path) -> None:
        with av.open(str(path), "w") as container:
            os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 writes to stderr by itself: errors alone
            stream = container.add_stream(self.encoder, rate=self.rate)
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = self.width, self.height, "yuv420p"
            options = _ENCODERS[self.encoder]
            stream.options = {key: value.format(self.key_every) for key, value in options.items()}
            stream.codec_context.thread_count = cores()
            for frame in self._frames():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))

    def _frames(self) -> Iterator[UInt8Array]:
        """A piece: shots of a camera that drifts over a landscape, under the noise of its sensor."""
        rng = np.random.default_rng(self.seed)
        height, width = self.height, self.width
        grain = rng.integers(-_GRAIN, _GRAIN + 1, (2 * height, 2 * width, 1), np.int16).astype(np.uint8)
        grain = np.repeat(grain, 3, axis=2)
        for seconds in _SHOTS_S:
            scene = landscape(rng, 2 * height, 2 * width)
            start, end = rng.uniform(0, 1, (2, 2)) * (height, width)
            for top, left in np.linspace(start, end, seconds * self.rate).astype(int):
                row, column = int(rng.integers(height)), int(rng.integers(width))
                noise = grain[row : row + height, column : column + width]
                # a landscape leaves room, and bytes wrap: no overflow
                yield scene[top : top + height, left : left + width] + noise


def landscape(rng: np.random.Generator, height: int, width: int) -> UInt8Array:
    """An image in its own tint whose detail falls with its frequency, as in natural images (Field, 1987)."""
    distance = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    distance[0, 0] = np.inf
    layers = []
    for _ in range(3):
        phases = np.exp(2j * np.pi * rng.random(distance.shape))
        layer = irfft2(phases / distance**_FALL, (height, width), workers=cores())
        layers.append(layer / layer.std())
    grey = np.stack([layers[0] + 0.3 * layer for layer in layers], axis=-1)
    return (rng.uniform(60, 190, 3) + 45 * grey).clip(_GRAIN, 255 - _GRAIN).astype(np.uint8)


def _repeated(piece: Path, times: int, length: Fraction) -> Iterator[tuple[Packet, int]]:
    """The packets of a video several times, each with the ticks to add to its times; nothing is decoded."""
    for number in range(times):
        with av.open(str(piece)) as source:
            for packet in source.demux(video=0):
                yield packet, round(number * length)


def _copy_packets(packets: Iterable[tuple[Packet, int]], template: VideoStream, path: Path) -> None:
    """Write packets of a stream into a new file, each with ticks added to its times."""
    with av.open(str(path), "w") as target:
        copy = target.add_stream_from_template(template, opaque=True)  # its decoder need not have an encoder
        for packet, shift in packets:
            if packet.dts is not None and packet.pts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, copy
                target.mux(packet)


def write_clips(footage: Footage, directory: Path) -> list[Path]:
    """Cut footage into clips of one group of frames each, in order of time, in a folder of the directory."""
    video = footage.write(directory)
    place = directory / f"{footage.name}-clips"
    place.mkdir(exist_ok=True)
    clips: list[Path] = []
    with av.open(str(video)) as source:
        stream = source.streams.video[0]
        packets = [packet for packet in source.demux(stream) if packet.pts is not None]
        starts = [number for number, packet in enumerate(packets) if packet.is_keyframe]
        for start, end in zip(starts, [*starts[1:], len(packets)], strict=True):
            clips.append(place / f"{len(clips):04}.mp4")
            origin = packets[start].pts or 0
            _copy_packets(((packet, -origin) for packet in packets[start:end]), stream, clips[-1])
    return clips


def write_copies(clips: Sequence[Path], directory: Path, count: int) -> list[Path]:
    """Write copies of mp4 clips in turn, numbered in a box at the end that players skip (ISO/IEC 14496-12, 8.1.2)."""
    directory.mkdir(parents=True, exist_ok=True)
    contents = [clip.read_bytes() for clip in clips]
    copies = [directory / f"video {number + 1}.mp4" for number in range(count)]
    for number, copy in enumerate(copies):
        copy.write_bytes(contents[number % len(clips)] + struct.pack(">I4sQ", 16, b"free", number))
    return copies


_ANNOTATORS = 20
_HELD_S = 2  # seconds that a label is held, as in TVSum


@dataclass(frozen=True)
class TrainData:
    """Videos to train on, and a few more to validate and to test.

    All are copies of one, with different bytes, so that a cache takes each for another video. Their labels differ.
    """

    footage: Footage
    directory: Path  # where the footage is kept
    videos: int  # to train on
    held_out: int = 1  # to validate, and as many to test

    def write(self, directory: Path) -> dict[str, list[LabelledVideo]]:
        """Write the videos, their `labels.tsv` and `splits.json` into a directory; return the videos of each split."""
        path = self.footage.write(self.directory)
        ids = [copy.stem for copy in write_copies([path], directory, self.videos + 2 * self.held_out)]
        rng = np.random.default_rng(self.footage.seed)
        steps, held = self.footage.seconds // _HELD_S, _HELD_S * self.footage.rate
        opinions = {id_: np.repeat(rng.integers(1, 6, (_ANNOTATORS, steps)), held, axis=1) for id_ in ids}
        write_tsv(directory / "labels.tsv", opinions)
        validated = self.videos + self.held_out
        parts = {"train": ids[: self.videos], "val": ids[self.videos : validated], "test": ids[validated:]}
        Split(*map(tuple, parts.values())).write(directory / "splits.json")
        labels = read_tvsum_tsv(directory / "labels.tsv")
        videos = {id_: LabelledVideo(id_, directory / f"{id_}.mp4", labels[id_]) for id_ in ids}
        return {part: [videos[key] for key in keys] for part, keys in parts.items()}


@dataclass(frozen=True)
class SyntheticVideo:
    """A video as evaluation sees it once it is decoded and scored; it has no pixels."""

    id: str
    labels: Labels  # of L frames at 30 per second, each score held for 2 s
    appearance: Appearance  # of the picks, constant in each shot but for noise
    seconds: FloatArray  # of the picks, (n,)
    scores: Float32Array  # a model's at the picks, in [0, 1], (n,), better than chance


def synthetic_video(number: int, frames: int, annotators: int, seed: int) -> SyntheticVideo:
    """Generate a video of L frames, the same at every call; `number` distinguishes the videos of one seed."""
    rate, shot_picks = 30, 10.0  # frames per second; picks per shot, 5 s on average
    rng = np.random.default_rng([seed, number])
    entries = picks(frames)
    count = len(entries)
    shot = np.cumsum(rng.random(count) < 1 / shot_picks, dtype=np.int64)
    matters = rng.normal(size=shot[-1] + 1)

    held = rate * _HELD_S
    blocks = -(-frames // held)
    at_block = matters[shot[np.minimum(np.arange(blocks) * held // 15, count - 1)]]
    opinions = 2.5 + 0.7 * at_block + rng.normal(size=(annotators, blocks))
    tracks = ((np.repeat(opinions.round().clip(1, 5), held, axis=1)[:, :frames] - 1) / 4).astype(np.float32)

    scores = 1 / (1 + np.exp(-matters[shot] - rng.normal(size=count)))
    return SyntheticVideo(
        id=f"video_{number + 1:03}",
        labels=Labels(tracks.mean(axis=0), tracks),
        appearance=_synthetic_appearance(shot, rng),
        seconds=entries / rate,
        scores=scores.astype(np.float32),
    )


def _synthetic_appearance(shot: Int64Array, rng: np.random.Generator) -> Appearance:
    """The appearance of picks that differ little within a shot: their product is about .99 there, .8 between shots."""
    size = describe_frames(np.zeros((1, 4, 4, 3), dtype=np.uint8)).descriptors.shape[1]
    kinds = rng.gamma(1.0, size=(shot[-1] + 1, size)) + 0.7
    rows = np.abs(kinds[shot] + 0.2 * rng.normal(size=(len(shot), size)))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Appearance(
        rows.astype(np.float32),
        rng.gamma(2.0, 0.01, size=len(shot)).astype(np.float32),
        rng.uniform(0.2, 0.8, size=len(shot)).astype(np.float32),
        rng.uniform(0.1, 0.3, size=len(shot)).astype(np.float32),
    )
