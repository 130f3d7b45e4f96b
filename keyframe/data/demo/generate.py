"""Write a demo data set as a TVSum-style directory: H.264 videos and a label file, from a seed."""

import json
import logging
import multiprocessing
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from keyframe.children import follow_parent
from keyframe.cores import cores
from keyframe.data.demo.annotators import label
from keyframe.data.demo.render import STYLES, pictures
from keyframe.data.demo.story import SHOT_SECONDS, Story, tell
from keyframe.data.labels_tsv import write_tsv
from keyframe.errors import KeyframeError

log = logging.getLogger(__name__)

_SIZES = ((120, 160), (108, 192), (96, 128), (160, 120))  # (height, width)
_RATES = (Fraction(6), Fraction(8), Fraction(25, 3), Fraction(10))
_FORMAT = 1  # raised when the same seed would give other videos


@dataclass(frozen=True)
class DemoSet:
    """What a demo data set is made from; equal values give equal videos and labels.

    Attributes:
        seed: other seeds give other videos of the same kind.
        videos: how many.
        shots: length of the shortest video in 2-second shots; the longest has a sixth more.
        format: version of the generator.

    Raises:
        KeyframeError: no video, too short ones, or a seed below 0.
    """

    seed: int = 0
    videos: int = 120
    shots: int = 36
    format: int = _FORMAT

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise KeyframeError(f"data.seed={self.seed} must be at least 0.")
        if self.videos < 1:
            raise KeyframeError(f"data.videos={self.videos} must be at least 1.")
        if self.shots < 12:
            raise KeyframeError(f"data.shots={self.shots} must be at least 12, else nothing can come back.")


def generate(root: Path, demo: DemoSet, workers: int | None = None) -> Path:
    """Make the data set under `root` unless it is there, and return its directory.

    The directory holds `videos/<id>.mp4`, `ydata-tvsum50-anno.tsv` and `demo.json`, and appears whole or not at
    all: it is written beside its place and renamed.

    Args:
        root: where demo sets are kept.
        demo: what to make.
        workers: processes; all cores by default.
    """
    directory = root / f"demo-seed{demo.seed}-{demo.videos}x{demo.shots}-v{demo.format}"
    if directory.is_dir():
        return directory
    root.mkdir(parents=True, exist_ok=True)
    log.info("Generating %d demo videos (seed %d) in %s", demo.videos, demo.seed, directory)
    draft = Path(tempfile.mkdtemp(prefix=".demo-", dir=root))
    try:
        _write(draft, demo, workers or cores())
        draft.chmod(0o755)
        draft.rename(directory)
    except OSError:
        if not directory.is_dir():  # else another process was first, with the same videos
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return directory


def begin(demo: DemoSet, number: int) -> tuple[np.random.Generator, Story]:
    """The story of a set's video, and the source of chance that goes on to label and draw it.

    A video's chance depends on the set's seed and the video's number alone: no two videos of a set share it.
    """
    rng = np.random.default_rng((demo.seed, number))
    shots = int(rng.integers(demo.shots, demo.shots * 7 // 6 + 1))
    return rng, tell(rng, shots)


def _write(directory: Path, demo: DemoSet, workers: int) -> None:
    (directory / "videos").mkdir()
    ids = [f"demo-{demo.seed}-{number:03d}" for number in range(demo.videos)]
    styles = [STYLES[number % len(STYLES)] for number in range(demo.videos)]
    jobs = [(directory / "videos" / f"{name}.mp4", demo, number) for number, name in enumerate(ids)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), context, follow_parent) as pool:
        labels = list(tqdm(pool.map(_make_video, jobs), "Generating", len(jobs), unit="video", disable=None))
    write_tsv(
        directory / "ydata-tvsum50-anno.tsv",
        dict(zip(ids, labels, strict=True)),
        dict(zip(ids, styles, strict=True)),
    )
    (directory / "demo.json").write_text(json.dumps(asdict(demo)) + "\n")


def _make_video(job: tuple[Path, DemoSet, int]) -> npt.NDArray[np.int64]:
    """Write one video; returns the annotators' label of every frame, (A, N)."""
    path, demo, number = job
    rng, story = begin(demo, number)
    labels = label(rng, story.importance)
    size = _SIZES[rng.integers(len(_SIZES))]
    rate = _RATES[rng.integers(len(_RATES))]
    edges = np.round(np.arange(len(story.importance) + 1) * SHOT_SECONDS * float(rate)).astype(int)
    lengths = np.diff(edges)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "24", "bf": "2", "g": "50", "threads": "1"}
        for picture in pictures(rng, story, STYLES[number % len(STYLES)], size, lengths.tolist()):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return labels.repeat(lengths, axis=1)
