"""The page, read without a browser: no text becomes markup, and nothing is fetched."""

import base64
import re
from html.parser import HTMLParser

import pytest

from keyframe.report.document import Document, Gallery, Notes, Picture, Section, Table, Text
from keyframe.report.render import render_html
from tests.report.example import HOSTILE, one, rich_document


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


def test_no_text_becomes_markup_in_html(tmp_path, picture):
    alt = '"><script>'
    document = Document(
        HOSTILE,
        HOSTILE,
        [
            Section(
                HOSTILE,
                [
                    Text(HOSTILE),
                    Notes([HOSTILE]),
                    Table([{HOSTILE: HOSTILE}], HOSTILE),
                    Picture(picture.path, alt, HOSTILE),
                    Gallery([Picture(picture.path, alt, HOSTILE)]),
                ],
            )
        ]
        * 4,
        HOSTILE,
    )
    page = Page(render_html(document))
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


def test_pictures_are_embedded_whole(picture):
    (source,) = Page(render_html(one(picture))).values("src")
    kind, data = source.split(";base64,")
    assert kind == "data:image/png"
    assert base64.b64decode(data) == picture.path.read_bytes()


@pytest.mark.parametrize(
    ("cells", "right"),
    [
        (["0.5", "-.25", "1e-5", "nan"], True),
        (["3.1 MB", "12 s", "–"], True),
        (["0.52 ± 0.03", "<0.01", "[0.1, 0.2]", "28 %"], True),
        (["1:23:45", "", "0:09"], True),
        (["-0.02 to 0.02"], True),
        (["–", ""], False),
        (["0.5", "late"], False),
        (["3 of the videos were left out"], False),
        (["3 failed", "2 passed"], False),
        (["ResNet50"], False),
    ],
)
def test_columns_of_numbers_are_aligned_right(cells, right):
    table = Table([{"name": "x", "value": cell} for cell in cells])
    assert (table.right == {"value"}) is right
    found = Page(render_html(one(table))).attributes
    assert (("td", "class", "number") in found) is right
    assert ("th", "class", "number") not in [entry for entry in found if not right]


def test_a_contents_list_from_four_sections_on():
    sections = [Section(f"Part {number}", [Text("x")]) for number in range(4)]
    assert "nav" not in Page(render_html(Document("T", "L", sections[:3]))).tags
    page = Page(render_html(Document("T", "L", sections)))
    targets = [value.removeprefix("#") for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
    assert targets == [value for tag, name, value in page.attributes if (tag, name) == ("section", "id")]
    assert len(targets) == 4
