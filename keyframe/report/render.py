"""One document, three files."""

from collections.abc import Sequence
from pathlib import Path

from keyframe.files import write_text
from keyframe.report.document import Document
from keyframe.report.html import render_html
from keyframe.report.markdown import render_markdown
from keyframe.report.text import render_text

__all__ = ["render_html", "render_markdown", "render_text", "write_report"]


def write_report(
    document: Document, directory: Path, forms: Sequence[str] = ("txt", "md", "html"), name: str = "report"
) -> list[Path]:
    """Write `<name>.txt`, `<name>.md` and `<name>.html`; each appears whole, and none before all are rendered.

    Args:
        document: the report.
        directory: made where it is missing.
        forms: which of txt, md and html.
        name: the files' name without its suffix.

    Returns:
        The files, in the order of `forms`.

    Raises:
        ValueError: a form is none of the three.
        FileNotFoundError: a picture is not there.
    """
    renderings = {
        "txt": render_text,
        "md": lambda document: render_markdown(document, directory),
        "html": render_html,
    }
    if unknown := set(forms) - set(renderings):
        raise ValueError(f"a report is written as {', '.join(renderings)}, not as {', '.join(sorted(unknown))}")
    pages = {directory / f"{name}.{form}": renderings[form](document) for form in forms}
    directory.mkdir(parents=True, exist_ok=True)
    for path, page in pages.items():
        write_text(path, page)
    return list(pages)
