"""Field-coded H.264 (PAFF), which no encoder of PyAV writes: two packets a frame, each macroblock as plain samples."""

from pathlib import Path

import av

# Of a frame that says for itself (ITU-T H.264 7.3.2.1.1): Main profile, frame numbers of 4 bits, order of output as
# decoded, 1 reference frame, 16x32 samples, fields allowed.
_SEQUENCE = "0100110100000000000111101101101001100100"
_PICTURE = "1100111000111000"


def _unit(header: int, bits: str, samples: bytes = b"") -> bytes:
    """A unit with its start code; after samples only the stop bit is left."""
    bits += "" if samples else "1"
    bits += "0" * (-len(bits) % 8)
    return (
        b"\0\0\0\1" + bytes([header]) + int(bits, 2).to_bytes(len(bits) // 8, "big") + samples + b"\x80" * bool(samples)
    )


def _field(frame: int, bottom: bool, luma: int) -> bytes:
    idr = frame == 0 and not bottom
    start = "100010001" + f"{frame % 16:04b}" + "1" + f"{int(bottom)}"
    marking = "100" if idr else "0"
    # slice_qp_delta 0, mb_type 25 (I_PCM, 7.3.5)
    return _unit(0x65 if idr else 0x21, start + marking + "1" + "000011010", bytes([luma] * 256 + [128] * 128))


def write_fields(path: Path, frames: int = 12, fps: int = 25) -> Path:
    """A video of flat grey frames, frame i of luma 40 + 8 i; each field is a packet."""
    raw = path.with_suffix(".264")
    fields = [_field(number, bottom, 40 + 8 * number) for number in range(frames) for bottom in (False, True)]
    raw.write_bytes(_unit(0x67, _SEQUENCE) + _unit(0x68, _PICTURE) + b"".join(fields))
    if path.suffix == ".264":
        return path
    with av.open(str(raw)) as old, av.open(str(path), "w") as new:
        template = old.streams.video[0]
        stream = new.add_stream_from_template(template)
        packets = [packet for packet in old.demux(template) if packet.size]
        for number, packet in enumerate(packets):
            packet.stream = stream
            packet.time_base = template.time_base
            packet.pts = packet.dts = round(number / (2 * fps) / template.time_base)
            packet.duration = round(1 / (2 * fps) / template.time_base)
            new.mux(packet)
    return path
