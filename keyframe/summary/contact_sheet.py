"""All keyframes of a video on one page."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from keyframe.files import draft_of
from keyframe.summary.stills import Still

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
    with draft_of(path) as draft:
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
    minutes, tenths = divmod(round(still.seconds * 10), 600)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02}:{tenths / 10:04.1f}" if hours else f"{minutes}:{tenths / 10:04.1f}"
    return f"{clock}   #{still.rank}"


def _aspect(path: Path) -> float:
    """Width over height of a JPEG file's picture; only its header is read."""
    with Image.open(path) as picture:
        return picture.width / picture.height


def _thumbnail(path: Path, width: int) -> npt.NDArray[np.uint8]:
    """A JPEG file's picture, no larger than a sheet needs."""
    with Image.open(path) as picture:
        picture.thumbnail((width, width), Image.Resampling.LANCZOS)
        return np.asarray(picture)
