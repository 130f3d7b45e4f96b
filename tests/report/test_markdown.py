"""The Markdown rendering: its marks are ours alone, its links lead somewhere."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from keyframe.report.document import Gallery, Notes, Table
from keyframe.report.render import escape, render_markdown, write_report
from tests.report.example import one, rich_document


def test_markdown_as_written_by_hand(picture, tmp_path):
    document = one(
        Table([{"model": "A|B", "rho": "0.5"}], "On 5 videos"),
        Notes(["One.", "2. Two"]),
        picture,
        Gallery([picture] * 4),
        footer="Made today.",
    )
    link = "![red](../stills/a%20frame%20%281%29.png)"
    assert (
        render_markdown(document, tmp_path / "out")
        == f"""\
# Title

Lead.

## Section

On 5 videos

| model | rho |
| --- | ---: |
| A\\|B | 0.5 |

- One.
- 2\\. Two

{link}

0:01

| {link} | {link} | {link} |
| :---: | :---: | :---: |
| 0:01 | 0:01 | 0:01 |
| {link} |  |  |
| 0:01 |  |  |

---

Made today.
"""
    )


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


def test_markdown_links_lead_to_the_pictures(tmp_path):
    (tmp_path / "made").mkdir()
    document = rich_document(tmp_path / "made")
    directory = tmp_path / "reports" / "deep"
    (page,) = write_report(document, directory, ["md"])
    links = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", page.read_text(encoding="utf-8"))
    assert len(links) == 9
    assert all((directory / unquote(link)).is_file() and not Path(link).is_absolute() for link in links)


def test_rows_of_a_markdown_table_have_equally_many_cells(tmp_path):
    lines = render_markdown(rich_document(tmp_path), tmp_path).splitlines()
    tables = "\n".join(line if line.startswith("|") else "" for line in lines).strip().split("\n\n")
    for table in filter(None, map(str.strip, tables)):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
