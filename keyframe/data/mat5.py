"""MATLAB 5 files, in which SumMe shares its labels, read as data only.

Layout: MAT-file format, The MathWorks: a header of 128 bytes, then elements of type, size and content. `scipy.io` reads
them too, and crashes the process on some damaged ones (1.17 at least).
"""

import math
import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keyframe.data.hdf5 import room_for
from keyframe.files import one_line
from keyframe.types import KeyframeError

MAT5_START = b"MATLAB 5.0 MAT-file"

_HEADER = 128  # bytes
_LARGEST = 2**28  # bytes of a file; SumMe's take less than a hundredth
_MATRIX, _COMPRESSED = 14, 15  # types of elements
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMBERS = range(6, 16)  # classes of arrays: double, single, and integers
_COMPLEX = 0x800  # a flag of an array


def read_mat5(path: Path, names: Collection[str], option: str) -> dict[str, npt.NDArray[Any]]:
    """Read arrays of finite real numbers by name; what the file does not hold is left out.

    Nothing else in the file is read: no cell, structure or object. It fills no more memory than a file of its size may.
    """
    if path.stat().st_size > _LARGEST:
        raise KeyframeError(f"{path} is larger than {_LARGEST >> 20} MiB, no label file: give another as {option}")
    try:
        raw = path.read_bytes()
        order = {b"IM": "<", b"MI": ">"}.get(raw[_HEADER - 2 : _HEADER])
        if order is None:
            raise ValueError("its header is damaged")
        arrays = {}
        for matrix in _matrices(raw, order, room_for(path)):
            (_, flags), (_, dims), (_, name), *values = _elements(matrix, order, 4)
            if (text := name.decode("latin-1")) not in names:
                continue
            if not values or not flags or len(dims) % 4:
                raise ValueError(f"{text} is damaged")
            arrays[text] = _numbers(text, struct.unpack(f"{order}I", flags[:4])[0], dims, *values[0], order)
    # struct and numpy raise these on damaged files
    except (OSError, ValueError, OverflowError, MemoryError, struct.error, zlib.error) as error:
        reason = one_line(str(error)) or type(error).__name__
        raise KeyframeError(f"{path} cannot be read as MATLAB 5 ({reason}): give another file as {option}") from error
    return arrays


def _matrices(raw: bytes, order: str, room: float) -> Iterator[bytes]:
    """The content of each array of the file, of at most `room` bytes in all."""
    for kind, content in _elements(raw[_HEADER:], order):
        if kind == _COMPRESSED:
            content = zlib.decompressobj().decompress(content, int(room) + 1)
            room -= len(content)
            if room < 0:
                raise ValueError("it would fill more memory than is left for a file of this size")
            kind, content = next(_elements(content, order), (0, b""))
        if kind == _MATRIX:
            yield content


def _elements(content: bytes, order: str, most: float = math.inf) -> Iterator[tuple[int, bytes]]:
    """The first elements one after the other, type and content; ValueError if the last is cut off."""
    at = count = 0
    while at + 8 <= len(content) and count < most:
        kind, size = struct.unpack_from(f"{order}II", content, at)
        first, padding = at + 8, 0 if kind == _COMPRESSED else -size % 8
        if kind >> 16:  # a small element: its size stands beside the type
            kind, size, first, padding = kind & 0xFFFF, kind >> 16, at + 4, 4 - (kind >> 16)
        if first + size > len(content) or padding < 0:
            raise ValueError("it ends within an array")
        yield kind, content[first : first + size]
        at, count = first + size + padding, count + 1


def _numbers(name: str, flags: int, dims: bytes, kind: int, values: bytes, order: str) -> npt.NDArray[Any]:
    """An array of its flags, dimensions and values."""
    if flags & 0xFF not in _NUMBERS or flags & _COMPLEX or kind not in _TYPES:
        raise ValueError(f"{name} is no array of real numbers")
    array = np.frombuffer(values, order + _TYPES[kind])
    shape = struct.unpack(f"{order}{len(dims) // 4}i", dims)
    if min(shape, default=-1) < 0 or math.prod(shape) != array.size or len(shape) > 8:
        raise ValueError(f"{name} has {array.size} numbers, which do not fit its shape")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return array.reshape(shape, order="F")
