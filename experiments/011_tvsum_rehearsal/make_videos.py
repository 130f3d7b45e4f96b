"""Write 50 stand-ins for TVSum's videos: the true ids, frame counts and frame rates, and pictures that mean nothing.

    python experiments/011_tvsum_rehearsal/make_videos.py ydata-tvsum50.mat DIR

writes DIR/videos/<id>.mp4, 640x360 H.264. Of each video 40 s are drawn, shots of a camera that drifts over a landscape;
the rest repeats their packets. Nothing in them is taken from the labels but the length.
"""

import shutil
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import h5py
import numpy as np
from av.packet import Packet

from keyframe.benchmark.footage import landscape
from keyframe.data.labels import read_labels
from keyframe.types import UInt8Array

WIDTH, HEIGHT = 640, 360
DRAWN = 40  # seconds
RATES = (Fraction(24000, 1001), Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30))


def frame_rates(labels: Path) -> list[Fraction]:
    """The usual rate nearest to frames over seconds of each video, in the order of the official file, (50,)."""
    with h5py.File(labels) as file:
        fields = ([file[place][()].item() for place in file["tvsum50"][name][:, 0]] for name in ("nframes", "length"))
        frames, seconds = fields
    return [min(RATES, key=lambda rate: abs(float(rate) - n / s)) for n, s in zip(frames, seconds, strict=True)]


def frames_of(seed: int, count: int) -> Iterator[UInt8Array]:
    """Frames of shots of 2 to 10 s, uint8 (360, 640, 3)."""
    rng = np.random.default_rng(seed)
    while count > 0:
        scene, length = landscape(rng, 2 * HEIGHT, 2 * WIDTH), min(count, int(rng.integers(50, 300)))
        start, end = rng.uniform(0.3, 0.7, (2, 2)) * (HEIGHT, WIDTH)
        for top, left in np.linspace(start, end, length).astype(int):
            yield np.ascontiguousarray(scene[top : top + HEIGHT, left : left + WIDTH])
        count -= length


def write_video(path: Path, frames: int, rate: Fraction, seed: int) -> None:
    """Write a video of so many frames."""
    packets: list[Packet] = []
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        # without B-frames the packets may end anywhere
        stream.options = {"preset": "ultrafast", "crf": "23", "bf": "0"}
        stream.codec_context.thread_count = 1
        for image in frames_of(seed, min(frames, DRAWN * round(rate))):
            packets += stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24"))
        packets += stream.encode(None)
        contents = [(bytes(packet), packet.is_keyframe) for packet in packets]
        for number in range(frames):
            content, key = contents[number % len(contents)]
            packet = Packet(content)
            packet.stream, packet.time_base, packet.is_keyframe = stream, 1 / rate, key
            packet.pts = packet.dts = number
            packet.duration = 1
            container.mux(packet)


def main(labels: Path, directory: Path) -> None:
    """Write those that are not there."""
    (directory / "videos").mkdir(parents=True, exist_ok=True)
    for seed, ((id_, one), rate) in enumerate(zip(read_labels(labels).items(), frame_rates(labels), strict=True)):
        path = directory / "videos" / f"{id_}.mp4"
        if not path.exists():
            draft = directory / "draft.mp4"
            write_video(draft, len(one), rate, seed)
            shutil.move(draft, path)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
