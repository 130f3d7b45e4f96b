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
        upper, lower = (grey[int(height * row) - 1 : int(height * row) + 1, columns].mean() for row in (0.625, 0.875))
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


def remux(source: Path, path: Path, *, drop: int = 0, shift: int = 0, options: dict[str, str] | None = None) -> Path:
    """Copy a video's packets without the first `drop`, `shift` frames later, and return the copy's path.

    Times below zero end up in MP4 as an edit list that hides the frames before zero.
    """
    options = {"avoid_negative_ts": "disabled"} | (options or {})
    with av.open(str(source)) as old, av.open(str(path), "w", options=options) as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        ticks = int(shift / stream.average_rate / stream.time_base)
        for number, packet in enumerate(old.demux(stream)):
            if packet.size and number >= drop:
                packet.pts += ticks
                packet.dts = None if packet.dts is None else packet.dts + ticks
                packet.stream = copy
                new.mux(packet)
    return path


def packet_places(path: Path) -> list[tuple[int, int]]:
    """Where each packet of the first video stream lies in the file, in decoding order: (offset, size) in bytes."""
    content = path.read_bytes()
    with av.open(str(path)) as container:
        return [(content.index(bytes(packet)), packet.size) for packet in container.demux(video=0) if packet.size]


def overwrite(path: Path, places: Sequence[tuple[int, int]]) -> Path:
    """Fill these places of a file with zeros, in place, and return its path."""
    content = bytearray(path.read_bytes())
    for offset, size in places:
        content[offset : offset + size] = bytes(size)
    path.write_bytes(content)
    return path


N_FRAMES = 48
GOP = {"g": "12", "bf": "2"}
_X264_OPEN = {"x264-params": "open-gop=1:keyint=12:bframes=3:b-adapt=0:scenecut=0"}
_X264_REFRESH = {"x264-params": "intra-refresh=1:keyint=12:bframes=2"}
_VPX = {"g": "12", "deadline": "realtime", "cpu-used": "8"}
_UNEVEN = np.cumsum(np.random.default_rng(0).integers(1, 9, N_FRAMES)).tolist()

# Every sort of video that readers are tried on: file name -> what `write_video` takes. N_FRAMES frames each.
KINDS: dict[str, dict[str, Any]] = {
    "plain.mp4": {"options": GOP},
    "long_gop.mp4": {"options": {"g": "250", "bf": "3"}},
    "every_frame_key.mp4": {"options": {"g": "1"}},
    "matroska.mkv": {"options": GOP},
    "quicktime.mov": {"options": GOP},
    "uneven.mp4": {"options": GOP, "times": _UNEVEN},
    "uneven.mkv": {"options": GOP, "times": _UNEVEN},
    "late_start.mp4": {"options": GOP, "times": [40 + 4 * number for number in range(N_FRAMES)]},
    "vp8.webm": {"codec": "libvpx", "options": _VPX | {"b": "400k"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": _VPX},
    "odd_size.mp4": {"options": GOP, "size": (161, 97), "pix_fmt": "yuv444p"},
    "open_gop.mp4": {"options": _X264_OPEN},
    "open_gop.mkv": {"options": _X264_OPEN},
    "intra_refresh.mp4": {"options": _X264_REFRESH},
    "ten_bit.mp4": {"options": GOP, "pix_fmt": "yuv420p10le"},
    "two_streams.mp4": {"options": GOP, "video_streams": 2},
    "transport.ts": {"options": GOP},
    "flash.flv": {"options": GOP},
    "raw.h264": {"options": GOP},
    "h264.avi": {"options": GOP},
    "mpeg4.avi": {"codec": "mpeg4", "options": GOP},
    "mpeg4.mp4": {"codec": "mpeg4", "options": GOP},
    "mpeg2.ts": {"codec": "mpeg2video", "options": GOP},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "keyint=12:bframes=3:log-level=none:pools=1"}},
    "rotated_90.mp4": {"options": GOP, "rotation": 90},
    "rotated_180.mp4": {"options": GOP, "rotation": 180},
    "rotated_270.mov": {"options": GOP, "rotation": 270},
    "mirrored.mp4": {"options": GOP, "flips": (True, False)},
    "upside_down.mp4": {"options": GOP, "flips": (False, True)},
    "turned_and_mirrored.mp4": {"options": GOP, "rotation": 90, "flips": (True, False)},
}
# File name -> what is copied, and how: the frames left start at number `first`.
COPIES: dict[str, dict[str, Any]] = {
    "edit_list.mp4": {"source": "plain.mp4", "shift": -9, "first": 9},
    "edit_list_one_gop.mp4": {"source": "long_gop.mp4", "shift": -9, "first": 9},
    "fragmented.mp4": {"source": "plain.mp4", "options": {"movflags": "frag_keyframe+empty_moov"}, "first": 0},
    "live.mkv": {"source": "plain.mp4", "options": {"live": "1"}, "first": 0},
    "no_key_first.mp4": {"source": "plain.mp4", "drop": 5, "first": 12},
    "no_key_first.ts": {"source": "transport.ts", "drop": 5, "first": 12},
    "open_gop_cut.mp4": {"source": "open_gop.mp4", "drop": 12, "first": 24},
}
CAN_ROTATE = hasattr(av.VideoStream, "set_display_rotation")


def build(name: str, folder: Path) -> Path:
    """The video of that name from `KINDS` or `COPIES`, written to `folder` unless it is there already."""
    path = folder / name
    if not path.exists():
        if name in KINDS:
            write_video(path, **{"frames": N_FRAMES} | KINDS[name])
        else:
            recipe = {key: value for key, value in COPIES[name].items() if key not in {"source", "first"}}
            remux(build(COPIES[name]["source"], folder), path, **recipe)
    return path


def first_number(name: str) -> int:
    """The number that the first presented frame of `build(name, ...)` carries."""
    return COPIES[name]["first"] if name in COPIES else 0


CLIPS = Path(__file__).parents[2] / "shared" / "clips"
