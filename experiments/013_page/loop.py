"""The whole loop through the page's own requests: three simulated annotators label generated videos, a model trains.

    python experiments/013_page/loop.py outputs/013_page

It starts `keyframe-app`, labels, trains and scores only by requests to it, and writes `figures.json`.
"""

import csv
import http.client
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keyframe.data.demo import DemoSet, generate
from keyframe.data.labels import read_labels

ANNOTATORS = ("Ann", "Bo", "Cy")  # the first three of the generated file's 20
DEMO = DemoSet(seed=21, videos=40, shots=16)


class Page:
    """Requests to a `keyframe-app`, started with some arguments."""

    def __init__(self, arguments: list[str]) -> None:
        command = [sys.executable, "-c", "from keyframe.cli.main import app; app()", *arguments, "open=false"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        found = None
        while found is None:
            line = self.process.stdout.readline() or sys.exit("keyframe-app has ended")
            print(line, end="", flush=True)
            found = re.search(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", line)
        self.port, token = int(found[1]), found[2]
        self.headers = {"Cookie": f"keyframe-{self.port}={token}"}

    def ask(self, path: str, body: dict | None = None) -> dict:
        """The answer to a request, a POST if it has a body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        content = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", f"/api/{path}", content, self.headers)
        answer = connection.getresponse()
        found = json.loads(answer.read())
        if answer.status != 200:
            raise SystemExit(f"{path}: {found}")
        return found


def label(page: Page, video: dict, annotator: str, frames: np.ndarray) -> None:
    """Label a video as its simulated annotator did, whose score of each frame is given."""
    path = f"videos/{video['id']}/shots"
    page.ask(path, {"annotator": annotator, "order": "random"})
    page.ask(path, {"annotator": annotator, "watched": True})
    state = page.ask(f"{path}?annotator={annotator}")
    for number in state["order"]:
        shot = state["shots"][number]
        middle = int((shot["start"] + shot["end"]) / 2 / state["shots"][-1]["end"] * len(frames))
        page.ask(path, {"annotator": annotator, "shot": number, "score": int(frames[middle])})


def wait(seconds: float, done: Callable[[], bool]) -> None:
    """Look every so many seconds, until something is so."""
    while not done():
        time.sleep(seconds)


def main(folder: Path) -> None:
    """Run everything below a folder."""
    videos = generate(folder, DEMO)
    truth = read_labels(videos / "ydata-tvsum50-anno.tsv")
    settings = ["backbone=efficientnet_lite0", "sampling=fps", "logger=csv", "data.size=112", "trainer.max_epochs=13"]
    names = [f"output={folder / 'extract'}", f"folder={folder / 'app'}", f"labels={folder / 'labels.tsv'}"]
    page = Page([str(videos / "videos"), *names, f"runs={folder}", f"training={' '.join(settings)}"])
    try:
        found = {Path(video["name"]).stem: video for video in page.ask("library")["videos"]}
        began = time.monotonic()
        for name, one in truth.items():
            for annotator, scores in zip(ANNOTATORS, one.annotators, strict=False):
                label(page, found[name], annotator, np.rint(1 + 4 * scores))
        seconds = time.monotonic() - began
        ratings = sum("score" in json.loads(line) for line in (folder / "labels.tsv.journal").open())
        agreement = page.ask("agreement")
        page.ask("training", {"start": True})
        wait(2, lambda: page.ask("training")["runs"][0]["state"] not in ("starting", "running"))
        run = page.ask("training")["runs"][0]
        if run["state"] != "completed":
            raise SystemExit("\n".join(run["lines"]))
        metrics = json.loads((Path(run["run"]) / "metrics.json").read_text())
        with (Path(run["run"]) / "per_video.csv").open(newline="") as table:
            tested = [row["video"] for row in csv.DictReader(table)][:4]
        models = page.ask("library")["models"]
        ids = [found[name]["id"] for name in tested]
        for model in models:
            page.ask("score", {"videos": ids, "model": model["id"]})
        wait(1, lambda: all(one["state"] in ("done", "failed") for one in page.ask("tasks")["tasks"]))
        curves = {
            name: {one["name"]: one["spearman"] for one in page.ask(f"videos/{found[name]['id']}/curves")["curves"]}
            for name in tested
        }
        figures = {
            "videos": len(truth),
            "ratings": ratings,
            "seconds of labelling": round(seconds, 1),
            "agreement": agreement["all"],
            "test": {key: value for key, value in metrics.items() if key.startswith("test/")},
            "curves": curves,
        }
        (folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
        print(json.dumps(figures, indent=2))
    finally:
        page.process.terminate()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
