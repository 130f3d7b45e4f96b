"""One document, three files: whole or not at all."""

import os
import re
import sys

import pytest

from keyframe.report.document import Gallery, Notes, Picture, Table, Text
from keyframe.report.render import render_html, render_markdown, render_text, write_report
from tests.report.example import one

NAME = os.fsdecode(b"caf\xe9.mp4")  # a Latin-1 file name: half a surrogate pair in Python


@pytest.mark.parametrize("empty", [Table([], "caption"), Notes([]), Gallery([])])
def test_nothing_is_said_in_words(empty, tmp_path):
    document = one(empty)
    assert render_text(document).endswith("\n(none)\n")
    assert render_markdown(document, tmp_path).endswith("\n\n(none)\n")
    assert ">(none)</p>" in render_html(document)


@pytest.mark.parametrize("within", [lambda picture: picture, lambda picture: Gallery([picture])])
@pytest.mark.parametrize("form", ["txt", "md", "html"])
def test_a_missing_picture_is_named_and_the_old_report_stays(tmp_path, form, within):
    document = one(within(Picture(tmp_path / "gone.png", "gone")))
    old = tmp_path / f"report.{form}"
    old.write_text("old")
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "gone.png"))):
        write_report(document, tmp_path, [form])
    assert list(tmp_path.iterdir()) == [old]
    assert old.read_text() == "old"


def test_files_are_written_where_and_as_told(tmp_path):
    directory = tmp_path / "new" / "folder"
    paths = write_report(one(Text("ä")), directory)
    assert paths == [directory / "report.txt", directory / "report.md", directory / "report.html"]
    assert sorted(directory.iterdir()) == sorted(paths)
    assert all("ä" in path.read_text(encoding="utf-8") for path in paths)
    assert write_report(one(), directory, ["html"], name="benchmark") == [directory / "benchmark.html"]
    with pytest.raises(ValueError, match="pdf"):
        write_report(one(), directory, ["pdf"])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep file names in Unicode")
def test_a_file_name_that_is_not_utf8_is_written(tmp_path, picture):
    path = picture.path.rename(picture.path.with_name(os.fsdecode(b"caf\xe9.png")))
    paths = write_report(one(Table([{"file": NAME}]), Picture(path, NAME, NAME)), tmp_path)
    for written in paths:
        assert "caf\ufffd.mp4" in written.read_text(encoding="utf-8")
    assert "stills/caf%E9.png" in paths[1].read_text(encoding="utf-8")
