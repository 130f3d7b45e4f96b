"""How many keyframes of generated cameras, lectures and screens a person would want, and how many are found.

    python experiments/012_extraction/kinds.py outputs/kinds

The folder gets the videos, the results and `kinds.md`, a row for each: pictures wanted, how many of them a keyframe
shows, and how many keyframes there are, by default and with `selection=top` and `selection.k` of that number.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter
from sheets import ROOT, Pixels, extract, keyframes, write

WORDS = ["mirror", "bridge", "garden", "planet", "signal", "winter", "school", "budget", "market", "river"]
SIZE = (1280, 720)


def font(size: int) -> ImageFont.FreeTypeFont:
    """The font of Pillow itself."""
    return ImageFont.load_default(size)  # type: ignore[return-value]


def slide(seed: int, size: int = 30, lines: int = 5) -> Image.Image:
    """A title and lines of words."""
    rng, page = np.random.default_rng(seed), Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(page)
    draw.text((60, 36), " ".join(rng.choice(WORDS, 3)).title(), "black", font(44))
    for line in range(lines):
        draw.text((80, 130 + line * (size + 26)), " ".join(rng.choice(WORDS, 6)), "black", font(size))
    return page


def passers(busy: float, half: tuple[int, int] = (14, 45)) -> Iterator[Pixels]:
    """4 frames per second of a room that 8 people cross in 10 s each; somebody is in sight for a share of the time."""
    rng, (width, height) = np.random.default_rng(5), (640, 360)
    room = gaussian_filter(rng.normal(size=(height, width)), 20)
    room = 110 + 30 * room / room.std()
    for _ in range(40):
        top, left, tall, wide = rng.integers((0, 0, 20, 20), (height, width, 240, 240))
        room[top : top + tall, left : left + wide] += 0.5 * rng.integers(-100, 100)
    grain = rng.normal(0, 4, (2 * height, 2 * width))
    rows, columns = np.mgrid[:height, :width]
    for number in range(round(8 * 40 / busy)):
        person, since = divmod(number / 4, 10 / busy)
        picture = room.clip(10, 245)
        if since < 10:
            at = -20 + 68 * since if int(person) % 2 else 660 - 68 * since
            body = ((columns - at) / half[0]) ** 2 + ((rows - 170 - 12 * person) / half[1]) ** 2 < 1
            picture[body] = (20, 200, 40, 220, 60, 230, 30, 180)[int(person)]
        top, left = rng.integers(0, (height, width))
        picture = picture + grain[top : top + height, left : left + width]
        yield np.repeat(picture.clip(0, 255).astype(np.uint8)[..., None], 3, 2)


def lecture() -> Iterator[Pixels]:
    """8 slides of 8 s with a speaker, a pointer, a laser dot, a clock and a bar of progress, 4 frames per second."""
    rng = np.random.default_rng(21)
    speaker, pointer = np.array([150.0, 110.0]), np.array([400.0, 300.0])
    for number in range(256):
        page = slide(number // 32)
        draw = ImageDraw.Draw(page)
        speaker += 0.1 * (np.array([150, 110]) - speaker) + rng.normal(0, 9, 2)
        left, top = 960 + speaker[0], 480 + speaker[1]
        draw.rectangle((960, 480, 1260, 700), (90, 100, 110))
        draw.ellipse((left - 38, top - 70, left + 38, top + 30), (205, 170, 150))
        arm = rng.normal(0, 25, 2)
        draw.line((left, top + 40, left + 70 + arm[0], min(690, top + 20 + arm[1])), (60, 50, 80), 30)
        if rng.random() < 0.1:
            pointer = rng.uniform((50, 80), (900, 600))
        draw.polygon([(*pointer,), (pointer[0], pointer[1] + 20), (pointer[0] + 13, pointer[1] + 14)], "black")
        x, y = rng.uniform((150, 140), (800, 500))
        draw.ellipse((x - 7, y - 7, x + 7, y + 7), (255, 30, 30))
        draw.text((1100, 16), f"12:00:{number // 4:02}", (90, 90, 90), font(28))
        draw.rectangle((0, 708, 5 * number, 720), (40, 90, 200))
        yield np.asarray(page)


def small_type(size: int, line: bool) -> Iterator[Pixels]:
    """A page, of which a word or a line changes each 6 s, 8 times, 2 per second."""
    for number in range(96):
        page = slide(99, size, lines=8)
        draw, top = ImageDraw.Draw(page), 130 + 3 * (size + 26)
        draw.rectangle((80, top, 1280, top + size + 12), "white")
        words = ["model", "frame", "light", WORDS[number // 12], "noise"]
        if line:
            words = np.random.default_rng(number // 12).choice(WORDS, 6).tolist()
        draw.text((80, top), " ".join(words), "black", font(size))
        yield np.asarray(page)


def typing() -> Iterator[Pixels]:
    """3 files of code, typed for 30 s each and left for 10 s, with a cursor that blinks, 4 per second."""
    for file in range(3):
        rng, page = np.random.default_rng(file), Image.new("RGB", SIZE, (30, 30, 30))
        text = [" ".join(rng.choice(WORDS, int(rng.integers(2, 6)))) for _ in range(14)]
        for number in range(160):
            left, draw = round(min(1, number / 120) * sum(map(len, text))), ImageDraw.Draw(page)
            draw.rectangle((240, 0, 1280, 720), (30, 30, 30))
            for line, words in enumerate(text):
                draw.text((260, 40 + line * 36), words[:left], (210, 210, 210), font(22))
                if left <= len(words):
                    at = 260 + font(22).getlength(words[:left])
                    draw.rectangle(
                        (at, 40 + line * 36, at + 10, 68 + line * 36), (210,) * 3 if number % 4 < 2 else None
                    )
                    break
                left -= len(words)
            yield np.asarray(page)


def scroll() -> Iterator[Pixels]:
    """A page of 6 places, each shown for 6 s, scrolled for 2 s in between, 5 per second."""
    page = np.concatenate([np.asarray(slide(number, lines=9)) for number in range(6)])
    for place in range(6):
        for step in range(40):
            top = 576 * place + (max(0, step - 30) * 57 if place < 5 else 0)
            yield page[top : top + 720]


def popups() -> Iterator[Pixels]:
    """A page for 2 minutes, 4 per second; at 12, 32, 52 ... s a message in a corner for 4 s."""
    for number in range(480):
        page = slide(7)
        if 12 <= number / 4 % 20 < 16:
            draw = ImageDraw.Draw(page)
            draw.rounded_rectangle((880, 560, 1260, 690), 16, "#eef4ff", "#3366cc", 3)
            draw.text((900, 580), " ".join(np.random.default_rng(number // 80).choice(WORDS, 2)), "black", font(28))
        yield np.asarray(page)


def main(out: Path) -> None:
    """Draw, extract, count."""
    made, spans = out / "videos", dict[str, tuple[str, list[tuple[float, float]]]]()
    made.mkdir(parents=True, exist_ok=True)

    def add(name: str, what: str, frames: Iterator[Pixels], fps: float, wanted: list[tuple[float, float]]) -> None:
        write(made / f"{name}.mp4", frames, fps, crf="28", preset="ultrafast")
        spans[name] = what, wanted

    for busy in (0.5, 0.67, 0.8, 0.95):
        people = [(number * 10 / busy, number * 10 / busy + 10) for number in range(8)]
        add(f"camera{busy}", f"8 people pass a camera, {busy:.0%} of the time", passers(busy), 4, people)
    eight = [(8.0 * number, 8.0 * number + 8) for number in range(8)]
    add("lecture", "8 slides, a speaker, pointer, laser dot, clock and bar", lecture(), 4, eight)
    six = [(6.0 * number, 6.0 * number + 6) for number in range(8)]
    for size, line in ((40, False), (32, False), (26, False), (24, True), (18, True)):
        what = f"8 times another {'line' if line else 'word'} of {size}-pixel type"
        add(f"type{size}{line:d}", what, small_type(size, line), 2, six)
    add(
        "typing",
        "3 files of code, typed",
        typing(),
        4,
        [(40.0 * number + 30, 40.0 * number + 40) for number in range(3)],
    )
    add(
        "scroll",
        "a page scrolled to 6 places",
        scroll(),
        5,
        [(8.0 * number, 8.0 * number + 6.2) for number in range(6)],
    )
    add(
        "popups", "6 messages on a page", popups(), 4, [(20.0 * number + 12, 20.0 * number + 16) for number in range(6)]
    )
    videos = [made / f"{name}.mp4" for name in spans]
    extract(ROOT, videos, out / "default")
    lines = ["| video | wanted | found | keyframes | found with k | keyframes |", "|---|---|---|---|---|---|"]
    for video in videos:
        what, wanted = spans[video.stem]
        extract(ROOT, [video], out / "k", "selection=top", f"selection.k={len(wanted)}")
        cells = [len(wanted)]
        for folder in ("default", "k"):
            seconds = np.array(keyframes(video, out / folder))
            cells += [sum(bool(((seconds >= start) & (seconds < end)).any()) for start, end in wanted), len(seconds)]
        lines.append(f"| {what} | {' | '.join(map(str, cells))} |")
    (out / "kinds.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
