"""What the site needs beyond MkDocs: the records and examples, which lie beside docs/, and formulas without network."""

import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
SHOWN = (".md", ".png", ".json", ".py", ".sh", ".yaml", ".toml")


def on_files(files: Files, config: Any) -> Files:
    """Add the files that pages link to outside of docs/."""
    for folder in ("experiments", "examples"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SHOWN and path.is_file():
                place = path.relative_to(ROOT).as_posix()
                files.append(File(place, str(ROOT), config.site_dir, use_directory_urls=False))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links between docs/ and its neighbours lead where the site has them; make MathML of $TeX$."""
    if page.file.src_uri.startswith("experiments/"):
        return markdown.replace("](../docs/", "](../")
    markdown = re.sub(r"\]\(\.\./(experiments|examples)/", r"](\1/", markdown)
    if page.file.src_uri == "evaluation.md":
        markdown = re.sub(r"\$([^$]+)\$", lambda found: convert(found[1]), markdown)
    return markdown
