"""What a document refuses and decides by itself."""

import math
import re

import pytest

from keyframe.report.document import ImageFile, Table, format_interval, format_mean, format_number


def test_named_columns_alone_are_aligned_right():
    rows = [{"a": "1", "b": "2"}]
    assert Table(rows, numeric=["b"]).right == {"b"}
    assert Table(rows, numeric=[]).right == set()
    with pytest.raises(ValueError, match="'c'"):
        Table(rows, numeric=["c"])


def test_columns_of_numbers_are_aligned_right():
    numbers = (
        ["0.5", "-.25", "1e-5", "nan"],
        ["3.1 MB", "12 s", "–"],
        ["0.52 ± 0.03", "<0.01", "[0.1, 0.2]", "28 %"],
        ["1:23:45", "", "0:09"],
        ["-0.02 to 0.02"],
    )
    words = (
        ["–", ""],
        ["0.5", "late"],
        ["3 of the videos were left out"],
        ["3 failed", "2 passed"],
        ["ResNet50"],
    )
    for cells in (*numbers, *words):
        table = Table([{"name": "x", "value": cell} for cell in cells])
        assert table.right == ({"value"} if cells in numbers else set()), cells


def test_only_existing_images_that_every_browser_shows(image):
    for suffix in (".png", ".jpg", ".jpeg", ".PNG"):
        path = image.path.with_suffix(suffix)
        path.touch()
        ImageFile(path, "a")
    for suffix in (".svg", ".gif", ".html", ""):
        with pytest.raises(ValueError, match="images only"):
            ImageFile(image.path.with_suffix(suffix), "a")
    gone = image.path.with_name("gone.png")
    with pytest.raises(FileNotFoundError, match=re.escape(str(gone))):
        ImageFile(gone, "gone")


def test_numbers_and_what_is_not_available():
    metrics = {"rho": 0.25, "rho_std": 0.125, "rho_lo": -0.0001, "rho_hi": 0.5, "one": 0.5, "tau": math.nan}
    metrics |= {"one_std": math.nan, "one_lo": math.nan, "one_hi": math.nan}
    assert format_number(-0.0001) == "0.000" and format_number(2, 0) == "2"
    assert format_interval(0.1, 0.25) == "0.100 to 0.250"
    assert format_number(math.nan) == format_interval(math.nan, math.nan) == format_mean(metrics, "tau")
    assert format_mean(metrics, "rho") == "0.250 [0.000, 0.500]"
    assert format_mean(metrics, "rho", spread=True) == "0.250 ± 0.125 [0.000, 0.500]"
    assert format_mean(metrics, "one", spread=True) == "0.500"
