"""What a document refuses and decides by itself."""

import pytest

from keyframe.report.document import Picture, Table


def test_named_columns_alone_are_aligned_right():
    rows = [{"a": "1", "b": "2"}]
    assert Table(rows, numeric=["b"]).right == {"b"}
    assert Table(rows, numeric=[]).right == set()
    with pytest.raises(ValueError, match="'c'"):
        Table(rows, numeric=["c"])


def test_only_pictures_every_browser_shows(tmp_path):
    for suffix in (".png", ".jpg", ".jpeg", ".PNG"):
        Picture(tmp_path / f"a{suffix}", "a")
    for suffix in (".svg", ".gif", ".html", ""):
        with pytest.raises(ValueError, match=f"a{suffix}: "):
            Picture(tmp_path / f"a{suffix}", "a")
