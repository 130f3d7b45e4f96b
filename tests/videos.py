"""Small videos for tests, written with PyAV: every frame carries its own number as a readable bar code.

The lower half of a frame holds `N_BITS` columns: a column is one bit, light or dark, and below it the
opposite shade, so that a blurred, mixed or missing code is noticed and not read as some other number. The
upper half holds colour bars that move by one step a frame, under a little seeded noise.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

N_BITS = 10
BARS = np.array(
    [
        [235, 235, 235],
        [200, 30, 30],
        [30, 190, 30],
        [40, 40, 200],
        [190, 190, 30],
        [30, 180, 180],
        [20, 20, 20],
    ]
)
Pixels = npt.NDArray[np.uint8]


def draw_frame(number: int, size: tuple[int, int], seed: int = 0) -> Pixels:
    """One RGB picture of `size` = (width, height), shape (height, width, 3), that carries `number`."""
    width, height = size
    column = np.arange(width)
    noise = np.random.default_rng((seed, number)).integers(-8, 9, (height, width, 1))
    picture = np.empty((height, width, 3), np.int64)
    picture[:] = BARS[(column * len(BARS) // width + number) % len(BARS)]
    bits = (number >> (column * N_BITS // width)) & 1
    half, quarter = height // 2, height - height // 4
    picture[half:quarter] = (40 + 170 * bits)[:, None]
    picture[quarter:] = (40 + 170 * (1 - bits))[:, None]
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def read_frame_number(pixels: Pixels) -> int:
    """The number that a picture of any size carries.

    Raises:
        ValueError: where a bit and its opposite do not stand clear of each other.
    """
    height, width = pixels.shape[:2]
    grey = pixels.mean(axis=-1)
    number = 0
    for bit in range(N_BITS):
        centre = (bit + 0.5) * width / N_BITS
        columns = slice(int(centre - 0.15 * width / N_BITS), int(centre + 0.15 * width / N_BITS) + 1)
        upper, lower = (
            grey[int(height * row) - 1 : int(height * row) + 1, columns].mean() for row in (0.625, 0.875)
        )
        if abs(upper - lower) < 70:
            raise ValueError(f"bit {bit} is unreadable: {upper:.0f} above {lower:.0f}")
        number |= int(upper > lower) << bit
    return number


def write_video(
    path: Path,
    *,
    frames: int = 30,
    size: tuple[int, int] = (160, 96),
    fps: int | Fraction = 25,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    times: Sequence[int] | None = None,
    rotation: int = 0,
    flips: tuple[bool, bool] = (False, False),
    container: str | None = None,
    colour: dict[str, int] | None = None,
    first_number: int = 0,
    video_streams: int = 1,
    seed: int = 0,
) -> Path:
    """Write a video whose upright pictures are `draw_frame(first_number + i, size)` and return its path.

    Args:
        path: file to write.
        frames: number of frames.
        size: (width, height) of the upright picture.
        fps: frame rate; the time base is one frame, or 1 / (4 fps) where `times` is given.
        codec: FFmpeg encoder name.
        options: encoder options.
        pix_fmt: pixel format of the coded pictures.
        times: presentation time of each frame in quarters of a frame: a variable frame rate.
        rotation: counterclockwise degrees that a player has to turn the coded pictures by.
        flips: (left-right, top-bottom) mirroring that a player has to do after the rotation.
        container: FFmpeg muxer name where the suffix does not tell.
        colour: `colorspace` and `color_range` (FFmpeg numbers) to convert to and to tag the stream with.
        first_number: number that the first frame carries.
        video_streams: more than one writes streams that carry other numbers.
        seed: of the noise.
    """
    if times is not None:
        frames = len(times)
    with av.open(str(path), "w", format=container) as output:
        streams = []
        for _ in range(video_streams):
            stream: Any = output.add_stream(codec, rate=Fraction(fps), options=options or {})
            turned = rotation % 180 != 0
            stream.width, stream.height = size[::-1] if turned else size
            stream.pix_fmt = pix_fmt
            stream.codec_context.thread_count = 1
            if times is not None:
                stream.codec_context.time_base = 1 / (4 * Fraction(fps))
            if rotation or any(flips):
                stream.set_display_rotation(rotation, *flips)
            for name, value in (colour or {}).items():
                setattr(stream.codec_context, name, value)
            streams.append(stream)
        for number in range(frames):
            for which, stream in enumerate(streams):
                upright = draw_frame(first_number + number + 500 * which, size, seed)
                unflipped = upright[:: -1 if flips[1] else 1, :: -1 if flips[0] else 1]
                coded = np.ascontiguousarray(np.rot90(unflipped, -rotation // 90))
                frame = av.VideoFrame.from_ndarray(coded, format="rgb24")
                if colour:
                    frame = frame.reformat(
                        format=pix_fmt,
                        dst_colorspace=colour.get("colorspace"),
                        dst_color_range=colour.get("color_range"),
                    )
                frame.pts = number if times is None else times[number]
                frame.time_base = 1 / Fraction(fps) if times is None else 1 / (4 * Fraction(fps))
                output.mux(stream.encode(frame))
        for stream in streams:
            output.mux(stream.encode(None))
    return path
