"""Keyframes in three lines of Python.

    run = keyframe.load_run("outputs/train/A")
    video = keyframe.score_video("holiday.mp4", run)
    keyframes = keyframe.select_keyframes(video, k=12)

Import these names from `keyframe` itself.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from keyframe.data.pyav_reader import PyAVReader
from keyframe.data.reader import VideoReader
from keyframe.export.model import ExportedModel
from keyframe.extraction.extract import ExtractionSpec, ScoredVideo, analyse_video, steady_spans
from keyframe.summary.candidates import Selection, Selector
from keyframe.summary.selection import AdaptiveSelection, KnapsackSelection, TopSelection, UniformSelection
from keyframe.summary.shots import KtsShots, ShotCutter
from keyframe.summary.stills import Still, save_stills
from keyframe.types import FloatArray, Int64Array, KeyframeError

if TYPE_CHECKING:  # without a trained model no torch is imported, which takes seconds
    from keyframe.runs import Run

Method = Literal["adaptive", "top", "knapsack", "uniform"]

_METHODS: Mapping[Method, Callable[..., Selector]] = {
    "adaptive": AdaptiveSelection,
    "top": TopSelection,
    "knapsack": KnapsackSelection,
    "uniform": UniformSelection,
}


@dataclass(frozen=True)
class Keyframes:
    """The keyframes of one video, in order of time."""

    video: ScoredVideo  # what they were selected from
    selection: Selection  # which of its frames they are, which shots a skim would keep, and in `notes` what is missing

    def __len__(self) -> int:
        return len(self.selection)

    def __iter__(self) -> Iterator[float]:
        return iter(self.seconds.tolist())

    @property
    def frames(self) -> Int64Array:
        """Frame numbers in presentation order, (k,)."""
        return self.video.frames[self.selection.keyframes]

    @property
    def seconds(self) -> FloatArray:
        """When a player shows each keyframe, (k,)."""
        return self.video.seconds[self.selection.keyframes]

    @property
    def scores(self) -> FloatArray:
        """How important each keyframe is, in [0, 1], (k,)."""
        return self.video.scores[self.selection.keyframes]

    @property
    def ranks(self) -> Int64Array:
        """Rank of each keyframe, 1 for the best, (k,)."""
        return self.selection.ranks

    def save(
        self, directory: str | Path, reader: VideoReader | None = None, quality: int = 92, steady: bool = True
    ) -> list[Still]:
        """Save them as JPEG files at full resolution, rank and time in the name.

        Args:
            directory: made if it is missing; files of the same name are replaced.
            reader: decodes frames; None for `PyAVReader`.
            quality: of the JPEG files, 1 to 95.
            steady: save the calmest, sharpest frame .5 s before to .3 s after each, which the files then name.

        Returns:
            The files, in order of time.

        Raises:
            VideoError: the video can no longer be read.
        """
        reader = reader or PyAVReader()
        spans = steady_spans(self.video, self.selection) if steady and reader.exact else None
        folder = Path(directory).expanduser()
        return save_stills(self.video.index, self.frames, self.ranks, folder, reader, quality, spans=spans)


def score_video(
    path: str | Path,
    run: "Run | ExportedModel | None" = None,
    rate: float = 2.0,
    shots: ShotCutter | None = None,
    reader: VideoReader | None = None,
    features: str = "none",
) -> ScoredVideo:
    """Score the frames of a video of any length, in memory that does not grow with its pixels.

    Args:
        path: a video file; playlists (HLS), addresses and image sequences are for keyframe-extract.
        run: from `load_run` or `load_exported`; None scores without a trained model.
        rate: frames scored per second of video, above 0.
        shots: cuts the video; None for `KtsShots`.
        reader: decodes frames; None for `PyAVReader`.
        features: how the rule without a model judges similarity, "none" or "lite0", as in keyframe-extract.

    Returns:
        `scores`, `seconds` and `frames` of the scored frames, and what else `select_keyframes` needs.

    Raises:
        VideoError: the file cannot be read.
        KeyframeError: the run was trained on a feature file and sees no frames, the rate is out of range, or features
            are given together with a run, or without their weights.
    """
    if run is not None and features != "none":
        raise KeyframeError(f"features={features} is for scoring without a model: leave it out, or the run.")
    shots, reader = shots or KtsShots(), reader or PyAVReader()
    if run is None:
        scorer = ExtractionSpec(shots, AdaptiveSelection(), reader, features=features).load_scorer()
    else:
        scorer = run if isinstance(run, ExportedModel) else run.scorer
    return analyse_video(Path(path).expanduser(), scorer, shots, reader, rate)


def select_keyframes(video: ScoredVideo, method: Method | None = None, **options: Any) -> Keyframes:
    """Choose the keyframes of a scored video.

    Args:
        video: from `score_video`.
        method: "adaptive", "top", "knapsack" or "uniform", as `selection=` of keyframe-extract; None for what the
            options say: "knapsack" with `ratio`, "top" with `k`, else "adaptive".
        options: the attributes of that selection (see `keyframe.summary.selection`): `k`, `ratio`, `min_distance`,
            `max_similarity`, `coverage`, `most`, `steps`, `per_minute`.

    Raises:
        KeyframeError: an option is outside its range.
        TypeError: the method has no such option.
        ValueError: there is no such method.
    """
    if method is None:
        method = "knapsack" if "ratio" in options else "top" if "k" in options else "adaptive"
    if method not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(_METHODS)}, not {method!r}")
    return Keyframes(video, _METHODS[method](**options)(video.candidates))
