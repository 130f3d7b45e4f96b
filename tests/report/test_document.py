"""One document, three files: whole or not at all, and no text of theirs becomes markup."""

import base64
import math
import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from keyframe.report import (
    Document,
    Gallery,
    ImageFile,
    Notes,
    Section,
    Table,
    Text,
    escape,
    format_interval,
    format_mean,
    format_number,
    render_html,
    render_text,
    text_table,
    write_report,
)
from tests.report.example import HOSTILE, one, rich_document

NAME = os.fsdecode(b"caf\xe9.mp4")  # a Latin-1 file name: half a surrogate pair in Python


class Page(HTMLParser):
    """Tags, attributes, and runs of text of a page, in their order."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts, self.policy = [], [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if ("http-equiv", "Content-Security-Policy") in attrs:
            self.policy = dict(attrs)["content"]

    def handle_data(self, data):
        self.texts.append(data)

    def values(self, name):
        return [value for _, attribute, value in self.attributes if attribute == name]


def test_empty_blocks_say_so(tmp_path):
    for empty in (Table([], "caption"), Notes([]), Gallery([])):
        document = one(empty)
        assert render_text(document).endswith("\n\n(none)\n")
        assert render_text(document, tmp_path).endswith("\n\n(none)\n")
        assert ">(none)</p>" in render_html(document)


def test_a_missing_image_leaves_the_old_report(tmp_path, image):
    (tmp_path / "report.html").write_text("old")
    document = one(image)
    image.path.unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(str(image.path))):
        write_report(document, tmp_path)
    assert (tmp_path / "report.html").read_text() == "old" and not (tmp_path / "report.txt").exists()


def test_files_are_written_where_and_as_asked(tmp_path):
    directory = tmp_path / "new" / "folder"
    paths = write_report(one(Text("ä")), directory)
    assert paths == [directory / "report.txt", directory / "report.md", directory / "report.html"]
    assert sorted(directory.iterdir()) == sorted(paths)
    assert all("ä" in path.read_text(encoding="utf-8") for path in paths)
    assert write_report(one(), directory, ["html"], name="benchmark") == [directory / "benchmark.html"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep file names in Unicode")
def test_a_file_name_that_is_not_utf8_is_written(tmp_path, image):
    path = image.path.rename(image.path.with_name(os.fsdecode(b"caf\xe9.png")))
    paths = write_report(one(Table([{"file": NAME}]), ImageFile(path, NAME, NAME)), tmp_path)
    for written in paths:
        assert "caf\ufffd.mp4" in written.read_text(encoding="utf-8")
    assert "stills/caf%E9.png" in paths[1].read_text(encoding="utf-8")


# Text


def test_plain_text_as_written_by_hand(image):
    rows = [{"model": "A", "rho": "0.5"}, {"model": "B12", "rho": "-0.25", "note": "[late]"}]
    results = [Text("First paragraph.\n\nSecond\nparagraph."), Table(rows, "On 5 videos"), Notes(["One.", "Two."])]
    frames = [image, Gallery([ImageFile(image.path, "no caption")])]
    sections = [Section("Results", results), Section("Frames", frames)]
    assert (
        render_text(Document("Two models", "Both\nare good.", sections, "Made today."))
        == f"""\
# Two models

Both are good.

## Results

First paragraph.

Second paragraph.

On 5 videos

| model |   rho | note   |
| ----- | ----: | ------ |
| A     |   0.5 |        |
| B12   | -0.25 | [late] |

- One.
- Two.

## Frames

0:01: {image.path}

no caption: {image.path}

---

Made today.
"""
    )


def test_markdown_as_written_by_hand(image, tmp_path):
    document = one(
        Table([{"model": "A|B", "rho": "0.5"}], "On 5 videos"),
        Notes(["One.", "2. Two"]),
        image,
        Gallery([image]),
        footer="Made today.",
    )
    link = "![red](../stills/a%20frame%20%281%29.png)"
    assert (
        render_text(document, tmp_path / "out")
        == f"""\
# Title

Lead.

## Section

On 5 videos

| model | rho |
| ----- | --: |
| A\\|B  | 0.5 |

- One.
- 2\\. Two

{link}

0:01

{link}

0:01

---

Made today.
"""
    )


def test_long_lines_are_wrapped_for_a_terminal():
    page = render_text(one(Text("word " * 60), Notes(["item " * 60])))
    assert max(map(len, page.splitlines())) <= 100
    assert "\n- item item" in page and "\n  item item" in page


def test_a_terminal_meets_no_control_characters():
    page = render_text(one(Text("a\x1b[31mb\x9b\x00"), Notes(["\u202egpj.exe"]), Table([{"a\tb": "c\x07"}])))
    assert "a\ufffd[31mb\ufffd\ufffd" in page and "\ufffdgpj.exe" in page and "| c\ufffd  |" in page
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", page)


def test_wide_characters_take_two_columns_of_a_table():
    page = render_text(one(Table([{"file": "映画", "n": "1"}, {"file": "abcd", "n": "2"}])))
    assert page.endswith("\n| 映画 |   1 |\n| abcd |   2 |\n")


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("a | b", r"a \| b"),
        ("`x` [y](z) ![i](j)", r"\`x\` \[y\](z) !\[i\](j)"),
        ("<b> &lt; A&B R & D", r"\<b> \&lt; A\&B R & D"),
        ("two\nlines\r\n\r\nthree", "two lines three"),
        ("*a* **b** ~c~ $d$", r"\*a\* \*\*b\*\* \~c\~ \$d\$"),
        ("run_a_b _c_ __d__", r"run_a_b \_c\_ \_\_d\_\_"),
        ("back\\slash\\", r"back\\slash\\"),
        ("- a", r"\- a"),
        ("+ a", r"\+ a"),
        ("> a", r"\> a"),
        ("## a #", r"\## a \#"),
        ("3. a", r"3\. a"),
        ("3) a", r"3\) a"),
        ("---", r"\---"),
        ("-0.5 and 1.5 in C# at #3", "-0.5 and 1.5 in C# at #3"),
    ],
)
def test_markdown_marks_are_escaped_where_they_are_marks(text, source):
    """Expected by the rules of CommonMark 0.31 and GitHub's tables, strike-through and mathematics."""
    assert escape(text) == source


def test_markdown_links_lead_to_the_images_and_rows_have_equally_many_cells(tmp_path):
    (tmp_path / "made").mkdir()
    directory = tmp_path / "reports" / "deep"
    (page,) = write_report(rich_document(tmp_path / "made"), directory, ["md"])
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text)
    assert len(links) == 9
    assert all((directory / unquote(link)).is_file() and not Path(link).is_absolute() for link in links)
    tables = "\n".join(line if line.startswith("|") else "" for line in text.splitlines()).strip().split("\n\n")
    for table in filter(None, map(str.strip, tables)):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


# HTML


def test_no_text_becomes_markup_in_html(image):
    alt = '"><script>'
    blocks = [
        Text(HOSTILE),
        Notes([HOSTILE]),
        Table([{HOSTILE: HOSTILE}], HOSTILE),
        ImageFile(image.path, alt, HOSTILE),
        Gallery([ImageFile(image.path, alt, HOSTILE)]),
    ]
    page = Page(render_html(Document(HOSTILE, HOSTILE, [Section(HOSTILE, blocks)] * 4, HOSTILE)))
    ours = {"html", "head", "meta", "link", "title", "style", "body", "div", "header", "nav", "ol", "li", "a", "main"}
    ours |= {"section", "h1", "h2", "p", "ul", "table", "thead", "tbody", "tr", "th", "figure", "img", "figcaption"}
    assert set(page.tags) == ours | {"footer"}
    assert page.values("alt") == [alt] * 8
    assert {name for _, name, _ in page.attributes if name.startswith("on")} == set()
    shown = [" ".join(text.split()) for text in page.texts]
    expected = '<script>alert("1")</script> | `rm -rf` [x](http://e.org) **b** # h\ufffd[31m\ufffd.mp4'
    # title, h1, lead, footer; in each of 4 sections: contents, heading, text, note, header, cell, 3 captions
    assert shown.count(expected) == 4 + 4 * 9


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    page = Page(render_html(rich_document(tmp_path)))
    assert all(value.startswith("data:") or re.fullmatch(r"#section-\d+", value) for value in page.values("href"))
    assert len(page.values("src")) == 9
    assert all(re.match("data:image/(png|jpeg);base64,", value) for value in page.values("src"))
    assert page.policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert "script" not in page.tags
    assert not re.search(r"url\(|@import", "".join(page.texts))
    assert ("html", "lang", "en") in page.attributes


def test_images_are_embedded_whole(image):
    (source,) = Page(render_html(one(image))).values("src")
    kind, data = source.split(";base64,")
    assert kind == "data:image/png"
    assert base64.b64decode(data) == image.path.read_bytes()


def test_html_aligns_numbers_right():
    for cell, right in (("0.5", True), ("late", False)):
        found = Page(render_html(one(Table([{"name": "x", "value": cell}])))).attributes
        assert (("td", "class", "number") in found) is (("th", "class", "number") in found) is right


def test_a_contents_list_from_four_sections_on():
    sections = [Section(f"Part {number}", [Text("x")]) for number in range(4)]
    assert "nav" not in Page(render_html(Document("T", "L", sections[:3]))).tags
    page = Page(render_html(Document("T", "L", sections)))
    targets = [value.removeprefix("#") for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
    assert targets == [value for tag, name, value in page.attributes if (tag, name) == ("section", "id")]
    assert len(targets) == 4


def test_a_long_last_column_is_not_padded():
    rows = [{"video": "a.mp4", "notes": ""}, {"video": "b.mp4", "notes": "n" * 120}]
    assert text_table(rows).splitlines() == [
        "| video | notes |",
        "| ----- | ----- |",
        "| a.mp4 |       |",
        f"| b.mp4 | {'n' * 120} |",
    ]


# What a document refuses and decides by itself


def test_named_columns_alone_are_aligned_right():
    rows = [{"a": "1", "b": "2"}]
    assert Table(rows, numeric=["b"]).right == {"b"}
    assert Table(rows, numeric=[]).right == set()


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
