"""Videos of any length to be measured on: one piece is encoded, the rest are copies of its packets."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.video.stream import VideoStream
from scipy.fft import irfft2

from keyframe.cores import cores

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
