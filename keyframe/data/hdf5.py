"""HDF5 files of the field: how they are read as data only, TVSum's official order, and eccv16-style names and scores.

An eccv16-style file (Zhang et al., Video summarization with LSTM, ECCV 2016, as spread by Zhou et al., AAAI 2018) has
one group per video, `video_1`, `video_2` ..., with arrays whose dtypes and shapes differ from file to file. In TVSum's,
`video_N` is the N-th video of the official annotation (Song, Vallmitjana, Stent, Jaimes: TVSum: Summarizing web videos
using titles, CVPR 2015, release 1.1), which `tvsum50.tsv` lists; published splits use it too.
"""

import math
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from h5py import h5d, h5pl, h5t, h5z

from keyframe.files import natural_key, reading
from keyframe.system import available_bytes
from keyframe.types import AnyArray, Float64Array, Int64Array, KeyframeError

_TVSUM = [line.split("\t") for line in Path(__file__).with_name("tvsum50.tsv").read_text("utf-8").splitlines()]

# By YouTube id, in the official order: the category, one of VT VU GA MS PK PR FM BK BT DS, and the frames of the video,
# the length of its labels.
TVSUM_CATEGORIES: dict[str, str] = {name: category for name, category, _ in _TVSUM}
TVSUM_FRAMES: dict[str, int] = {name: int(n_frames) for name, _, n_frames in _TVSUM}
TVSUM_IDS: tuple[str, ...] = tuple(TVSUM_CATEGORIES)  # entry N - 1 is `video_N`
_OFFICIAL = {f"video_{number}": name for number, name in enumerate(TVSUM_IDS, start=1)}
# Feature files know frame numbers, not times; the field takes 30 frames per second and a pick every 15th.
USUAL_RATE, _STEP = 30.0, 15
# What the arrays of a file may take in memory: some, and a multiple of the file. gzip shrinks constant values to a
# thousandth, but a whole file of labels at most to a fiftieth (TVSum's own).
_ROOM, _RATIO = 2**24, 200
_PIECE = 2**24  # bytes that are searched at once
_MAX_TEXT = 1000  # characters of an id or a category


def official_id(key: str) -> str | None:
    """The YouTube id of the benchmark's `video_1` ... `video_50`; None for any other key."""
    return _OFFICIAL.get(key)


def data_set_named(text: str) -> str | None:
    """The data set that a file name contains, `tvsum`, `summe`, `ovp`, `youtube` or `hisum`: each has a `video_1`."""
    return next((name for name in ("tvsum", "summe", "ovp", "youtube", "hisum") if name in text.lower()), None)


def checked_id(name: str, where: str) -> str:
    """A video's id as a file has it; KeyframeError if it is empty, too long, or holds control characters."""
    if not 0 < len(name) <= _MAX_TEXT or any(unicodedata.category(char) in ("Cc", "Cs") for char in name):
        raise KeyframeError(
            f"{where}: the id {name[:40]!a} is empty, longer than {_MAX_TEXT} characters, or holds control characters: "
            "give the video a plain name"
        )
    return name


def room_for(path: Path) -> float:
    """The bytes of memory that the arrays of a file may fill."""
    free = available_bytes()
    return min(_ROOM + _RATIO * path.stat().st_size, math.inf if free is None else free)


class Hdf5File:
    """An open HDF5 file whose members are looked at before they are read.

    HDF5 lets a file name other files (links, external storage, virtual datasets), libraries that decompress it, and
    arrays of any size. Here a file is data: it holds its values itself, loads no library, and takes no more memory
    than a file of its size can hold and the machine has free. A place is a path in the file, `video_1/picks`, or an
    object reference.
    """

    def __init__(self, path: Path, file: h5py.File, option: str) -> None:
        self.path, self.option = path, option
        self._file = file
        # Videos are read one after the other, and finding a group costs as much as reading a small array.
        self._latest: tuple[str, h5py.Group | h5py.Dataset | None] = "", None
        self._room = room_for(path)
        self._unread: float = _ROOM + _RATIO * path.stat().st_size

    def __iter__(self) -> Iterator[str]:
        return iter(self._file)

    def __contains__(self, place: str) -> bool:
        return self._member(place) is not None

    def shape(self, place: str | h5py.Reference) -> tuple[int, ...]:
        """The shape of an array, which is not read."""
        return tuple(self._dataset(place).shape)

    def numbers(self, place: str | h5py.Reference, dtype: type[np.number]) -> AnyArray:
        """Read an array of numbers as `dtype`; those to be read as whole numbers must be finite."""
        found = self._dataset(place)
        kinds = (h5t.INTEGER, h5t.FLOAT, h5t.ENUM)
        if found.id.get_type().get_class() not in kinds or found.dtype.kind not in "biuf":
            raise self.refused(place, "holds no numbers")
        values = np.asarray(self._read(place, found, np.dtype(dtype).itemsize))
        if np.issubdtype(dtype, np.integer) and not (np.abs(values.astype(np.float64)) < 2**53).all():
            raise self.refused(place, "holds no whole numbers")
        return values.astype(dtype)

    def text(self, place: str | h5py.Reference) -> str:
        """Read a text of UTF-8, or of MATLAB's UTF-16 codes."""
        found = self._dataset(place)
        length, of_texts = math.prod(found.shape), found.id.get_type().get_class() == h5t.STRING
        if length <= (1 if of_texts else _MAX_TEXT) and (of_texts or found.dtype == np.uint16):
            values = np.ravel(self._read(place, found))
            with suppress(UnicodeDecodeError):
                return bytes(values[0]).decode() if of_texts else values.astype("<u2").tobytes().decode("utf-16-le")
        raise self.refused(place, "is not text")

    def references(self, place: str) -> list[h5py.Reference]:
        """Read an array of references to arrays in this file."""
        found = self._dataset(place)
        if h5py.check_ref_dtype(found.dtype) is not h5py.Reference:
            raise self.refused(place, "holds no references")
        return list(np.ravel(self._read(place, found)))

    def claim(self, place: str | h5py.Reference, size: float) -> None:
        """Take that many bytes from what the file may fill; KeyframeError if there is no such room."""
        self._room -= size
        self._check_room(place, size, self._room)

    def claim_later(self, place: str, size: float) -> None:
        """Check that such a file may hold that many bytes more, and that there is room for them alone."""
        self._unread -= size
        self._check_room(place, size, min(self._unread, self._room - size))

    def _check_room(self, place: str | h5py.Reference, size: float, left: float) -> None:
        if left < 0:
            raise self.refused(
                place,
                f"would fill {size:.2g} bytes of memory, more than is left for a file of this size or free on this "
                "machine",
            )

    def refused(self, place: str | h5py.Reference, reason: str) -> KeyframeError:
        """The error of a member that cannot be used."""
        name = f"/{place}" if isinstance(place, str) else "an array behind a reference"
        return KeyframeError(f"{self.path}: {name} {reason}: give another file as {self.option}")

    def _member(self, place: str) -> h5py.Group | h5py.Dataset | None:
        parent, _, name = place.rpartition("/")
        if parent and parent != self._latest[0]:
            self._latest = parent, self._member(parent)
        here = self._latest[1] if parent else self._file
        if not isinstance(here, h5py.Group) or (link := here.get(name, getlink=True)) is None:
            return None
        # A soft link may lead to an external one.
        if not isinstance(link, h5py.HardLink):
            raise self.refused(place, "is a link to another place, and links are not followed")
        return here[name]

    def _dataset(self, place: str | h5py.Reference) -> h5py.Dataset:
        """The array at a place, after all that can be known without reading it has been checked."""
        found = self._member(place) if isinstance(place, str) else self._file[place]
        if not isinstance(found, h5py.Dataset):
            name = f"/{place}" if isinstance(place, str) else "an array that it refers to"
            raise KeyframeError(f"{self.path} lacks the dataset {name}: give the official file as {self.option}")
        # Even the shape of a virtual dataset is looked up in other files.
        made = found.id.get_create_plist()
        if made.get_layout() == h5d.VIRTUAL or made.get_external_count():
            raise self.refused(place, "takes its values from other files, which are not read")
        for number in range(made.get_nfilters()):
            if not h5z.filter_avail(made.get_filter(number)[0]):
                raise self.refused(place, "is compressed by a plugin, not by gzip, and plugins are not loaded")
        if found.shape is None:
            raise self.refused(place, "is empty")
        return found

    def _read(self, place: str | h5py.Reference, found: h5py.Dataset, itemsize: int = 1) -> Any:
        """The values of an array, once there is room for them, `itemsize` bytes each or as many as in the file."""
        values = max(math.prod(found.shape), math.prod(found.chunks or ()))
        self.claim(place, values * max(itemsize, found.id.get_type().get_size()))
        return found[()]


@contextmanager
def open_hdf5(path: Path, option: str, checked: bool = False) -> Iterator[Hdf5File]:
    """Open an HDF5 file for reading; what is wrong in it, also within the block, is a KeyframeError.

    `checked` spares reading all of a file that has not changed since it was opened before.
    """
    if not path.is_file():
        raise KeyframeError(f"there is no file {path}: set {option} to the file")
    remedy = ", or save it with MATLAB's -v7.3" if path.suffix.lower() == ".mat" else ""
    with reading(path, "HDF5", f"copy the file again{remedy}"):
        if not checked:
            _check_heaps(path)
        with _no_plugins(), h5py.File(path, "r") as file:
            yield Hdf5File(path, file, option)


def _check_heaps(path: Path) -> None:
    """Refuse a file whose heaps lead HDF5 in a circle: it would never end, or fill the memory, and not be interrupted.

    HDF5 (2.0 at least) follows sizes in collections of texts, `GCOL`, and free blocks of names, `HEAP`, without looking
    whether it gets on. Layouts: HDF5 file format specification 3.0, III.D and III.E.
    """
    # Not mapped: each page that is looked at would bring its neighbours, gigabytes over the groups of a large file.
    with path.open("rb") as file, path.open("rb") as content:
        length = path.stat().st_size

        def text(at: int, count: int) -> bytes:
            content.seek(at)
            return content.read(count)

        def number(at: int, count: int = 8) -> int:
            return int.from_bytes(text(at, count), "little")

        places = (0, *(2**power for power in range(9, length.bit_length())))
        start = next((at for at in places if text(at, 8) == b"\x89HDF\r\n\x1a\n"), None)
        if start is None:
            raise ValueError("it has no HDF5 signature")
        if text(start + (13 if number(start + 8, 1) < 2 else 9), 2) != b"\x08\x08":
            raise ValueError("its addresses are not of 8 bytes")
        left = length // 16  # steps: every text and every free block takes 16 bytes at least
        for at, mark in _marked(file, (b"GCOL\x01", b"HEAP\x00")):
            size = number(at + 8)
            if mark == b"GCOL\x01":
                place, end = at + 16, at + size
                while place + 16 <= end <= length:
                    size, left = number(place + 8), left - 1
                    step = -(-size // 8) * 8 + 16 if number(place, 2) else size
                    if not 16 <= step <= end - place or left < 0:
                        raise ValueError(f"a collection of texts at byte {at} is damaged")
                    place += step
                continue
            block, values = number(at + 16), start + number(at + 24)
            while block + 16 <= size and values + size <= length:
                block, left = number(values + block), left - 1
                if left < 0:
                    raise ValueError(f"the free blocks of the names at byte {at} are damaged")


def _marked(file: BinaryIO, marks: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    """Where marks of 5 bytes stand in a file."""
    start, text = 0, b""
    file.seek(0)
    while piece := file.read(_PIECE):
        text = text[-4:] + piece
        for mark in marks:
            at = -1
            while (at := text.find(mark, at + 1)) >= 0:
                yield start - (len(text) - len(piece)) + at, mark
        start += len(piece)


@contextmanager
def _no_plugins() -> Iterator[None]:
    """HDF5 looks for libraries that a file asks for in these folders; none are left within the block."""
    folders = [h5pl.get(number) for number in range(h5pl.size())]
    for _ in folders:
        h5pl.remove(0)
    try:
        yield
    finally:
        for folder in folders:
            h5pl.append(folder)


@dataclass(frozen=True)
class ScoreTrack:
    """The reference scores of one video."""

    scores: Float64Array  # one per pick, in [0, 1], float64 (n,)
    picks: Int64Array  # frame number of each score, rising, int64 (n,)
    n_frames: int  # frames of the video, more than the last pick
    rate: float = USUAL_RATE  # frames per second


def named_videos(file: Hdf5File) -> dict[str, str]:
    """The group of each video of an eccv16-style file, `video_N` -> the video's id, in the order of N.

    The id is the group's `video_name` if it has one (SumMe). Without names, a file is TVSum's if each `video_N` has the
    frames of the N-th video in the official order; then the ids are those, else the names of the groups. A file without
    any `video_N` may call its groups by the videos, as DSNet does with a user's own.
    """
    keys = [key for key in file if key.startswith("video_")] or [key for key in file if f"{key}/gtscore" in file]
    if not keys:
        raise KeyframeError(f"{file.path} holds no group video_N: give an eccv16-style h5 as {file.option}")
    keys.sort(key=natural_key)
    named = {key: f"{key}/video_name" in file for key in keys}
    of_tvsum = all(
        _n_frames(file, key) == TVSUM_FRAMES.get(official_id(key) or "", -1) for key in keys if not named[key]
    )
    ids: dict[str, str] = {}
    seen: set[str] = set()
    for key in keys:
        where = f"{file.path}: {key[:40]!a}"
        name = file.text(f"{key}/video_name") if named[key] else (official_id(key) if of_tvsum else None) or key
        if checked_id(name, where) in seen:
            raise KeyframeError(f"{where} is the second video named {name}: give each its own video_name")
        seen.add(name)
        ids[key] = name
    return ids


def _n_frames(file: Hdf5File, key: str) -> int | None:
    place = f"{key}/n_frames"
    return int(file.numbers(place, np.int64).item()) if place in file else None


def read_scores(file: Hdf5File, key: str) -> ScoreTrack:
    """Read one video; a gtscore outside [0, 1] is scaled by its own minimum and maximum, as in DSNet.

    Missing `picks` (OVP, YouTube) are every 15th frame, or evenly spaced where that does not fit `n_frames`; missing
    `n_frames` end with the shots or the last pick. If shots or frames are counted in features, each is a second
    (Mr.HiSum).
    """
    where = f"{file.path}: {key}"
    n_scores = n_picks = math.prod(file.shape(f"{key}/gtscore"))
    if f"{key}/picks" in file:
        n_picks = math.prod(file.shape(f"{key}/picks"))
    if not n_scores or n_scores != n_picks:
        raise KeyframeError(f"{where} has {n_scores} gtscores and {n_picks} picks: it needs one finite score per pick")
    scores = file.numbers(f"{key}/gtscore", np.float64).ravel()
    picks, n_frames, rate = _timeline(file, key, n_scores)
    span = np.ptp(scores)
    if not np.isfinite(span):
        raise KeyframeError(f"{where} has gtscores of NaN or infinity: it needs one finite score per pick")
    if picks[0] < 0 or picks[-1] >= n_frames or (np.diff(picks) <= 0).any():
        raise KeyframeError(f"{where} has picks that do not rise within its {n_frames} frames: correct the file")
    file.claim(f"{key}/n_frames", 4 * n_frames)  # each frame gets a score
    if scores.min() < 0 or scores.max() > 1:
        scores = (scores - scores.min()) / (span or 1.0)
    return ScoreTrack(scores, picks, n_frames, rate)


def _timeline(file: Hdf5File, key: str, n_scores: int) -> tuple[Int64Array, int, float]:
    """The picks, the number of frames and the frames per second of a video; what the file lacks is made."""
    n_frames = known = _n_frames(file, key)
    if known is None:  # the frame after the last shot; 0 without shots
        place = f"{key}/change_points"
        known = int(file.numbers(place, np.int64).max(initial=-1)) + 1 if place in file else 0
    if f"{key}/picks" in file:
        picks = file.numbers(f"{key}/picks", np.int64).ravel()
        return picks, max(int(picks[-1]) + 1, known) if n_frames is None else n_frames, USUAL_RATE
    # Mr.HiSum's shots end where the next begins.
    if n_scores > 1 and (known == n_scores if n_frames is not None else 0 < known <= n_scores + 1):
        return np.arange(n_scores, dtype=np.int64), n_scores, 1.0
    known = known or _STEP * n_scores
    step = _STEP if n_scores == -(-known // _STEP) else max(1, known // n_scores)
    return step * np.arange(n_scores, dtype=np.int64), known, USUAL_RATE
