"""Strange and broken video files, each the smallest that shows its trouble, made from three short good ones."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
import numpy as np
from PIL import Image

from tests.videos import remux, write_video

Maker = Callable[[Path], object]

_OPTIONS = {"g": "8", "bf": "2", "preset": "ultrafast"}
_LOSSLESS = {"codec": "ffv1", "pix_fmt": "bgr0", "options": {}}


def small(path: Path, **changes: object) -> Path:
    """Three seconds at 64x48, unless told otherwise."""
    return write_video(path, **{"frames": 24, "size": (64, 48), "fps": 8, "options": _OPTIONS} | changes)


def _content(path: Path, suffix: str) -> bytes:
    """The bytes of a good video of another container, beside the path."""
    good = path.parent / f".good{suffix}"
    return (good if good.exists() else small(good)).read_bytes()


def cut(path: Path, start: float = 0.0, end: float = 1.0, hole: tuple[float, float] = (1.0, 1.0)) -> None:
    """A good video from one share of its bytes to another, without those of a hole in between."""
    content = _content(path, path.suffix)
    at, before, after, stop = (int(len(content) * share) for share in (start, *hole, end))
    path.write_bytes(content[at : min(before, stop)] + content[after:stop])


def patched(path: Path, box: bytes, offset: int, value: bytes) -> None:
    """A good MP4 with other bytes at an offset behind the name of a box.

    Source of the offsets: ISO/IEC 14496-12, 8.2.2 (mvhd), 8.6.1.2 (stts), 8.7.3.2 (stsz).
    """
    content = bytearray(_content(path, ".mp4"))
    at = content.index(box) + offset
    content[at : at + len(value)] = value
    path.write_bytes(content)


def unknown_codec(path: Path) -> None:
    path.write_bytes(_content(path, ".mp4").replace(b"avc1", b"zzz1").replace(b"avcC", b"zzzC"))


def copied(path: Path, **how: object) -> None:
    """The packets of a good MP4 in another container, or later."""
    _content(path, ".mp4")
    remux(path.parent / ".good.mp4", path, **how)


def two_sizes(path: Path) -> None:
    """One stream whose pictures are 64x48, then 96x80."""
    second = small(path.parent / f".second{path.suffix}", size=(96, 80), first_number=24)
    path.write_bytes(_content(path, path.suffix) + second.read_bytes())


def twice(path: Path) -> None:
    """Two recordings one behind the other: in the middle the clock starts again."""
    path.write_bytes(2 * _content(path, path.suffix))


def clock_goes_back(path: Path) -> None:
    """An FLV whose tags 8 to 15 bear times that come and go; source: Adobe's FLV specification 10.1, E.4.1."""
    content = bytearray(_content(path, ".flv"))
    at, tags = 13, 0
    while at < len(content):
        tags += content[at] == 9
        if content[at] == 9 and 8 < tags < 16:
            time = int.from_bytes(content[at + 4 : at + 7], "big")
            content[at + 4 : at + 7] = (time % 400).to_bytes(3, "big")
        at += 11 + int.from_bytes(content[at + 1 : at + 4], "big") + 4
    path.write_bytes(content)


def audio_only(path: Path) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=16000)
        stream.layout = "mono"
        for number in range(8):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, 1024 * number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def picture(path: Path) -> None:
    Image.new("RGB", (64, 48), "red").save(path, "PNG")


def text(path: Path) -> None:
    path.write_text("This is no video at all.\n" * 40)


def noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(20_000))


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def missing(path: Path) -> None:
    """Nothing."""


_NO_INDEX = "cut short or damaged, its index is missing: copy, download or export it again."
_NO_VIDEO = "is not a video that FFmpeg can read: leave it out, or convert it to H.264 in MP4."
_CLOCK = "has a clock that goes backwards, as in joined recordings: convert it"
_VERY_LONG = bytes.fromhex("7ffffff0")

# File name -> its maker, and what the sentence of refusal says after the name; None where keyframes are found.
# The clock of a video that is in order ends at 3 s.
STRANGE: dict[str, tuple[Maker, str | None]] = {
    "missing.mp4": (missing, "does not exist: check the path."),
    "empty.mp4": (Path.touch, "is empty (0 bytes): copy or download it again."),
    "text.mp4": (text, _NO_VIDEO),
    "noise.mkv": (noise, _NO_VIDEO),
    "picture.mp4": (picture, "is an image, not a video: leave it out, or name images that follow each other as"),
    "audio only.m4a": (audio_only, "has no video stream: leave it out or name a video file."),
    "unknown codec.mp4": (unknown_codec, "uses a video codec unknown to PyAV's FFmpeg: convert it to H.264."),
    "symbolic link to itself.mp4": (loop, "cannot be read"),
    "pipe.mp4": (os.mkfifo, "is a pipe or a device, not a file"),
    "truncated head.mp4": (partial(cut, start=0.3), _NO_VIDEO),
    "truncated middle.mp4": (partial(cut, hole=(0.3, 0.5)), _NO_INDEX),
    "truncated tail.mp4": (partial(cut, end=0.7), _NO_INDEX),
    "truncated head.ts": (partial(cut, start=0.3), None),
    "truncated middle.mkv": (partial(cut, hole=(0.3, 0.4)), None),
    "truncated middle.ts": (partial(cut, hole=(0.3, 0.5)), None),
    "truncated tail.mkv": (partial(cut, end=0.7), None),
    "one frame.mp4": (partial(small, frames=1), None),
    "two frames.mp4": (partial(small, frames=2), None),
    "1x1 pixels.mkv": (partial(small, size=(1, 1), **_LOSSLESS), None),
    "9000x2 pixels.mkv": (partial(small, size=(9000, 2), frames=8, **_LOSSLESS), None),
    "odd size, 4-4-4.mp4": (partial(small, size=(61, 47), pix_fmt="yuv444p"), None),
    "10 bit.mp4": (partial(small, pix_fmt="yuv420p10le"), None),
    "16 bit grey.mkv": (partial(small, **_LOSSLESS | {"pix_fmt": "gray16le"}), None),
    "interlaced.mp4": (
        partial(small, options=_OPTIONS | {"flags": "+ildct+ilme", "x264-params": "interlaced=1"}),
        None,
    ),
    "alpha.mov": (partial(small, codec="qtrle", pix_fmt="argb", options={}), None),
    "animation.gif": (partial(small, codec="gif", pix_fmt="rgb8", options={}), None),
    "no duration.mkv": (partial(copied, options={"live": "1"}), None),
    "duration of 24 days in the header.mp4": (partial(patched, box=b"mvhd", offset=20, value=_VERY_LONG), None),
    "100000 frames in the header.mp4": (
        partial(patched, box=b"stsz", offset=12, value=b"\0\1\x86\xa0"),
        "holds no video",
    ),
    "5 frames in the header.mp4": (partial(patched, box=b"stsz", offset=12, value=b"\0\0\0\5"), None),
    "frames of 36 hours.mp4": (partial(patched, box=b"stts", offset=16, value=b"\x7f\xff\xff\xff"), None),
    "an hour between frames.mkv": (partial(small, times=[0, 4, 8, 4 * 8 * 3600, 8 * 8 * 3600]), None),
    "1000 frames a second.mkv": (partial(small, fps=1000), None),
    "change of size.h264": (two_sizes, None),
    "change of size.ts": (two_sizes, _CLOCK),
    "negative times.mkv": (partial(copied, shift=-9), None),
    "negative times.mp4": (partial(copied, shift=-9), None),
    "times go back.flv": (clock_goes_back, _CLOCK),
    "times start again.ts": (twice, _CLOCK),
}

# Names that shells, Hydra, terminals, HTML or file systems may stumble over.
NAMES = {
    "leading dash and equals sign": "-key=value.mp4",
    "spaces, newline and escape sequence": "  new\nline, esc\x1b[31mape.mp4",
    "non-ASCII": "Gruße 日本 \N{CLAPPER BOARD}.mp4",
    "not UTF-8": os.fsdecode(b"not \xff\xfe UTF-8.mp4"),
    "interpolation and quotes": "${oc.env:HOME} q'uo\"te,\\.mp4",
    "pattern": "[a-z]*?.mp4",
    "HTML and formats": "<img src=x onerror=alert(1)> 100%s {}.mp4",
    "tilde": "~nobody.mp4",
    "no stem": "...mp4",
    "240 letters": "n" * 240 + ".mp4",
}


def make(folder: Path, name: str, maker: Maker) -> Path:
    """The file of that name."""
    path = folder / name
    maker(path)
    return path
