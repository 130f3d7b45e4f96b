"""What keyframe-extract finds in six kinds of video, now and at another commit: a table and contact sheets.

    git worktree add /tmp/before 6f097ed
    python experiments/012_extraction/sheets.py ../shared /tmp/before outputs/extraction

The third folder gets the generated videos, the results, `counts.md` and `<kind>.jpg`: the contact sheets before and
after, side by side. Of the shared clips only those under CC0 and CC BY are on a sheet.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

ROOT = Path(__file__).parents[2]
Pixels = npt.NDArray[np.uint8]
# File, first and last second: scenes that stand for the films. The first six are under CC0 (MDN) and CC BY (Big Buck
# Bunny, Blender Foundation).
SCENES = [
    ("flower.mp4", 0, 5), ("friday.mp4", 0, 5), ("bbb_vp8.webm", 7.5, 11.5), ("frog.webm", 3, 8),
    ("bbb_vp8.webm", 17, 22), ("bbb_vp8.webm", 24, 29), ("chaplin.mp4", 0, 5), ("bikes.mp4", 5.5, 7.3),
    ("psd_testvideo.mp4", 8, 11), ("psd_testvideo.mp4", 19, 22), ("tc_nasa.mp4", 0, 5),
]  # fmt: skip
EDITS = 10


def write(path: Path, frames: Iterable[Pixels], fps: float, codec: str = "libx264", **options: str) -> None:
    """Write RGB pictures (height, width, 3) as a video, unless it is there."""
    if path.exists():
        return
    draft = path.with_name(f"draft-{path.name}")
    with av.open(str(draft), "w") as output:
        stream = None
        for pixels in frames:
            if stream is None:
                stream = output.add_stream(codec, rate=Fraction(fps), options=options)
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = "yuv420p"
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        output.mux(stream.encode(None))
    draft.rename(path)


def camera(people: list[float], noise: float, seconds: int = 600) -> Iterator[Pixels]:
    """A room at 4 frames per second; a person of .42 % of the picture crosses it in 5 s."""
    rng = np.random.default_rng(1)
    room = gaussian_filter(rng.normal(size=(180, 320)), 10)
    room = 110 + 30 * room / room.std()
    for _ in range(40):
        top, left, height, width = rng.integers((0, 0, 5, 5), (180, 320, 60, 60))
        room[top : top + height, left : left + width] += 0.5 * rng.integers(-100, 100)
    grain = rng.normal(0, noise, (8, *room.shape)).astype(np.float32)
    for number in range(4 * seconds):
        picture = room.clip(0, 255).astype(np.float32)
        for start in people:
            if start <= number / 4 < start + 5:
                at = int(20 + 50 * (number / 4 - start))
                person = picture[90:112, at : at + 11]
                picture[90:112, at : at + 11] = np.where(person > 120, person - 70, person + 70)
        picture += np.roll(grain[number % 8], tuple(rng.integers(0, 150, 2)), (0, 1))
        yield np.repeat(picture.clip(0, 255).astype(np.uint8)[..., None], 3, 2)


def talk() -> Iterator[Pixels]:
    """14 slides of 12 s at 5 frames per second, and in a corner a speaker who moves now and then."""
    rng = np.random.default_rng(3)
    head, arm = (1100, 510), (1030, 560)
    for _ in range(14):
        slide = lines_of(rng)
        for _ in range(60):
            picture = slide.copy()
            draw = ImageDraw.Draw(picture)
            if rng.random() < 0.3:
                head = (1100 + int(rng.normal(0, 8)), 510 + int(rng.normal(0, 8)))
            if rng.random() < 0.15:
                arm = (int(rng.integers(1010, 1270)), int(rng.integers(500, 640)))
            draw.rectangle((1000, 480, 1280, 720), (90, 110, 100))
            draw.ellipse((*head, head[0] + 70, head[1] + 90), (210, 170, 150))
            draw.rectangle((head[0] - 30, head[1] + 90, head[0] + 100, 720), (60, 50, 80))
            draw.line((head[0] + 35, head[1] + 130, *arm), (60, 50, 80), 22)
            yield np.asarray(picture)


def lines_of(rng: np.random.Generator) -> Image.Image:
    """A slide of a title and some lines."""
    words = ["model", "frame", "video", "label", "score", "shot", "scene", "light", "noise", "time"]
    slide = Image.new("RGB", (1280, 720), "white")
    draw = ImageDraw.Draw(slide)
    for line in range(int(rng.integers(4, 8))):
        size, top = (40, 30) if line == 0 else (26, 60 + 70 * line)
        draw.text((60, top), " ".join(rng.choice(words, 6)), "black", ImageFont.load_default(size))
    return slide


def short_slides() -> Iterator[Pixels]:
    """At 10 frames per second, 17 slides, of 4.1 s and .6 s by turns."""
    rng = np.random.default_rng(6)
    for number in range(17):
        slide = np.asarray(lines_of(rng))
        for _ in range(6 if number % 2 else 41):
            yield slide


def scene(clips: Path, name: str, start: float, end: float) -> list[Pixels]:
    """12 frames per second of a clip."""
    found: list[Pixels] = []
    with av.open(str(clips / name)) as file:
        for frame in file.decode(video=0):
            if frame.time >= end:
                break
            if frame.time >= start + len(found) / 12:
                found.append(frame.to_ndarray(format="rgb24", width=320, height=180))
    return found


def edit(scenes: list[list[Pixels]], seed: int) -> tuple[list[Pixels], list[float]]:
    """Scenes joined by cuts and dissolves of a second, and where each begins, in seconds."""
    rng, joined, starts = np.random.default_rng(seed), list[Pixels](), list[float]()
    for frames in scenes:
        starts.append(len(joined) / 12)
        if joined and rng.random() < 0.5:
            share = np.linspace(0, 1, 14)[1:-1, None, None, None]
            mixed = (1 - share) * joined[-12:] + share * frames[:12]
            joined[-12:], frames = list(mixed.astype(np.uint8)), frames[12:]
            starts[-1] -= 0.5
        joined += frames
    return joined, starts


def broadcast(path: Path) -> None:
    """Interlaced MPEG-2 of 25 frames per second: a ball flies, at 4 s the picture changes from 4:3 to 16:9."""
    if path.exists():
        return
    parts = []
    for wide in (False, True):
        part = path.with_name(f"part{wide:d}.m2v")
        with av.open(str(part), "w") as output:
            stream = output.add_stream("mpeg2video", rate=25, options={"flags": "+ildct+ilme", "b": "3000k", "g": "12"})
            stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
            stream.sample_aspect_ratio = Fraction(64, 45) if wide else Fraction(16, 15)
            for number in range(100):
                fields = []
                for half in (0, 1):
                    image = Image.new("RGB", (720, 576), (30, 90, 160) if wide else (40, 120, 50))
                    draw, at = ImageDraw.Draw(image), 60 + (2 * number + half) * 12 % 560
                    size = 100 * 45 // 64 if wide else 100 * 15 // 16
                    draw.ellipse((at, 240, at + size, 340), (250, 250, 250))
                    draw.text((40, 40), "16:9" if wide else "4:3", (255, 220, 0), ImageFont.load_default(60))
                    fields.append(np.asarray(image))
                woven = fields[0].copy()
                woven[1::2] = fields[1][1::2]
                frame = av.VideoFrame.from_ndarray(woven).reformat(format="yuv420p", interpolation="POINT")
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        parts.append(part)
    path.write_bytes(b"".join(part.read_bytes() for part in parts))


def extract(tree: Path, videos: list[Path], out: Path, *keys: str) -> None:
    """Find keyframes by the code of a tree; what has been done in that folder is not done again."""
    code = "from keyframe.cli.main import extract; extract()"
    command = [sys.executable, "-c", code, *map(str, videos), f"output={out}", "workers=1", "threads=1", *keys]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(tree)}, cwd=out.parent, check=False)


def keyframes(video: Path, out: Path) -> list[float]:
    """Their seconds; none if extraction failed."""
    summary = out / video.stem / "summary.json"
    return [one["seconds"] for one in json.loads(summary.read_text())["keyframes"]] if summary.exists() else []


def side_by_side(sheets: list[Path], path: Path) -> None:
    """Two contact sheets, before and after, 400 pixels wide each; a failure is an empty half."""
    images = [Image.open(one) if one.exists() else Image.new("RGB", (400, 225), "white") for one in sheets]
    images = [
        image.resize((400, round(image.height * 400 / image.width)), Image.Resampling.LANCZOS) for image in images
    ]
    page = Image.new("RGB", (810, 24 + max(image.height for image in images)), "white")
    for number, (title, image) in enumerate(zip(("before", "now"), images, strict=True)):
        page.paste(image, (410 * number, 24))
        ImageDraw.Draw(page).text((410 * number + 8, 3), title, (0, 0, 0), ImageFont.load_default(15))
    page.save(path, quality=72)


def main(shared: Path, before: Path, out: Path) -> None:
    """Draw, extract by both trees, write the counts and the sheets."""
    made, faults = out / "videos", shared / "faults" / "clips"
    made.mkdir(parents=True, exist_ok=True)
    write(made / "camera.mp4", camera([120, 400], 4), 4, crf="26", preset="ultrafast", g="50")
    write(made / "still.mp4", camera([], 6), 4, crf="28", preset="ultrafast", g="50")
    busy = [3.0 + 7 * number for number in range(12)]
    write(made / "busy.mp4", camera(busy, 4, 90), 4, crf="26", preset="ultrafast", g="50")
    write(made / "short.mp4", short_slides(), 10, crf="26", preset="veryfast")
    write(made / "talk.mp4", talk(), 5, crf="26", preset="veryfast")
    broadcast(made / "broadcast.m2v")
    scenes = [scene(shared / "clips", *one) for one in SCENES]
    edits = []
    for seed in range(EDITS):
        order = range(6) if seed == 0 else np.random.default_rng(seed).permutation(len(scenes))[:7].tolist()
        frames, starts = edit([scenes[place] for place in order], seed)
        write(made / f"edit{seed}.mp4", frames, 12, crf="23")
        edits.append(("ten films of six or seven scenes", made / f"edit{seed}.mp4", starts))
    builds, phone = faults / "lecture_builds.mp4", faults / "turn_mid_recording.ts"
    # What, file, and the second at which each picture begins that is to be found.
    rows = [
        ("12 slides", faults / "lecture_12_slides.mp4", [20.0 * number for number in range(12)]),
        ("3 slides that build up: the finished ones", builds, [40.0, 48.0, 88.0, 96.0, 136.0]),
        ("screen, 8 pictures in 40 minutes", faults / "sparse_screen.webm", [0, 300, 301, 700, 1200, 1500, 2000, 2390]),
        ("fixed camera: the room, two people", made / "camera.mp4", [0, 120, 125, 400, 405]),
        ("ten minutes of a still picture with noise", made / "still.mp4", [0]),
        ("broadcast: 4:3, then 16:9", made / "broadcast.m2v", [0, 4]),
        *edits,
        ("14 slides beside a speaker who moves", made / "talk.mp4", [12.0 * number for number in range(14)]),
        ("camera seldom empty: the room, 12 people", made / "busy.mp4", [0, *(s for b in busy for s in (b, b + 5))]),
        ("17 slides, every other one for .6 s", made / "short.mp4", [n // 2 * 4.7 + n % 2 * 4.1 for n in range(17)]),
        ("the 18 steps of the 3 slides (`selection.steps=true`)", builds, [8.0 * number for number in range(18)]),
    ]  # fmt: skip
    trees = {"before": before, "now": ROOT}
    for name, tree in trees.items():
        extract(tree, [video for _, video, _ in rows[:-1]], out / name)
        steps = ["selection.steps=true"] if name == "now" else ["selection=top", "selection.k=18"]
        extract(tree, [builds], out / f"{name}-steps", *steps)
        extract(tree, [phone], out / name, "selection=uniform", "selection.k=4")
    table: dict[str, list[int]] = {}
    for what, video, starts in rows:
        steps = "-steps" if what.startswith("the 18 steps") else ""
        cells, wanted = [], len(starts)
        for name in trees:
            seconds = keyframes(video, out / f"{name}{steps}")
            found = np.unique(np.searchsorted(starts, np.array(seconds) + 1e-3, side="right"))
            if "the room" in what:  # around a person the room is empty
                found, wanted = np.unique(np.where(found % 2, 1, found)), 1 + len(starts) // 2
            if "build up" in what:
                found, wanted = found[found % 2 == 1], 3
            cells += [len(found), len(seconds)]
        row = [wanted, *cells]
        table[what] = [a + b for a, b in zip(table.get(what, [0] * len(row)), row, strict=True)]
    lines = ["| video | to be found | found before | keyframes | found now | keyframes |", "|---|---|---|---|---|---|"]
    lines += [f"| {what} | {' | '.join(map(str, row))} |" for what, row in table.items()]
    (out / "counts.md").write_text("\n".join(lines) + "\n")
    kinds = {"slides": rows[0][1], "screen": rows[2][1], "camera": rows[3][1], "film": edits[0][1], "phone": phone}
    for kind, video in (kinds | {"broadcast": rows[5][1]}).items():
        sheets = [out / name / video.stem / "contact_sheet.jpg" for name in trees]
        side_by_side(sheets, out / f"{kind}.jpg")


if __name__ == "__main__":
    main(*(Path(argument).absolute() for argument in sys.argv[1:4]))
