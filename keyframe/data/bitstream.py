"""What a coded packet says about its frame, without decoding it.

Sources: ITU-T H.264 7.3 and Annex B, ITU-T H.265 7.3 and 7.4.2.2, ITU-T H.266 7.3.1.2 and 7.4.2.2 (VVC), ISO/IEC
14496-15 (units in MP4), RFC 6386 9.1 (VP8), the VP9 bitstream specification 6.2 and Annex B, ISO/IEC 14496-2 6.2.5
(MPEG-4).
"""

import re
from typing import NamedTuple

# These give one frame for each packet, as tried; H.264, HEVC, VVC, MPEG-4, VP8 and VP9 are looked into.
_ONE_FRAME_PER_PACKET = {
    *("av1", "mpeg1video", "mpeg2video", "h263", "flv1", "msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2", "mjpeg"),
    *("prores", "dnxhd", "dvvideo", "ffv1", "huffyuv", "ffvhuff", "utvideo", "qtrle", "rawvideo", "gif", "apng", "png"),
}
_START_CODE = re.compile(rb"\x00\x00\x01(?=[\x00-\xff])")
_MPEG4_FRAME = b"\0\0\1\xb6"
# An MPEG-4 packet of fewer bytes may say that its frame is not coded.
_MPEG4_LEAST = 32
# Profiles whose sequence parameter sets name the chroma format (H.264 7.3.2.1.1).
_HIGH_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 134, 135, 138, 139}
_SLICE_HEAD = 40  # bytes of a slice that hold the start of its header, emulation prevention included


class Look(NamedTuple):
    """What a packet says."""

    shown: bool = True  # whether it holds a frame to show
    intact: bool = True  # whether it looks like what the codec says it is
    restarts: bool = False  # whether decoding can start here
    field: tuple[int, bool] | None = None  # of a picture of one field: frame number, whether it is the bottom one
    sure: bool = True  # False if only the decoder knows what becomes of it, or of the packets after it


class Bitstream:
    """Looks into packets of a stream in decoding order: parameter sets, first those of `extradata`, hold from then."""

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self.codec = codec
        self.length_bytes = 0  # of the length before each unit; 0 for start codes
        self.frame_numbers: dict[int, tuple[int, bool]] = {}  # of sequences with fields: bits, separate colour planes
        self.sequences: dict[int, int] = {}  # of pictures
        self.layers = 1  # temporal ones of HEVC, so far
        if codec in ("h264", "hevc") and extradata and extradata[0] == 1:
            place = 4 if codec == "h264" else 21
            self.length_bytes = (extradata[place] & 3) + 1 if len(extradata) > place else 4
        if codec == "vvc" and extradata and extradata[0] >> 3 == 31:
            self.length_bytes = (extradata[0] >> 1 & 3) + 1
        if codec == "h264" and extradata:
            for unit in _parameter_sets(extradata) if self.length_bytes else self._units(extradata)[0]:
                self._learn(unit)

    def look(self, data: bytes, key: bool) -> Look:
        """Look into one packet, which the container calls a key frame or not."""
        if self.codec == "h264":
            return self._h264(data)
        if self.codec == "hevc":
            return self._hevc(data, key)
        if self.codec == "vvc":
            # After the end of a sequence the next picture's leading ones are not shown (8.1.1, RASL).
            kinds = {unit[1] >> 3 for unit in self._units(data)[0] if len(unit) > 1}
            return Look(restarts=key, sure=not kinds & {21, 22})
        if self.codec == "mpeg4":
            return Look(restarts=key, sure=len(data) >= _MPEG4_LEAST and data.count(_MPEG4_FRAME) == 1)
        if self.codec == "vp8":
            starts_key = not data[0] & 1 and data[3:6] == b"\x9d\x01\x2a"
            return Look(bool(data[0] & 0x10), starts_key == key, starts_key)
        if self.codec == "vp9":
            if data[0] & 0x30 == 0x30:  # Profile 3 has one bit more: it is not looked into, and nothing is sure.
                return Look()
            several = data[-1] & 0xE0 == 0xC0
            repeats = bool(data[0] & 0x08)
            shown = several or repeats or bool(data[0] & 0x02)
            return Look(shown, data[0] >> 6 == 2, not repeats and not data[0] & 0x04)
        return Look(restarts=key, sure=self.codec in _ONE_FRAME_PER_PACKET)

    def _h264(self, data: bytes) -> Look:
        units, intact = self._units(data)
        kinds = {unit[0] & 31 for unit in units}
        fields: set[tuple[int, bool]] = set()
        for unit in units:
            if unit[0] & 31 in (7, 8):
                self._learn(unit)
            elif self.frame_numbers and unit[0] & 31 in (1, 5):
                try:
                    field = self._field(unit)
                except (KeyError, ValueError):
                    return Look(intact=False, sure=False)
                fields |= {field} if field else set()
        # Both fields of a frame may lie in one packet.
        field = fields.pop() if len(fields) == 1 else None
        return Look(True, intact and bool(kinds & {1, 5}), 5 in kinds, field)

    def _hevc(self, data: bytes, key: bool) -> Look:
        units, intact = self._units(data)
        kinds = {unit[0] >> 1 & 63 for unit in units}
        # After the end of a sequence and a broken link, leading pictures are not shown. An IRAP picture may drop
        # frames that wait to be shown (no_output_of_prior_pics_flag).
        drops = any(16 <= unit[0] >> 1 & 63 <= 23 and len(unit) > 2 and unit[2] & 0x40 for unit in units)
        self.layers = max([self.layers, *(unit[1] & 7 for unit in units if len(unit) > 1)])
        restarts = key and any(16 <= kind <= 21 for kind in kinds)
        sure = not (kinds & {16, 17, 18, 36, 37} or drops)
        return Look(True, intact and min(kinds, default=64) < 32, restarts, sure=sure)

    def _units(self, data: bytes) -> tuple[list[bytes], bool]:
        """The units in a packet, without lengths or start codes, and whether they fill it exactly."""
        if not self.length_bytes:
            starts = [match.end() for match in _START_CODE.finditer(data)]
            units = [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]
            return units, all(unit[0] < 128 for unit in units)
        units, at = [], 0
        while at + self.length_bytes < len(data):
            start = at + self.length_bytes
            at = start + int.from_bytes(data[at:start], "big")
            if at == start or data[start] >= 128:
                return units, False
            units.append(data[start:at])
        return units, at == len(data)

    def _learn(self, unit: bytes) -> None:
        """Keep what slice headers need of an H.264 parameter set; one that is damaged is no better than none."""
        bits = _Bits(unit[1:])
        try:
            if unit[0] & 31 == 8:
                picture, sequence = bits.golomb(), bits.golomb()
                self.sequences[picture] = sequence
                return
            sequence, numbering = _sequence(bits)
        except ValueError:
            return
        if numbering is None:
            self.frame_numbers.pop(sequence, None)
        else:
            self.frame_numbers[sequence] = numbering

    def _field(self, unit: bytes) -> tuple[int, bool] | None:
        """Frame number and parity of a slice of a field, None of a frame; KeyError if a parameter set is missing."""
        bits = _Bits(unit[1:_SLICE_HEAD])
        bits.golomb(), bits.golomb()  # first_mb_in_slice, slice_type
        sequence = self.sequences[bits.golomb()]
        if sequence not in self.frame_numbers:
            return None
        size, planes = self.frame_numbers[sequence]
        bits.take(2 if planes else 0)
        number = bits.take(size)
        return (number, bool(bits.take(1))) if bits.take(1) else None


class _Bits:
    """The bits of an H.264 unit; ValueError past its end."""

    def __init__(self, unit: bytes) -> None:
        content = unit.replace(b"\0\0\3", b"\0\0")  # emulation prevention (7.4.1)
        self.value, self.left = int.from_bytes(content, "big"), 8 * len(content)

    def take(self, count: int) -> int:
        """An unsigned number of that many bits."""
        self.left -= count
        if self.left < 0:
            raise ValueError("the unit is cut short")
        return self.value >> self.left & ((1 << count) - 1)

    def golomb(self) -> int:
        """An unsigned Exp-Golomb number (9.1); a signed one has as many bits."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


def _sequence(bits: _Bits) -> tuple[int, tuple[int, bool] | None]:
    """Id of a sequence parameter set; of one with fields, bits of a frame number and whether planes are separate."""
    profile = bits.take(8)
    bits.take(16)
    sequence = bits.golomb()
    planes = False
    if profile in _HIGH_PROFILES:
        chroma = bits.golomb()
        planes = chroma == 3 and bool(bits.take(1))
        bits.golomb(), bits.golomb(), bits.take(1)  # bit depths, lossless
        if bits.take(1):
            for number in range(12 if chroma == 3 else 8):
                if bits.take(1):
                    _skip_scaling_list(bits, 16 if number < 6 else 64)
    size = bits.golomb() + 4
    order = bits.golomb()
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.take(1), bits.golomb(), bits.golomb()
        for _ in range(bits.golomb()):
            bits.golomb()
    bits.golomb(), bits.take(1), bits.golomb(), bits.golomb()  # reference frames, gaps, width, height
    return sequence, None if bits.take(1) else (size, planes)


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    latest = following = 8
    for _ in range(size):
        if following:
            code = bits.golomb()
            following = (latest + (code + 1) // 2 * (1 if code % 2 else -1)) % 256
        latest = following or latest


def _parameter_sets(extradata: bytes) -> list[bytes]:
    """The parameter sets in the header of H.264 in MP4 or Matroska (ISO/IEC 14496-15 5.3.3.1)."""
    units, at = [], 5
    for mask in (31, 255):
        count = extradata[at] & mask if at < len(extradata) else 0
        at += 1
        for _ in range(count):
            length = int.from_bytes(extradata[at : at + 2], "big")
            units.append(extradata[at + 2 : at + 2 + length])
            at += 2 + length
    return [unit for unit in units if unit]
