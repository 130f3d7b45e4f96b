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
from scipy.stats import spearmanr
from tqdm import tqdm

from keyframe.data.labels import write_tsv
from keyframe.files import atomic_folder
from keyframe.system import cores, follow_parent
from keyframe.types import BoolArray, Float32Array, Float64Array, Int64Array, UInt8Array, check_number

SHOT_SECONDS = 2.0
COLOURS = 6
FILLER = -1
STYLES = ("plain", "stripes", "checks", "clouds")

# The worth of a shot: of what it shows, of a change, and of what the video has not shown before.
DISC_WORTH = 0.6
CHANGE_WORTH = 1.0
APPEARANCE_WORTH = {1: 1.3, 2: 0.3}  # first and second appearance of a colour; later ones have none

ANNOTATORS = 20
# Shares of the labels 1 to 5 in the official TVSum file (ydata-tvsum50.mat), frames of all videos weighted equally.
LABEL_SHARES = (0.46, 0.26, 0.16, 0.08, 0.04)
# Deviation of an annotator's own view, if the true importance has deviation 1. It gives two annotators the mean
# pairwise Spearman correlation of the official file, 0.20.
NOISE = 1.75

_RGB = np.array([(205, 40, 40), (40, 160, 55), (45, 70, 205), (205, 185, 40), (175, 50, 185), (40, 175, 185)])
_GREY = (105, 105, 105)
_SIZES = ((120, 160), (108, 192), (96, 128), (160, 120))  # (height, width)
_RATES = (Fraction(6), Fraction(8), Fraction(25, 3), Fraction(10))

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scenario:
    """The shots of one video, each `SHOT_SECONDS` long.

    Attributes:
        colours: int (S,), the colour of the scene a shot belongs to, 0 to `COLOURS` - 1, or `FILLER` (grey).
        discs: bool (S,), whether a large bright disc is seen.
        importance: float (S,), the true importance, any scale.
    """

    colours: Int64Array
    discs: BoolArray
    importance: Float64Array


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
    things = rng.permutation(COLOURS)[: min(rng.integers(4, COLOURS + 1), scenes)]
    debuts = dict(zip(sorted(rng.choice(scenes, len(things), replace=False)), things, strict=True))

    colours: list[int] = []
    importance: list[float] = []
    seen: dict[int, int] = {}
    before = FILLER
    for scene, length in enumerate(lengths):
        if scene in debuts:
            colour = int(debuts[scene])
        else:
            back = [c for c in [*seen, FILLER] if c != before]
            colour = int(rng.choice(back)) if back else FILLER
        worth = 0.0
        if colour != FILLER:
            seen[colour] = seen.get(colour, 0) + 1
            worth = APPEARANCE_WORTH.get(seen[colour], 0.0)
        changed = colour != before
        colours += [colour] * length
        importance += [worth + CHANGE_WORTH * (changed and shot == 0) for shot in range(length)]
        before = colour
    discs = rng.random(shots) < 0.25
    return Scenario(np.array(colours[:shots]), discs, np.array(importance[:shots]) + DISC_WORTH * discs)


def draw_frames(
    rng: np.random.Generator, scenario: Scenario, style: str, size: tuple[int, int], frames_per_shot: list[int]
) -> Iterator[UInt8Array]:
    """Yield the frames of a scenario, uint8 RGB (H, W, 3): a textured backdrop in the scene's colour, maybe a disc.

    Light, texture, camera drift and noise differ from shot to shot and carry no meaning. `style` is one of `STYLES`,
    `size` (height, width) in pixels.
    """
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    for colour, disc, frames in zip(scenario.colours, scenario.discs, frames_per_shot, strict=True):
        base = np.array(_GREY if colour == FILLER else _RGB[colour], dtype=np.float32)
        light = rng.uniform(0.85, 1.1)
        canvas = light * base * _texture(rng, style, (2 * height, 2 * width))[..., None]
        backdrop = np.clip(canvas + rng.normal(0, 5, canvas.shape), 0, 255).astype(np.uint8)
        drift = rng.uniform(-1, 1, 2) * np.array(size) / 2 / max(frames, 1)
        centre, step = rng.uniform(0.35, 0.65, 2) * size, rng.uniform(-1, 1, 2)
        radius = rng.uniform(0.28, 0.34) * height
        for frame in range(frames):
            top, left = (np.array(size) / 2 + drift * frame).astype(int)
            image = backdrop[top : top + height, left : left + width].copy()
            if disc:
                row, column = centre + step * frame
                image[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = (250, 248, 235)
            yield image


def _texture(rng: np.random.Generator, style: str, size: tuple[int, int]) -> Float32Array:
    """Brightness around 1, shape `size`."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    period = rng.uniform(14, 30)
    if style == "stripes":
        angle = rng.uniform(0, np.pi)
        wave = np.sin(2 * np.pi * (rows * np.sin(angle) + columns * np.cos(angle)) / period)
        return (1 + 0.12 * wave).astype(np.float32)
    if style == "checks":
        return (1 + 0.1 * np.sign(np.sin(rows / period * 6.28) * np.sin(columns / period * 6.28))).astype(np.float32)
    if style == "clouds":
        coarse = rng.normal(0, 0.1, (size[0] // 16 + 1, size[1] // 16 + 1))
        return (1 + np.kron(coarse, np.ones((16, 16)))[: size[0], : size[1]]).astype(np.float32)
    return np.ones(size, dtype=np.float32)


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
    """The settings of a demo data set; equal values give equal videos and labels.

    `shots` is the length of the shortest video in 2-second shots; the longest has a sixth more. `format` is the version
    of the generator, raised if the same seed gives other videos.
    """

    seed: int = 0
    videos: int = 120
    shots: int = 36
    format: int = 2

    def __post_init__(self) -> None:
        check_number("data.seed", self.seed, 0)
        check_number("data.videos", self.videos, 1)
        check_number("data.shots", self.shots, 12)  # in fewer shots nothing can come back

    def folder(self, root: Path) -> Path:
        """Where the set lies, or will lie, under `root`."""
        return root / f"demo-seed{self.seed}-{self.videos}x{self.shots}-v{self.format}"


def generate(root: Path, demo: DemoSet, workers: int | None = None) -> Path:
    """Make the data set under `root` unless it is there, and return its directory, an atomic folder.

    The directory holds `videos/<id>.mp4`, `ydata-tvsum50-anno.tsv` and `demo.json`.
    """
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


def _write(directory: Path, demo: DemoSet, workers: int) -> None:
    (directory / "videos").mkdir()
    ids = [f"demo-{demo.seed}-{number:03d}" for number in range(demo.videos)]
    styles = [STYLES[number % len(STYLES)] for number in range(demo.videos)]
    jobs = [(directory / "videos" / f"{name}.mp4", demo, number) for number, name in enumerate(ids)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), context, follow_parent) as pool:
        labels = list(tqdm(pool.map(_make_video, jobs), "Generating", len(jobs), unit="video", disable=None))
    annotators, categories = dict(zip(ids, labels, strict=True)), dict(zip(ids, styles, strict=True))
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
        for image in draw_frames(rng, scenario, STYLES[number % len(STYLES)], size, lengths.tolist()):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return labels.repeat(lengths, axis=1)
