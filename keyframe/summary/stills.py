"""Keyframes as image files, and all keyframes of a video on one contact sheet."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keyframe.data.packets import PacketIndex
from keyframe.data.reader import VideoReader
from keyframe.files import atomic_file, format_clock
from keyframe.summary.describe import DESCRIPTOR_SIZE, describe_frames, luma_cells
from keyframe.types import FloatArray, Frames, Int64Array, IntArray, UInt8Array

STILL_SUFFIXES = ("jpg", "png", "webp")

_SHEET_WIDTH = 1600
_SHEET_ASPECT = 1.4  # about a page in landscape
_MOST_SHEET_HEIGHT = 65_000  # of a JPEG file
_SHEET_GAP = _SHEET_WIDTH // 130
# A caption with hours and a rank of three digits is about 110 pixels wide in the smallest type.
_LEAST_CELL_WIDTH = 130
_MOST_CELL_HEIGHT = 0.75 * _SHEET_WIDTH  # taller images are scaled down
_PAPER, _INK = (255, 255, 255), (40, 40, 40)


@dataclass(frozen=True)
class Still:
    """One keyframe on disk: its file, frame number from 0, time on a player's clock, and rank, 1 for the best."""

    path: Path
    frame: int
    seconds: float
    rank: int


def save_stills(
    index: PacketIndex,
    frames: IntArray,
    ranks: IntArray,
    directory: Path,
    reader: VideoReader,
    quality: int = 92,
    suffix: str = "jpg",
    height: int | None = None,
    spans: FloatArray | None = None,
) -> list[Still]:
    """Save frames of a video as image files, as a player shows them; returned in order of time.

    Each has the size, pixel aspect, rotation and colours of its own moment (`keyframe.data.picture`). Files are
    called `keyframe_<rank>_<time>.jpg`, such as `keyframe_01_00h01m23.456s.jpg`, so that they sort by rank. All appear
    together at the end, or none; files of the same name are replaced. If a frame does not decode, the still is the
    neighbour that the reader gives instead, with the neighbour's number and time.

    Args:
        index: of the video or of a part of it; numbers and times of stills are those in the video.
        frames: numbers in presentation order, increasing, (k,).
        ranks: distinct, from 1, (k,).
        directory: made if missing.
        reader: decodes frames.
        quality: of JPEG and WebP, 1 to 95.
        suffix: one of `STILL_SUFFIXES`.
        height: of every still in pixels, in its own aspect; None for full resolution.
        spans: as of `steady_frames`, for the calmest, sharpest frame near each; None for the frames themselves.

    Raises:
        VideoError: the video cannot be opened, or too many of the frames do not decode.
    """
    if not 1 <= quality <= 95 or suffix not in STILL_SUFFIXES:
        raise ValueError(f"quality must be 1 to 95, not {quality}, and suffix one of {STILL_SUFFIXES}, not {suffix}")
    digits = max(2, len(str(ranks.max(initial=1))))
    directory.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".stills-", dir=directory) as drafts:
        stills = []
        if spans is None:
            decoded = reader.stream(index.path, frames, None, index, chunk=1)
        else:
            decoded = steady_frames(index, frames, spans, reader)
        for frame, rank in zip(decoded, ranks.tolist(), strict=True):
            seconds = float(frame.timestamps[0] - index.zero)
            minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
            clock = f"{minutes // 60:02}h{minutes % 60:02}m{milliseconds / 1000:06.3f}s"
            path = directory / f"keyframe_{rank:0{digits}}_{clock}.{suffix}"
            image = Image.fromarray(frame.pixels[0])
            if height is not None:
                width = max(1, round(image.width * height / image.height))
                image = image.resize((width, height), Image.Resampling.LANCZOS)
            image.save(Path(drafts) / path.name, quality=quality)
            stills.append(Still(path, index.first + int(frame.indices[0]), seconds, rank))
        for still in stills:
            (Path(drafts) / still.path.name).replace(still.path)
    return stills


class _SheetLayout(NamedTuple):
    """Where things go on a contact sheet, in pixels."""

    columns: int
    rows: int
    cell: tuple[int, int]  # (width, height)
    type_size: int
    caption_height: int
    height: int


def save_contact_sheet(stills: Sequence[Still], path: Path) -> list[tuple[int, int, int, int]]:
    """Save a JPEG of at least one still in order of time, captioned with time and rank, such as "1:23.4   #2".

    Cells have the median aspect ratio of the stills; a still of another one is centred in its cell. The file appears
    whole or not at all. Returned is where the stills lie on it: x, y, width and height in pixels.
    """
    aspects = []
    for still in stills:
        with Image.open(still.path) as image:  # reads its header only
            aspects.append(image.width / image.height)
    layout = _best_layout(len(stills), float(np.median(aspects)))
    sheet = Image.new("RGB", (_SHEET_WIDTH, layout.height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(layout.type_size)
    width, height = layout.cell
    boxes = []
    for place, still in enumerate(sorted(stills, key=lambda still: still.seconds)):
        row, column = divmod(place, layout.columns)
        left = _SHEET_GAP + column * (width + _SHEET_GAP)
        bottom = _SHEET_GAP + row * (height + layout.caption_height + _SHEET_GAP) + height
        with Image.open(still.path) as image:
            scale = min(width / image.width, height / image.height)
            size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
            corner = left + (width - size[0]) // 2, bottom - size[1]
            sheet.paste(image.resize(size, Image.Resampling.LANCZOS), corner)
            boxes.append((*corner, *size))
        caption = f"{format_clock(still.seconds, 1)}   #{still.rank}"
        draw.text((left + width // 2, bottom + layout.caption_height // 2), caption, _INK, font, anchor="mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as draft:
        sheet.save(draft, "JPEG", quality=90)
    return boxes


def _best_layout(count: int, aspect: float) -> _SheetLayout:
    """The layout nearest to `_SHEET_ASPECT`, with a penalty per empty cell.

    Cells are wide enough for their captions, unless the sheet would be higher than a JPEG file can be.
    """
    most = max(1, min(count, _SHEET_WIDTH // _LEAST_CELL_WIDTH))
    while _layout(count, most, aspect).height > _MOST_SHEET_HEIGHT:
        most += 1

    def badness(layout: _SheetLayout) -> float:
        empty = 1 - count / (layout.columns * layout.rows)
        return abs(math.log(_SHEET_WIDTH / layout.height / _SHEET_ASPECT)) + empty

    return min((_layout(count, columns, aspect) for columns in range(1, most + 1)), key=badness)


def _layout(count: int, columns: int, aspect: float) -> _SheetLayout:
    """The layout of that many columns."""
    rows, width = math.ceil(count / columns), (_SHEET_WIDTH - _SHEET_GAP) // columns - _SHEET_GAP
    height = max(1, round(min(width / aspect, _MOST_CELL_HEIGHT)))
    type_size = min(max(width // 18, 13), 24)
    caption = round(1.7 * type_size)
    return _SheetLayout(
        columns, rows, (width, height), type_size, caption, _SHEET_GAP + rows * (height + caption + _SHEET_GAP)
    )


# Seconds that a keyframe may move back and forth, and between the frames that are tried. Frames before the chosen one
# are mostly decoded for it anyway; half a second after it takes a sixth of an extraction (VP8, a keyframe in 6 s).
BACK, FORTH, _STEP = 0.5, 0.3, 0.1

# Frames less alike than this are another picture. Mean change of luma from one tried frame to the next, in levels of
# 255, that halves the worth of a frame. A frame must be worth so many times more to be taken.
_ALIKE, _HALF_CALM, _BETTER = 0.97, 8.0, 1.1


def steady_frames(index: PacketIndex, frames: IntArray, spans: FloatArray, reader: VideoReader) -> Iterator[Frames]:
    """For each chosen frame the one near it that is worth most, at full resolution: sharpness, less what moves.

    Looks are half a second apart, and a camera shakes faster. A frame's worth is the deviation of its Laplacian / (1 +
    change of luma to the frames beside it / 8 levels). The chosen frame stays unless another is worth a tenth more.

    Frames are numbers in presentation order, increasing, (k,); `spans` are the earliest and latest second, on the clock
    of `index.timestamps`, that a frame may come from, (k, 2); they do not overlap. Where they are equal, it stays.
    """
    tried = [_near(index.timestamps, int(frame), *span) for frame, span in zip(frames, spans.tolist(), strict=True)]
    for place in range(1, len(tried)):  # Spans may touch.
        tried[place] = tried[place][tried[place] > tried[place - 1][-1]]
    own = iter([int(np.searchsorted(near, frame)) for near, frame in zip(tried, frames, strict=True) if len(near) > 1])
    yield from reader.stream_best(tried, DESCRIPTOR_SIZE, lambda images: _best(images, next(own)), index)


def _best(images: UInt8Array, own: int) -> int:
    """The place of the frame worth most of RGB images (n, H, W, 3), of which one is the chosen one."""
    seen, luma = describe_frames(images), luma_cells(images).astype(np.float32)
    steps = np.abs(np.diff(luma, axis=0)).mean(axis=(1, 2))
    moved = np.maximum(np.append(0, steps), np.append(steps, 0))
    worth = np.sqrt(seen.sharpness) / (1 + moved / _HALF_CALM)
    worth[seen.descriptors @ seen.descriptors[own] < _ALIKE] = 0
    best = int(worth.argmax())
    return best if worth[best] > _BETTER * worth[own] else own


def _near(timestamps: FloatArray, frame: int, earliest: float, latest: float) -> Int64Array:
    """A frame and others of a span, a tenth of a second apart at least, increasing."""
    first, end = np.searchsorted(timestamps, (earliest, latest + 1e-6))
    numbers = np.union1d(np.arange(first, end), frame)
    since = np.floor((timestamps[numbers] - timestamps[frame]) / _STEP + 1e-6)
    return numbers[np.append(True, np.diff(since) > 0) | (numbers == frame)].astype(np.int64)
