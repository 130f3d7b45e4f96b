"""The rendering for a terminal."""

import re

from keyframe.report.document import Document, Gallery, Notes, Picture, Section, Table, Text
from keyframe.report.render import render_text
from tests.report.example import one


def test_plain_text_as_written_by_hand(picture):
    document = Document(
        "Two models",
        "Both\nare good.",
        [
            Section(
                "Results",
                [
                    Text("First paragraph.\n\nSecond\nparagraph."),
                    Table(
                        [{"model": "A", "rho": "0.5"}, {"model": "B12", "rho": "-0.25", "note": "late"}], "On 5 videos"
                    ),
                    Notes(["One.", "Two."]),
                ],
            ),
            Section("Frames", [picture, Gallery([Picture(picture.path, "no caption")])]),
        ],
        "Made today.",
    )
    assert (
        render_text(document)
        == f"""\
Two models
==========

Both are good.

Results
-------

First paragraph.

Second paragraph.

On 5 videos
model    rho  note
A        0.5
B12    -0.25  late

- One.
- Two.

Frames
------

0:01: {picture.path}

no caption: {picture.path}

Made today.
"""
    )


def test_a_terminal_meets_no_control_characters():
    page = render_text(one(Text("a\x1b[31mb\x9b\x00"), Notes(["\u202egpj.exe"]), Table([{"a\tb": "c\x07"}])))
    assert "a\ufffd[31mb\ufffd\ufffd" in page
    assert "\ufffdgpj.exe" in page
    assert page.endswith("\na b\nc\ufffd\n")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", page)


def test_wide_characters_take_two_columns_of_a_table():
    page = render_text(one(Table([{"file": "映画", "n": "1"}, {"file": "abcd", "n": "2"}])))
    assert page.endswith("\nfile  n\n映画  1\nabcd  2\n")
