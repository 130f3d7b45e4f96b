"""Take the pictures of docs/app.md: `python -m tests.app.pictures docs/app`."""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from keyframe.app.library import Model
from keyframe.data.demo import DemoSet, generate
from tests.app.conftest import RULE, opened, serve_folder, until, video_id
from tests.conftest import chromium

DESK, PHONE = {"width": 1000, "height": 640}, {"width": 360, "height": 640}


def take(page, place: Path, **options) -> None:
    """Save what is seen as a small PNG."""
    page.wait_for_timeout(500)
    page.screenshot(path=str(place), **options)
    with Image.open(place) as image:
        image.convert("RGB").quantize(256, kmeans=3, dither=Image.Dither.NONE).save(place, optimize=True)


def main(out: Path) -> None:
    """Generate videos, score them with two models, and look at each page."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as driver:
        demo = DemoSet(seed=0, videos=4, shots=12)
        generate(Path(temporary), demo, 1)
        folder = demo.folder(Path(temporary))
        lite0 = replace(RULE.spec, features="lite0")
        seeing = Model("lite0", "with features of EfficientNet-Lite0", lite0, folder / "extract-lite0", ())
        (labels,) = folder.glob("*.tsv")
        served = serve_folder(folder / "videos", models=[seeing], labels=labels)
        browser = driver.chromium.launch(executable_path=chromium())
        try:
            ids = [video["id"] for video in served.json("library")["videos"]]
            served.json("score", {"videos": ids[:2]})
            served.json("score", {"videos": ids[1:2], "model": "lite0"})
            served.finish()
            one = video_id(served, "demo-0-001")
            with opened(browser, served, viewport=DESK) as page:
                until(
                    page, "[...document.images].length === 4 && [...document.images].every((one) => one.naturalWidth)"
                )
                take(page, out / "library.png")
                page.goto(f"{served.address}/videos/{one}")
                page.wait_for_selector("#strip li")
                until(page, "document.querySelector('video').readyState >= 2")
                page.evaluate("document.querySelector('video').currentTime = 9")
                page.evaluate("document.querySelector('h1').scrollIntoView()")
                take(page, out / "look.png")
                page.select_option("[name=method]", "top")
                page.fill("[name=k]", "6")
                until(page, "document.querySelectorAll('#strip li').length === 6")
                page.click("summary")
                page.evaluate("document.querySelector('#choose').scrollIntoView()")
                until(page, "[...document.querySelectorAll('#strip img')].every((one) => one.naturalWidth)")
                take(page, out / "choose.png")
            with opened(browser, served, viewport=PHONE, color_scheme="dark") as page:
                page.goto(f"{served.address}/videos/{one}")
                page.wait_for_selector("#strip li")
                until(page, "document.querySelector('video').readyState >= 2")
                page.evaluate("document.querySelector('h1').scrollIntoView()")
                take(page, out / "phone.png")
        finally:
            browser.close()
            served.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
