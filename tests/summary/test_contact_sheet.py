import numpy as np
import pytest
from PIL import Image

from keyframe.summary.stills import Still, contact_sheet, save_contact_sheet

# Colours that no caption and no paper has.
COLOURS = [(200, 30, 30), (30, 160, 30), (40, 40, 200)]


def plain(colour, height=90, width=160):
    return np.full((height, width, 3), colour, np.uint8)


def box(sheet, colour):
    """Top, bottom, left and right of what is about of one colour."""
    rows, columns = np.nonzero(np.all(np.abs(sheet.astype(int) - colour) < 12, axis=-1))
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


@pytest.mark.parametrize("count", [1, 2, 5, 20, 200])
@pytest.mark.parametrize("shape", [(90, 160), (160, 90), (90, 210)])
def test_every_picture_is_there_in_its_own_shape(count, shape):
    pictures = [(f"1:23.4   #{number}", plain((120, 60, 60), *shape)) for number in range(count)]
    pictures[-1] = ("1:23.4   #9", plain(COLOURS[0], *shape))
    sheet = contact_sheet(pictures)
    assert sheet.dtype == np.uint8 and sheet.shape[1:] == (1600, 3)
    top, bottom, left, right = box(sheet, COLOURS[0])
    assert (right - left) / (bottom - top) == pytest.approx(shape[1] / shape[0], rel=0.02)
    same = np.all(np.abs(sheet.astype(int) - (120, 60, 60)) < 12, axis=-1).sum()
    assert same == pytest.approx((count - 1) * (bottom - top) * (right - left), rel=0.02, abs=1)


def test_rows_run_in_the_order_given():
    sheet = contact_sheet([("a", plain(colour)) for colour in COLOURS], columns=2, width=400)
    first, second, third = (box(sheet, colour) for colour in COLOURS)
    assert first[0] == second[0] and first[3] <= second[2]
    assert third[2] == first[2] and third[0] >= first[1]


def test_a_caption_stands_under_its_picture():
    empty, captioned = (contact_sheet([("", plain(COLOURS[0])), (text, plain(COLOURS[1]))], 2) for text in ("", "0:01"))
    rows, columns = np.nonzero(np.any(empty != captioned, axis=-1))
    _, bottom, left, right = box(captioned, COLOURS[1])
    assert rows.min() >= bottom and left <= columns.min() and columns.max() < right
    assert (columns.min() + columns.max()) / 2 == pytest.approx((left + right) / 2, abs=2)


def test_a_long_caption_stays_in_its_cell():
    sheet = contact_sheet([("M" * 500, plain(COLOURS[0])), ("", plain(COLOURS[1]))], columns=2, width=400)
    _, bottom, left, right = box(sheet, COLOURS[0])
    columns = np.nonzero(np.any(sheet[bottom:] < 200, axis=(0, 2)))[0]
    assert len(columns) and left <= columns.min() and columns.max() < right


def test_another_shape_stands_whole_in_the_middle():
    sheet = contact_sheet([("", plain(COLOURS[number], *shape)) for number, shape in enumerate([(90, 160)] * 3)], 3)
    mixed = [("", plain(COLOURS[0])), ("", plain(COLOURS[1], 160, 90)), ("", plain(COLOURS[2]))]
    wide, tall = box(sheet, COLOURS[1]), box(contact_sheet(mixed, 3), COLOURS[1])
    assert tall[:2] == wide[:2]
    assert (tall[3] - tall[2]) / (tall[1] - tall[0]) == pytest.approx(90 / 160, rel=0.02)
    assert tall[2] + tall[3] == pytest.approx(wide[2] + wide[3], abs=2)


def test_saves_stills_in_order_of_time(tmp_path):
    stills = []
    for number, seconds in enumerate([3725.04, 0.0, 61.96]):
        path = tmp_path / f"{number}.jpg"
        Image.fromarray(plain(COLOURS[number], 900, 1600)).save(path, quality=95)
        stills.append(Still(path, number, seconds, number + 1))
    out = tmp_path / "new" / "sheet.jpg"
    save_contact_sheet(stills, out, columns=3)
    with Image.open(out) as picture:
        assert picture.format == "JPEG"
        sheet = np.asarray(picture)
    assert box(sheet, COLOURS[1])[2] < box(sheet, COLOURS[2])[2] < box(sheet, COLOURS[0])[2]
    captions = ["0:00.0   #2", "1:02.0   #3", "1:02:05.0   #1"]
    ordered = [(text, plain(COLOURS[number], 900, 1600)) for text, number in zip(captions, [1, 2, 0], strict=True)]
    assert np.abs(sheet.astype(int) - contact_sheet(ordered, columns=3)).mean() < 2
    other = contact_sheet([("9:59.9   #8", picture) for _, picture in ordered], columns=3)
    bottom = box(sheet, COLOURS[0])[1] + 2
    difference = [
        np.abs(sheet[bottom:].astype(int) - page[bottom:]).mean() for page in (contact_sheet(ordered, 3), other)
    ]
    assert difference[0] < 0.5 * difference[1]
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize(
    ("count", "columns", "width"), [(0, None, 1600), (1, 0, 1600), (1, -1, 1600), (1, 500, 1600), (1, None, 8)]
)
def test_refuses(count, columns, width):
    with pytest.raises(ValueError):
        contact_sheet([("", plain(COLOURS[0]))] * count, columns, width)
