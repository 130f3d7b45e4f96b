"""The page as a browser shows it: on a phone and on a desk, in the light and in the dark."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from html import unescape

import pytest

from keyframe.report import write_report
from tests.report.example import rich_document

WIDTHS = {"phone": 360, "desk": 1280, "long": 360}
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")

# Loads the report at both widths and writes what it measures into the page that Chromium then prints.
PROBE = """<!doctype html><html><head><style>:root { color-scheme: THEME } iframe { border: 0 }</style></head><body>
<iframe name="phone" src="report.html" width="360" height="800"></iframe>
<iframe name="desk" src="report.html" width="1280" height="800"></iframe>
<iframe name="long" src="long.html" width="360" height="800"></iframe>
<pre id="measured"></pre>
<script>
const TEXTS = [".lead", "section > p", "li", "h1", "h2", "thead th", "tbody th", "td", "figcaption", ".caption",
  ".none", "nav a", "footer p"];
addEventListener("load", () => {
  const measured = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, look = (element) => frame.contentWindow.getComputedStyle(element);
    const boxed = (element) => element.closest(".scroll table");
    const all = [...page.body.querySelectorAll("*")];
    measured[frame.name] = {
      width: page.documentElement.scrollWidth,
      outside: all.filter((one) => !boxed(one) && one.getBoundingClientRect().right > frame.width)
        .map((one) => one.outerHTML.slice(0, 80)),
      tables: [...page.querySelectorAll(".scroll")].map((box) => [box.scrollWidth, box.clientWidth]),
      pictures: [...page.images].map((one) => [one.complete, one.naturalWidth, one.getBoundingClientRect().width]),
      columns: new Set([...page.querySelectorAll(".gallery figure")].map((one) => one.offsetLeft)).size,
      headings: page.querySelectorAll("h1, h2").length,
      paper: look(page.body).backgroundColor,
      plot: look(page.querySelector("section > figure img")).backgroundColor,
      inks: Object.fromEntries(TEXTS.map((name) => [name, look(page.querySelector(name)).color])),
    };
  }
  document.getElementById("measured").textContent = JSON.stringify(measured);
});
</script></body></html>
"""


@pytest.fixture(scope="module", params=["light", "dark"])
def seen(request, tmp_path_factory):
    """The theme, what was measured at each width, and what the browser complained about."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"no Chromium on PATH (looked for {', '.join(PROGRAMS)})")
    folder = tmp_path_factory.mktemp("page")
    document = rich_document(folder)
    write_report(document, folder, ["html"])
    write_report(unbroken(document), folder, ["html"], name="long")
    (folder / "probe.html").write_text(PROBE.replace("THEME", request.param))
    options = ["headless", "no-sandbox", "disable-gpu", "hide-scrollbars", "enable-logging=stderr", "dump-dom"]
    options += ["allow-file-access-from-files", f"user-data-dir={folder / 'profile'}"]
    options += [f"blink-settings=preferredColorScheme={int(request.param == 'light')}"]
    done = subprocess.run(
        [program, *(f"--{option}" for option in options), (folder / "probe.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    shutil.rmtree(folder / "profile", ignore_errors=True)
    _, _, measured = done.stdout.partition('<pre id="measured">')
    assert measured, done.stderr
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return request.param, json.loads(unescape(measured.partition("</pre>")[0])), complaints


def unbroken(part):
    """The same document with one endless word wherever a text stands."""
    if isinstance(part, str):
        return "endless" * 60
    if isinstance(part, Mapping):
        return {f"{name}{'endless' * 60}": unbroken(cell) for name, cell in part.items()}
    if isinstance(part, Sequence):
        return [unbroken(one) for one in part]
    if is_dataclass(part):
        return replace(part, **{field.name: unbroken(getattr(part, field.name)) for field in fields(part)})
    return part


def channels(colour):
    """`rgb(1, 2, 3)` -> (1, 2, 3)."""
    return tuple(float(value) for value in colour[colour.index("(") + 1 : -1].split(","))[:3]


def luminance(colour):
    """Relative luminance, WCAG 2.2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in channels(colour))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """Contrast ratio, WCAG 2.2: 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_browser_has_nothing_to_complain_about(seen):
    assert seen[2] == []


@pytest.mark.parametrize("page", WIDTHS)
def test_the_page_never_scrolls_sideways(seen, page):
    width, page = WIDTHS[page], seen[1][page]
    assert page["headings"] == 6
    assert page["width"] == width
    assert page["outside"] == []


def test_a_wide_table_scrolls_in_its_own_box(seen):
    inside, box = seen[1]["phone"]["tables"][0]
    assert inside > 2 * box
    assert box <= WIDTHS["phone"]


@pytest.mark.parametrize("page", WIDTHS)
def test_every_picture_is_decoded_and_shown(seen, page):
    pictures = seen[1][page]["pictures"]
    assert [natural for _, natural, _ in pictures] == [900] + [320] * 8
    assert all(complete and shown > 100 for complete, _, shown in pictures)


def test_the_gallery_has_two_columns_on_a_phone(seen):
    assert seen[1]["phone"]["columns"] == 2
    assert seen[1]["desk"]["columns"] >= 4


def test_the_theme_is_the_readers_and_every_text_is_legible(seen):
    theme, pages, _ = seen
    page = pages["desk"]
    if theme == "dark":
        assert luminance(page["paper"]) < 0.02
    else:
        assert luminance(page["paper"]) > 0.9
    assert channels(page["plot"]) == (255, 255, 255)
    weak = {name: colour for name, colour in page["inks"].items() if contrast(colour, page["paper"]) < 4.5}
    assert not weak
    assert contrast(page["inks"]["section > p"], page["paper"]) > 7


def test_contrast_is_that_of_the_standard():
    """WCAG's own ends, and #767676 on white, its well-known 4.54."""
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)
    assert contrast("rgb(118, 118, 118)", "rgb(255, 255, 255)") == pytest.approx(4.54, abs=0.005)
