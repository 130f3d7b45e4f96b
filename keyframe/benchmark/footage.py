"""Videos of any length to be measured on: one piece is encoded, the rest are copies of its packets.

Any number of videos, all different to whoever compares files, for the price of one.

Labelled footage to train on: four minutes a video, annotators made up.

Labelled videos without pictures: what evaluation sees of a video once it is decoded.
"""

import json
import struct
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.video.stream import VideoStream
from scipy.fft import irfft2

from keyframe.data.labels import read_tvsum_tsv, write_tsv
from keyframe.evaluation.video import picks
from keyframe.files import write_text
from keyframe.summary.describe import Look, look
from keyframe.system import cores
from keyframe.types import FloatArray, KeyframeError, LabelledVideo, Labels

_PIECE_S = 40
_SHOTS_S = (2, 3, 5, 7, 4, 6, 3, 10)  # of a piece
_GRAIN = 6  # noise of the sensor, levels of 255
_FALL = 1.6  # detail falls as 1 / frequency ** this
_FORMAT = 3  # raised when the same values would give another video


@dataclass(frozen=True)
class Footage:
    """H.264 in mp4 with B-frames, as cameras and web sites give it; equal values give equal videos.

    Attributes:
        seconds: length, a multiple of 40.
        width: of the picture in pixels.
        height: of the picture in pixels.
        rate: frames a second.
        key_every: frames from one key frame to the next; x264's own choice is 250.
        seed: other seeds give other pictures.

    Raises:
        ValueError: if a piece of 40 s does not divide into the length, or groups of pictures into a piece.
    """

    seconds: int = 240
    width: int = 640
    height: int = 360
    rate: int = 25
    key_every: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seconds < 1 or self.seconds % _PIECE_S or (_PIECE_S * self.rate) % self.key_every:
            raise ValueError(f"{self} must be whole pieces of {_PIECE_S} s, and they whole groups of pictures")

    @property
    def name(self) -> str:
        """Of the file, without its suffix."""
        size = f"{self.width}x{self.height}"
        return f"footage-v{_FORMAT}-{size}-{self.seconds}s-{self.rate}fps-gop{self.key_every}-seed{self.seed}"

    def write(self, directory: Path) -> Path:
        """Make the file in a directory, unless it is there; it appears whole or not at all.

        Returns:
            The file.
        """
        path = directory / f"{self.name}.mp4"
        if path.is_file():
            return path
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{self.name}-", dir=directory) as drafts:
            piece, draft = Path(drafts) / "piece.mp4", Path(drafts) / "whole.mp4"
            self._encode(piece)
            repeat(piece, draft, self.seconds // _PIECE_S)
            draft.rename(path)
        return path

    def _encode(self, path: Path) -> None:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=self.rate)
            stream.width, stream.height, stream.pix_fmt = self.width, self.height, "yuv420p"
            group = str(self.key_every)
            stream.options = {"preset": "veryfast", "crf": "23", "g": group, "keyint_min": group, "sc_threshold": "0"}
            stream.codec_context.thread_count = cores()
            for picture in self._pictures():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))

    def _pictures(self) -> Iterator[npt.NDArray[np.uint8]]:
        """A piece: shots of a camera that drifts over a landscape of its own, under the noise of its sensor.

        Fall and grain are set so that at 640x360 a key frame takes an eighth of a byte a pixel, and all of it half a
        megabit a second, as ordinary clips of this size do.
        """
        rng = np.random.default_rng(self.seed)
        grain = rng.integers(-_GRAIN, _GRAIN + 1, (2 * self.height, 2 * self.width, 1), np.int16).astype(np.uint8)
        grain = np.repeat(grain, 3, axis=2)
        for seconds in _SHOTS_S:
            scene = _landscape(rng, 2 * self.height, 2 * self.width)
            frames = seconds * self.rate
            start, end = rng.uniform(0, 1, (2, 2)) * (self.height, self.width)
            for place in np.linspace(start, end, frames).astype(int):
                noise = grain[tuple(slice(at, at + n) for at, n in zip(*_corner(rng, self), strict=True))]
                view = scene[place[0] : place[0] + self.height, place[1] : place[1] + self.width]
                yield view + noise  # a landscape leaves room, and bytes wrap: no overflow


def repeat(piece: Path, path: Path, times: int) -> None:
    """Copy a video's packets several times, one after the other, into a new file; nothing is decoded.

    Args:
        piece: of constant frame rate, its first frame at time 0.
        path: the new file.
        times: at least 1.
    """
    with av.open(str(path), "w") as target:
        copy: VideoStream | None = None
        for number in range(times):
            with av.open(str(piece)) as source:
                stream = source.streams.video[0]
                copy = copy or target.add_stream_from_template(stream)
                assert stream.time_base is not None and stream.average_rate is not None
                length = Fraction(stream.frames) / stream.average_rate
                for packet in source.demux(stream):
                    if packet.dts is None or packet.pts is None:
                        continue
                    shift = round(number * length / stream.time_base)
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, copy
                    target.mux(packet)


def _corner(rng: np.random.Generator, footage: Footage) -> tuple[tuple[int, int], tuple[int, int]]:
    """Where the grain of a picture begins, and its size."""
    height, width = footage.height, footage.width
    return (int(rng.integers(height)), int(rng.integers(width))), (height, width)


def _landscape(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.uint8]:
    """A picture in its own tint whose detail falls with its frequency, as in natural pictures (Field, 1987)."""
    distance = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    distance[0, 0] = np.inf
    layers = []
    for _ in range(3):
        phases = np.exp(2j * np.pi * rng.random(distance.shape))
        layer = irfft2(phases / distance**_FALL, (height, width), workers=cores())
        layers.append(layer / layer.std())
    grey = np.stack([layers[0] + 0.3 * layer for layer in layers], axis=-1)
    return (rng.uniform(60, 190, 3) + 45 * grey).clip(_GRAIN, 255 - _GRAIN).astype(np.uint8)


def write_clips(footage: Footage, directory: Path) -> list[Path]:
    """Cut footage into clips of one group of pictures each, by copying packets.

    Args:
        footage: made in the directory where it is missing; its groups are the clips.
        directory: the clips go into a folder of it.

    Returns:
        The clips, in order of time.
    """
    video = footage.write(directory)
    place = directory / f"{footage.name}-clips"
    place.mkdir(exist_ok=True)
    clips: list[Path] = []
    with av.open(str(video)) as source:
        stream = source.streams.video[0]
        packets = [packet for packet in source.demux(stream) if packet.dts is not None]
        starts = [number for number, packet in enumerate(packets) if packet.is_keyframe]
        for start, end in zip(starts, [*starts[1:], len(packets)], strict=True):
            clips.append(place / f"{len(clips):04}.mp4")
            origin = packets[start].pts
            assert origin is not None
            with av.open(str(clips[-1]), "w") as target:
                copy = target.add_stream_from_template(stream)
                for packet in packets[start:end]:
                    assert packet.pts is not None and packet.dts is not None
                    packet.pts, packet.dts, packet.stream = packet.pts - origin, packet.dts - origin, copy
                    target.mux(packet)
    return clips


def write_copies(clips: Sequence[Path], directory: Path, count: int) -> list[Path]:
    """Copies of clips in turn, each with its number in a box at the end that players skip (ISO/IEC 14496-12, 8.1.2).

    Args:
        clips: mp4 files.
        directory: made where it is missing.
        count: how many.

    Returns:
        The copies; no two hold the same bytes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    contents = [clip.read_bytes() for clip in clips]
    copies = []
    for number in range(count):
        copies.append(directory / f"video {number + 1}.mp4")
        copies[-1].write_bytes(contents[number % len(clips)] + struct.pack(">I4sQ", 16, b"free", number))
    return copies


_ANNOTATORS = 20
_HELD_S = 2  # as TVSum's labels


@dataclass(frozen=True)
class TrainData:
    """So many videos to train on, and a few more to validate and to test.

    All show the same, which changes no cost: they are copies that differ in a number at the end of the file, so that
    to a cache each is another video. Their labels differ.

    Args:
        footage: the folder in which the footage is kept; one that is there is not made again.
        videos: to train on.
        seconds: length of each, a multiple of 40.
        width: of a picture in pixels.
        height: of a picture in pixels.
        seed: of the pictures and the labels.
        held_out: videos to validate, and as many to test.
    """

    footage: Path
    videos: int
    seconds: int
    width: int
    height: int
    seed: int
    held_out: int = 1

    def write(self, directory: Path) -> None:
        """Make the videos, their `labels.tsv` and `splits.json` in a directory.

        Raises:
            KeyframeError: they cannot be as long, or as large, as asked; or cannot be written.
        """
        try:
            original = Footage(self.seconds, self.width, self.height, seed=self.seed)
        except ValueError as error:
            raise KeyframeError(f"train.seconds={self.seconds} must be a multiple of 40.") from error
        try:
            path = original.write(self.footage)
        except OSError as error:
            raise KeyframeError(f"footage={self.footage} cannot be written ({error.strerror}).") from error
        ids = [copy.stem for copy in write_copies([path], directory, self.videos + 2 * self.held_out)]
        rng = np.random.default_rng(self.seed)
        steps, held = self.seconds // _HELD_S, _HELD_S * original.rate
        opinions = {id_: np.repeat(rng.integers(1, 6, (_ANNOTATORS, steps)), held, axis=1) for id_ in ids}
        write_tsv(directory / "labels.tsv", opinions)
        splits = {f"{part}_keys": keys for part, keys in self._parts(ids).items()}
        write_text(directory / "splits.json", json.dumps([splits]))

    def videos_of(self, directory: Path) -> dict[str, list[LabelledVideo]]:
        """The videos of each split, as `write` has made them in a directory."""
        labels = read_tvsum_tsv(directory / "labels.tsv")
        videos = {id_: LabelledVideo(id_, directory / f"{id_}.mp4", labels[id_]) for id_ in labels}
        return {part: [videos[key] for key in keys] for part, keys in self._parts(list(labels)).items()}

    def _parts(self, ids: list[str]) -> dict[str, list[str]]:
        return {
            "train": ids[: self.videos],
            "val": ids[self.videos : self.videos + self.held_out],
            "test": ids[self.videos + self.held_out :],
        }


_RATE = 30.0  # frames a second
_HELD = 60  # frames that a label is held: 2 s, as TVSum's were given
_SHOT = 10.0  # picks a shot on average: 5 s


@dataclass(frozen=True)
class SyntheticVideo:
    """A video as evaluation holds it.

    Attributes:
        id: its name.
        labels: its annotators' scores 1 ... 5, in [0, 1], each held for 2 s; L frames.
        look: its picks, constant in each shot but for noise.
        seconds: the picks' times at 30 frames a second, (n,).
        scores: a model's scores at the picks, in [0, 1], (n,), better than chance.
    """

    id: str
    labels: Labels
    look: Look
    seconds: FloatArray
    scores: npt.NDArray[np.float32]


def synthetic_video(number: int, frames: int, annotators: int, seed: int) -> SyntheticVideo:
    """The same video at every call with the same arguments.

    Args:
        number: tells the videos of one seed apart, not negative.
        frames: L, at least 1.
        annotators: A, at least 1.
        seed: not negative.
    """
    rng = np.random.default_rng([seed, number])
    entries = picks(frames)
    count = len(entries)
    shot = np.cumsum(rng.random(count) < 1 / _SHOT, dtype=np.int64)
    matters = rng.normal(size=shot[-1] + 1)

    blocks = -(-frames // _HELD)
    at_block = matters[shot[np.minimum(np.arange(blocks) * _HELD // 15, count - 1)]]
    opinions = 2.5 + 0.7 * at_block + rng.normal(size=(annotators, blocks))
    held = np.repeat(opinions.round().clip(1, 5), _HELD, axis=1)[:, :frames]
    tracks = ((held - 1) / 4).astype(np.float32)

    scores = 1 / (1 + np.exp(-matters[shot] - rng.normal(size=count)))
    return SyntheticVideo(
        id=f"video_{number + 1:03}",
        labels=Labels(tracks.mean(axis=0), tracks),
        look=_look(shot, rng),
        seconds=entries / _RATE,
        scores=scores.astype(np.float32),
    )


def _look(shot: npt.NDArray[np.int64], rng: np.random.Generator) -> Look:
    """Looks of picks that differ little within a shot: their product is about .99 there, .8 between shots."""
    size = look(np.zeros((1, 4, 4, 3), dtype=np.uint8)).descriptors.shape[1]
    kinds = rng.gamma(1.0, size=(shot[-1] + 1, size)) + 0.7
    rows = np.abs(kinds[shot] + 0.2 * rng.normal(size=(len(shot), size)))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Look(
        rows.astype(np.float32),
        rng.gamma(2.0, 0.01, size=len(shot)).astype(np.float32),
        rng.uniform(0.2, 0.8, size=len(shot)).astype(np.float32),
        rng.uniform(0.1, 0.3, size=len(shot)).astype(np.float32),
    )
