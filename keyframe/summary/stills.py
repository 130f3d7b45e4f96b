"""The size of the picture that a player shows, which is not always the size of the picture in the file.

Keyframes as JPEG files.

All keyframes of a video on one page.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from keyframe.data.packets import PacketIndex
from keyframe.data.reader import VideoReader
from keyframe.files import atomic_file, format_clock
from keyframe.types import IntArray

# Anamorphic formats go up to 2.9 (352x576 shown as 16:9); what lies far beyond is a damaged header.
_MOST_STRETCHED = 4


def shown_size(index: PacketIndex) -> tuple[int, int]:
    """Height and width of the upright picture in square pixels.

    The short side of a pixel is stretched to the long one, so that nothing of the coded picture is lost.

    Args:
        index: of the video.

    Returns:
        (height, width) in pixels, with rotation and the sample aspect ratio applied.
    """
    height, width = index.upright_size
    ratio = index.pixel_aspect
    if not 1 / _MOST_STRETCHED <= ratio <= _MOST_STRETCHED:
        return height, width
    if index.upright_size != (index.height, index.width):  # The ratio is that of the picture before it is turned.
        ratio = 1 / ratio
    return round(height * max(1 / ratio, 1)), round(width * max(ratio, 1))


@dataclass(frozen=True)
class Still:
    """One keyframe on disk.

    Attributes:
        path: the JPEG file.
        frame: number of the picture in presentation order, from 0.
        seconds: when a player shows it, where its clock says 0 at the first presented frame.
        rank: 1 for the best keyframe.
    """

    path: Path
    frame: int
    seconds: float
    rank: int


def save_stills(
    index: PacketIndex, frames: IntArray, ranks: IntArray, directory: Path, reader: VideoReader, quality: int = 92
) -> list[Still]:
    """Save frames of a video as JPEG files, at full resolution and as a player shows them.

    Rotation and non-square pixels are applied; colours are converted from the video's own matrix and range (BT.601
    where it names none, as FFmpeg has it) to the full range BT.601 of JFIF. High dynamic range is not tone-mapped.
    Files are called `keyframe_<rank>_<time>.jpg`, such as `keyframe_01_00h01m23.456s.jpg`, so that they sort by
    rank. All appear together at the end, or none. One picture is in memory at a time.

    Args:
        index: of the video.
        frames: frame numbers in presentation order, from 0, increasing, shape (k,).
        ranks: rank of each frame, from 1, no two alike, shape (k,).
        directory: where the files go; made where it is missing. Files of the same name are replaced.
        reader: decodes frames.
        quality: of the JPEG, 1 to 95.

    Returns:
        One still a frame, in order of time. Where a frame does not decode, its neighbour that the reader gave
        instead, under the neighbour's own number and time.

    Raises:
        VideoError: the video cannot be opened, or too many of the frames do not decode.
        ValueError: an argument is out of range, or frames and ranks disagree in shape.
    """
    frames, ranks = np.asarray(frames), np.asarray(ranks)
    if frames.ndim != 1 or frames.shape != ranks.shape:
        raise ValueError(f"frames and ranks must be rows of one length, not {frames.shape} and {ranks.shape}")
    if np.any(frames[1:] <= frames[:-1]):
        raise ValueError("frames must increase")
    if np.any(ranks < 1) or len(np.unique(ranks)) < len(ranks):
        raise ValueError("ranks must be 1 or more, no two alike")
    if not 1 <= quality <= 95:
        raise ValueError(f"quality must be 1 to 95, not {quality}")
    pictures = reader.stream(index.path, frames, shown_size(index), index, chunk=1)
    digits = max(2, len(str(ranks.max(initial=1))))
    directory.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".stills-", dir=directory) as drafts:
        stills = []
        for picture, rank in zip(pictures, ranks.tolist(), strict=True):
            seconds = float(picture.timestamps[0] - index.timestamps[0])
            file = directory / f"keyframe_{rank:0{digits}}_{_clock(seconds)}.jpg"
            Image.fromarray(picture.pixels[0]).save(Path(drafts) / file.name, quality=quality)
            stills.append(Still(file, int(picture.indices[0]), seconds, rank))
        for still in stills:
            (Path(drafts) / still.path.name).replace(still.path)
    return stills


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds to the millisecond, such as "00h01m23.456s"."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}h{minutes % 60:02}m{milliseconds / 1000:06.3f}s"


# A caption with hours and a rank of three digits is about 110 pixels wide in the smallest type.
_NARROWEST_CELL = 130
_SHEET_ASPECT = 1.4  # about a page in landscape, or a screen with its window's frame
_TALLEST_CELL = 0.75  # of the sheet's width; taller pictures are fitted in
_MOST_HEIGHT = 65_000
_PAPER, _INK = (255, 255, 255), (40, 40, 40)


class _Grid(NamedTuple):
    """Where things go, in pixels."""

    columns: int
    rows: int
    gap: int
    cell: tuple[int, int]
    type_size: int
    caption: int

    @property
    def height(self) -> int:
        return self.gap + self.rows * (self.cell[1] + self.caption + self.gap)


def contact_sheet(
    pictures: Sequence[tuple[str, npt.NDArray[np.uint8]]], columns: int | None = None, width: int = 1600
) -> npt.NDArray[np.uint8]:
    """Lay pictures out in a grid, row by row in the order given, each over its caption.

    Aspect ratios are kept. All cells have one shape, that of the middle one of the pictures' shapes, and a picture of
    another shape stands in the middle of its cell.

    Args:
        pictures: caption and RGB picture of shape (H, W, 3); sizes may differ. A caption wider than its cell is cut.
        columns: pictures in a row; None for as many as make a page of landscape shape with few empty cells.
        width: of the sheet in pixels.

    Returns:
        uint8 RGB, shape (height, width, 3), as high as the pictures need.

    Raises:
        ValueError: no pictures, columns below 1, or no room for that many columns.
    """
    if not pictures:
        raise ValueError("a contact sheet needs a picture")
    grid = _grid_of([picture.shape[1] / picture.shape[0] for _, picture in pictures], columns, width)
    return _laid_out(pictures, grid, width)


def save_contact_sheet(stills: Sequence[Still], path: Path, columns: int | None = None, width: int = 1600) -> None:
    """Save a JPEG of stills in order of time, captioned with time and rank, such as "1:23.4   #2".

    Args:
        stills: what `save_stills` wrote; the files must be there.
        path: the JPEG file, which appears whole or not at all.
        columns: as for `contact_sheet`.
        width: as for `contact_sheet`.

    Raises:
        ValueError: as `contact_sheet` says.
    """
    if not stills:
        raise ValueError("a contact sheet needs a picture")
    ordered = sorted(stills, key=lambda still: still.seconds)
    grid = _grid_of([_aspect(still.path) for still in ordered], columns, width)
    # One at a time, so that thousands of them fit in memory.
    pictures = ((_caption(still), _thumbnail(still.path, width)) for still in ordered)
    sheet = _laid_out(pictures, grid, width)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as draft:
        Image.fromarray(sheet).save(draft, "JPEG", quality=90)


def _laid_out(pictures: Iterable[tuple[str, npt.NDArray[np.uint8]]], grid: _Grid, width: int) -> npt.NDArray[np.uint8]:
    """Pictures in their cells, in the order given, each over its caption."""
    sheet = Image.new("RGB", (width, grid.height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(grid.type_size)
    for place, (caption, pixels) in enumerate(pictures):
        row, column = divmod(place, grid.columns)
        left = grid.gap + column * (grid.cell[0] + grid.gap)
        top = grid.gap + row * (grid.cell[1] + grid.caption + grid.gap)
        fitted = _fitted(pixels, grid.cell)
        sheet.paste(fitted, (left + (grid.cell[0] - fitted.width) // 2, top + grid.cell[1] - fitted.height))
        while caption and draw.textlength(caption, font) > grid.cell[0]:
            caption = caption[:-1]
        middle = left + grid.cell[0] // 2, top + grid.cell[1] + grid.caption // 2
        draw.text(middle, caption, _INK, font, anchor="mm")
    return np.asarray(sheet)


def _grid_of(aspects: Sequence[float], columns: int | None, width: int) -> _Grid:
    """The grid of pictures of these shapes, each its width over its height."""
    count, aspect = len(aspects), float(np.median(aspects))
    return _best_grid(count, aspect, width) if columns is None else _grid(count, columns, aspect, width)


def _grid(count: int, columns: int, aspect: float, width: int) -> _Grid:
    """The grid of that many columns.

    Raises:
        ValueError: cells would have no width.
    """
    if columns < 1:
        raise ValueError(f"columns must be 1 or more, not {columns}")
    gap = max(4, width // 130)
    cell = (width - gap) // columns - gap
    if cell < 8:
        raise ValueError(f"a sheet of {width} pixels has no room for {columns} columns")
    type_size = min(max(cell // 18, 13), 24)
    height = max(1, round(min(cell / aspect, _TALLEST_CELL * width)))
    return _Grid(columns, math.ceil(count / columns), gap, (cell, height), type_size, round(1.7 * type_size))


def _best_grid(count: int, aspect: float, width: int) -> _Grid:
    """The grid whose shape is nearest a page's, where an empty cell counts against it.

    Cells are wide enough for their captions, unless the sheet were higher than a JPEG file can be.
    """
    most = max(1, min(count, width // _NARROWEST_CELL))
    while _grid(count, most, aspect, width).height > _MOST_HEIGHT:
        most += 1

    def badness(grid: _Grid) -> float:
        empty = 1 - count / (grid.columns * grid.rows)
        return abs(math.log(width / grid.height / _SHEET_ASPECT)) + empty

    return min((_grid(count, columns, aspect, width) for columns in range(1, most + 1)), key=badness)


def _fitted(pixels: npt.NDArray[np.uint8], cell: tuple[int, int]) -> Image.Image:
    """The picture at the largest size that fits the cell (width, height)."""
    height, width = pixels.shape[:2]
    scale = min(cell[0] / width, cell[1] / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)


def _caption(still: Still) -> str:
    """Time and rank."""
    return f"{format_clock(still.seconds, 1)}   #{still.rank}"


def _aspect(path: Path) -> float:
    """Width over height of a JPEG file's picture; only its header is read."""
    with Image.open(path) as picture:
        return picture.width / picture.height


def _thumbnail(path: Path, width: int) -> npt.NDArray[np.uint8]:
    """A JPEG file's picture, no larger than a sheet needs."""
    with Image.open(path) as picture:
        picture.thumbnail((width, width), Image.Resampling.LANCZOS)
        return np.asarray(picture)
