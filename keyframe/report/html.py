"""A document as one HTML file that needs nothing else: no network, no script, pictures inside."""

import base64
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from keyframe.report.characters import paragraphs, printable
from keyframe.report.document import PICTURE_TYPES, Document, Gallery, Notes, Picture, Table, Text


def render_html(document: Document) -> str:
    """The whole page; every text in it is escaped.

    Raises:
        FileNotFoundError: a picture is not there.
    """
    return printable(_template().render(document=document))


@cache
def _template() -> Template:
    page = Path(__file__).with_name("page.html")
    environment = Environment(
        loader=FileSystemLoader(page.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"paragraphs": paragraphs, "data_uri": _data_uri}
    for kind in (Text, Notes, Table, Picture, Gallery):
        environment.tests[kind.__name__.lower()] = lambda block, kind=kind: isinstance(block, kind)
    return environment.get_template(page.name)


def _data_uri(path: Path) -> str:
    return f"data:{PICTURE_TYPES[path.suffix.lower()]};base64,{base64.b64encode(path.read_bytes()).decode()}"
