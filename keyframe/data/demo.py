"""The demo data set: generated videos in a TVSum-style directory, labelled as noisily as TVSum by 20 annotators."""

import json
import logging
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from scipy.ndimage import zoom
from scipy.stats import spearmanr
from tqdm import tqdm

from keyframe.data.labels import write_tsv
from keyframe.files import atomic_folder
from keyframe.system import cores, follow_parent
from keyframe.types import BoolArray, Float32Array, Float64Array, Int64Array, UInt8Array, check_number

SHOT_SECONDS = 2.0
# What a scene can show: patterns that differ in nothing but their form. The last one is worth nothing.
PATTERNS = ("stripes", "checks", "dots", "rings", "bricks", "waves", "clouds")
FILLER = PATTERNS.index("clouds")
# What can lie on it: no object, one that is worth something, and one that is not.
OBJECTS = ("none", "star", "disc")
OBJECT_SHARES = (0.5, 0.25, 0.25)
CAMERAS = {"still": (0, 0), "pan": (0, 1), "tilt": (1, 0), "drift": (1, 1)}
# The worth of a shot: of its object, of a change, and of what the video has not shown before.
STAR_WORTH = 0.6
CHANGE_WORTH = 1.0
APPEARANCE_WORTH = {1: 1.3, 2: 0.3}  # first and second appearance of a pattern; later ones have none
ANNOTATORS = 20
# Shares of the labels 1 to 5 in the official TVSum file (ydata-tvsum50.mat), frames of all videos weighted equally.
LABEL_SHARES = (0.46, 0.26, 0.16, 0.08, 0.04)
# Deviation of an annotator's own view, if the true importance has deviation 1. It gives two annotators the mean
# pairwise Spearman correlation of the official file, 0.20.
NOISE = 1.75
_SIZES = ((120, 160), (108, 192), (96, 128), (160, 120))  # (height, width)
_RATES = (Fraction(6), Fraction(8), Fraction(25, 3), Fraction(10))

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scenario:
    """The shots of one video, each `SHOT_SECONDS` long."""

    patterns: Int64Array  # int (S,), the pattern of the scene a shot belongs to, an index of `PATTERNS`
    objects: Int64Array  # int (S,), what lies on it, an index of `OBJECTS`
    importance: Float64Array  # float (S,), the true importance, any scale


def draw_scenario(rng: np.random.Generator, shots: int) -> Scenario:
    """Draw a scenario of at least 12 shots in which importance has nothing to do with position.

    Things must appear for a first time before they can come back, so chance alone would make early shots matter more;
    drafts whose importance follows position (or distance from the middle) are rejected.
    """
    position = np.arange(shots)
    while True:
        scenario = _draft(rng, shots)
        along = float(spearmanr(position, scenario.importance).statistic)
        outward = float(spearmanr(np.abs(position - position.mean()), scenario.importance).statistic)
        if abs(along) < 0.08 and abs(outward) < 0.15:
            return scenario


def _draft(rng: np.random.Generator, shots: int) -> Scenario:
    lengths: list[int] = []
    while sum(lengths) < shots:
        lengths.append(int(rng.integers(2, 5)))
    scenes = len(lengths)
    things = rng.permutation(FILLER)[: min(rng.integers(4, FILLER + 1), scenes)]
    debuts = dict(zip(sorted(rng.choice(scenes, len(things), replace=False)), things, strict=True))

    patterns: list[int] = []
    importance: list[float] = []
    seen: dict[int, int] = {}
    before = FILLER
    for scene, length in enumerate(lengths):
        if scene in debuts:
            pattern = int(debuts[scene])
        else:
            back = [p for p in [*seen, FILLER] if p != before]
            pattern = int(rng.choice(back)) if back else FILLER
        worth = 0.0
        if pattern != FILLER:
            seen[pattern] = seen.get(pattern, 0) + 1
            worth = APPEARANCE_WORTH.get(seen[pattern], 0.0)
        changed = pattern != before
        patterns += [pattern] * length
        importance += [worth + CHANGE_WORTH * (changed and shot == 0) for shot in range(length)]
        before = pattern
    objects = rng.choice(len(OBJECTS), shots, p=OBJECT_SHARES)
    star = objects == OBJECTS.index("star")
    return Scenario(np.array(patterns[:shots]), objects, np.array(importance[:shots]) + STAR_WORTH * star)


def draw_frames(
    rng: np.random.Generator, scenario: Scenario, camera: str, size: tuple[int, int], frames_per_shot: list[int]
) -> Iterator[UInt8Array]:
    """Yield the frames of a scenario, uint8 RGB (H, W, 3): a scene's pattern, maybe an object on it.

    Colours, light, scale, angle and noise are drawn anew for each shot and carry no meaning. `camera` is one of
    `CAMERAS`, `size` (height, width) in pixels.
    """
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    for pattern, thing, frames in zip(scenario.patterns, scenario.objects, frames_per_shot, strict=True):
        dark, bright, colour = _colours(rng)
        share = _pattern(rng, PATTERNS[pattern], (2 * height, 2 * width), height)[..., None]
        canvas = dark + (bright - dark) * share
        backdrop = np.clip(canvas + rng.normal(0, 5, canvas.shape), 0, 255).astype(np.uint8)
        drift = rng.uniform(-1, 1, 2) * CAMERAS[camera] * size / 2 / max(frames, 1)
        centre, step = rng.uniform(0.4, 0.6, 2) * size, rng.uniform(-1, 1, 2)
        radius, angle = rng.uniform(0.32, 0.38) * height, rng.uniform(0, 2 * np.pi)
        for frame in range(frames):
            top, left = (np.array(size) / 2 + drift * frame).astype(int)
            image = backdrop[top : top + height, left : left + width].copy()
            if thing:
                row, column = centre + step * frame
                image[_inside(OBJECTS[thing], rows - row, columns - column, radius, angle)] = colour
            yield image


def _colours(rng: np.random.Generator) -> Float64Array:
    """Three RGB colours, (3, 3): dark and bright ones that can be told apart, and any third."""
    while True:
        colours = rng.uniform(0, 255, (3, 3))
        dark, bright, _ = colours @ (0.299, 0.587, 0.114)
        if bright - dark > 70:
            return colours


def _inside(shape: str, rows: Float64Array, columns: Float64Array, radius: float, angle: float) -> BoolArray:
    distance = np.hypot(rows, columns)
    if shape == "disc":
        return np.asarray(distance < 0.75 * radius)
    # from a tip to a notch of a star's five arms, the edge goes from the radius to two fifths of it
    arm = np.abs((np.arctan2(rows, columns) + angle) % (2 * np.pi / 5) / (np.pi / 5) - 1)
    return np.asarray(distance < radius * (0.4 + 0.6 * arm**1.5))


def _pattern(rng: np.random.Generator, name: str, size: tuple[int, int], height: int) -> Float32Array:
    """Share of the bright colour, 0 to 1, float32 of shape `size`; `height` is that of a frame."""
    turn, period = rng.uniform(0, 2 * np.pi), rng.uniform(0.12, 0.2) * height
    rows, columns = (np.mgrid[: size[0], : size[1]] / period).astype(np.float32)
    along, across = rows * np.sin(turn) + columns * np.cos(turn), rows * np.cos(turn) - columns * np.sin(turn)
    if name == "stripes":
        share = 0.5 + 0.5 * np.sin(2 * np.pi * along)
    elif name == "checks":
        share = np.sin(np.pi * along) * np.sin(np.pi * across) > 0
    elif name == "dots":
        share = np.hypot(along % 1 - 0.5, across % 1 - 0.5) < 0.32
    elif name == "rings":
        middle = rng.uniform(0.4, 0.6, 2) * size / period
        share = 0.5 + 0.5 * np.sin(2 * np.pi * np.hypot(rows - middle[0], columns - middle[1]))
    elif name == "bricks":
        course = np.floor(across)
        share = ((across % 1) > 0.14) & (((along + 0.9 * (course % 2)) % 1.8) > 0.14)
    elif name == "waves":
        share = np.sin(2 * np.pi * (along + 0.45 * np.sin(np.pi * across))) > 0
    else:
        share = zoom(rng.uniform(0, 1, (size[0] // 12 + 2, size[1] // 12 + 2)), 12, order=1)[: size[0], : size[1]]
    return share.astype(np.float32)


def label(rng: np.random.Generator, importance: Float64Array) -> Int64Array:
    """Labels 1 to 5, shape (`ANNOTATORS`, S), for shots of true importance (S,)."""
    true = (importance - importance.mean()) / (importance.std() + 1e-9)
    views = true + NOISE * rng.standard_normal((ANNOTATORS, len(importance)))
    ranks = views.argsort(axis=1).argsort(axis=1) / len(importance)
    edges = np.cumsum(LABEL_SHARES)[:-1]
    # annotators differ in how generous they are
    shift = rng.normal(0.0, 0.05, (ANNOTATORS, 1))
    labels: Int64Array = 1 + np.stack([np.searchsorted(edges, row) for row in ranks + shift])
    return labels


@dataclass(frozen=True)
class DemoSet:
    """The settings of a demo data set; equal values give equal videos and labels."""

    seed: int = 0
    videos: int = 120
    shots: int = 28  # of the shortest video, each of `SHOT_SECONDS`; the longest has a sixth more
    format: int = 3  # version of the generator, raised if the same seed gives other videos

    def __post_init__(self) -> None:
        check_number("data.seed", self.seed, 0)
        check_number("data.videos", self.videos, 1)
        check_number("data.shots", self.shots, 12)  # in fewer shots nothing can come back

    def folder(self, root: Path) -> Path:
        """Where the set lies, or will lie, under `root`."""
        return root / f"demo-seed{self.seed}-{self.videos}x{self.shots}-v{self.format}"


def generate(root: Path, demo: DemoSet, workers: int | None = None) -> Path:
    """Make the data set under `root` unless it is there, and return its directory, an atomic folder."""
    directory = demo.folder(root)
    if directory.is_dir():
        return directory
    log.info("Generating %d demo videos (seed %d) in %s", demo.videos, demo.seed, directory)
    try:
        with atomic_folder(directory) as draft:
            _write(draft, demo, workers or cores())
    except OSError:
        if not directory.is_dir():  # else another process was first, with the same videos
            raise
    return directory


def begin(demo: DemoSet, number: int) -> tuple[np.random.Generator, Scenario]:
    """The scenario of a set's video, and the random generator, of this video alone, to label and draw it with."""
    rng = np.random.default_rng((demo.seed, number))
    shots = int(rng.integers(demo.shots, demo.shots * 7 // 6 + 1))
    return rng, draw_scenario(rng, shots)


def camera_of(number: int) -> str:
    """The camera of a set's video, its category: one of `CAMERAS`."""
    return list(CAMERAS)[number % len(CAMERAS)]


def _write(directory: Path, demo: DemoSet, workers: int) -> None:
    (directory / "videos").mkdir()
    ids = [f"demo-{demo.seed}-{number:03d}" for number in range(demo.videos)]
    cameras = [camera_of(number) for number in range(demo.videos)]
    jobs = [(directory / "videos" / f"{name}.mp4", demo, number) for number, name in enumerate(ids)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), context, follow_parent) as pool:
        labels = list(tqdm(pool.map(_make_video, jobs), "Generating", len(jobs), unit="video", disable=None))
    annotators, categories = dict(zip(ids, labels, strict=True)), dict(zip(ids, cameras, strict=True))
    write_tsv(directory / "ydata-tvsum50-anno.tsv", annotators, categories)
    (directory / "demo.json").write_text(json.dumps(asdict(demo)) + "\n")


def _make_video(job: tuple[Path, DemoSet, int]) -> Int64Array:
    """Write one video; returns the annotators' label of every frame, (A, N)."""
    path, demo, number = job
    rng, scenario = begin(demo, number)
    labels = label(rng, scenario.importance)
    size = _SIZES[rng.integers(len(_SIZES))]
    rate = _RATES[rng.integers(len(_RATES))]
    edges = np.round(np.arange(len(scenario.importance) + 1) * SHOT_SECONDS * float(rate)).astype(int)
    lengths = np.diff(edges)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "24", "bf": "2", "g": "50", "threads": "1"}
        stream.options["x264-params"] = "mbtree=0"  # with AVX-512, mbtree gives other pictures each time
        for image in draw_frames(rng, scenario, camera_of(number), size, lengths.tolist()):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return labels.repeat(lengths, axis=1)
