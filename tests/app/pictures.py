"""Take the pictures of docs/app.md: `python -m tests.app.pictures docs/app`."""

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from keyframe.app.library import Model
from keyframe.data.demo import DemoSet, generate
from keyframe.data.labels import read_labels
from keyframe.types import FloatArray
from tests.app.conftest import RULE, Served, opened, serve_folder, until, video_id
from tests.conftest import chromium

DESK, PHONE = {"width": 1000, "height": 640}, {"width": 360, "height": 640}


def take(page, place: Path, **options) -> None:
    """Save what is seen as a small PNG."""
    page.wait_for_timeout(500)
    page.screenshot(path=str(place), **options)
    with Image.open(place) as image:
        image.convert("RGB").quantize(256, kmeans=3, dither=Image.Dither.NONE).save(place, optimize=True)


ANNOTATORS = ("Ann", "Bo", "Cy")  # the first three of the generated file's 20
# As of experiments/013_page, with fewer videos and epochs.
TRAINING = ["backbone=efficientnet_lite0", "sampling=fps", "logger=csv", "data.size=112", "trainer.max_epochs=4"]


def look_and_choose(browser: Browser, folder: Path, out: Path) -> None:
    """Score videos with two models, and look at the library and a video."""
    lite0 = replace(RULE.spec, features="lite0")
    seeing = Model("lite0", "with features of EfficientNet-Lite0", lite0, folder / "extract-lite0", ())
    (labels,) = folder.glob("*.tsv")
    served = serve_folder(folder / "videos", models=[seeing], labels=labels)
    try:
        ids = [video["id"] for video in served.json("library")["videos"]]
        served.json("score", {"videos": ids[:2]})
        served.json("score", {"videos": ids[1:2], "model": "lite0"})
        served.finish()
        one = video_id(served, "demo-0-001")
        with opened(browser, served, viewport=DESK) as page:
            until(
                page,
                "document.images.length === 4 && [...document.images].every((one) => one.naturalWidth || !one.src)",
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
            until(page, "[...document.querySelectorAll('#strip img')].every((one) => one.naturalWidth || !one.src)")
            take(page, out / "choose.png")
        with opened(browser, served, viewport=PHONE, color_scheme="dark") as page:
            page.goto(f"{served.address}/videos/{one}")
            page.wait_for_selector("#strip li")
            until(page, "document.querySelector('video').readyState >= 2")
            page.evaluate("document.querySelector('h1').scrollIntoView()")
            take(page, out / "phone.png")
    finally:
        served.close()


def label(served: Served, id: str, annotator: str, frames: FloatArray) -> None:
    """Label a video by requests, as its simulated annotator did, whose score (1 to 5) of each frame is given."""
    path = f"videos/{id}/shots"
    served.json(path, {"annotator": annotator, "order": "random"})
    served.json(path, {"annotator": annotator, "watched": True})
    state = served.json(f"{path}?annotator={annotator}")
    for number in state["order"]:
        shot = state["shots"][number]
        middle = int((shot["start"] + shot["end"]) / 2 / state["shots"][-1]["end"] * len(frames))
        served.json(path, {"annotator": annotator, "shot": number, "score": int(frames[middle])})


def label_and_train(browser: Browser, folder: Path, out: Path) -> None:
    """Label all videos but one, part of that by keyboard, and train on the labels."""
    labels = folder / "own.tsv"
    served = serve_folder(folder / "videos", labels=labels, runs=folder / "app", training=TRAINING)
    try:
        *labelled, (last, _) = read_labels(next(folder.glob("*-anno.tsv"))).items()
        for name, one in labelled:
            for annotator, scores in zip(ANNOTATORS, one.annotators, strict=False):
                label(served, video_id(served, name), annotator, np.rint(1 + 4 * scores))
        with opened(browser, served, viewport=DESK) as page:
            page.goto(f"{served.address}/videos/{video_id(served, last)}/label")
            page.fill("#name", ANNOTATORS[0])
            page.keyboard.press("Enter")
            until(page, "document.activeElement.id === 'play'")
            page.evaluate("document.querySelector('video').playbackRate = 8")
            page.keyboard.press("Enter")
            page.wait_for_selector("#rate:not([hidden])")
            for done, key in enumerate("21311214"):
                until(page, f"document.querySelector('#done').value === {done}")
                page.keyboard.press(key)
            until(page, "document.querySelector('#task').textContent.startsWith('Shot 9')")
            page.evaluate("document.querySelector('h1').scrollIntoView()")
            take(page, out / "label.png")
            page.goto(f"{served.address}/agreement")
            page.wait_for_selector("#rows tr")
            take(page, out / "agreement.png")
            page.goto(f"{served.address}/train")
            page.click("#start:enabled")
            page.wait_for_selector("progress")
            end = time.monotonic() + 1200
            while "(completed)" not in page.inner_text("#runs"):
                assert time.monotonic() < end, page.inner_text("#runs")
                page.wait_for_timeout(500)
            page.click("#runs summary")
            take(page, out / "train.png")
            page.goto(f"{served.address}/reports")
            page.wait_for_selector("#runs table")
            take(page, out / "reports.png")
    finally:
        served.close()


def main(out: Path) -> None:
    """Generate videos, and take the pictures of each page."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium())
        try:
            for work, videos in ((look_and_choose, 4), (label_and_train, 12)):
                demo = DemoSet(seed=0, videos=videos, shots=12)
                generate(Path(temporary), demo, 1)
                work(browser, demo.folder(Path(temporary)), out)
        finally:
            browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
