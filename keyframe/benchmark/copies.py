"""Any number of videos, all different to whoever compares files, for the price of one."""

import struct
from collections.abc import Sequence
from pathlib import Path

import av

from keyframe.benchmark.footage import Footage


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
