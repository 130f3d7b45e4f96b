"""What an extraction says of itself in files: a row a scored frame, and all that is needed to redo it.

One video to one folder: look, cut, score, select, write.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

import keyframe
from keyframe.data.packets import PacketIndex, index_packets
from keyframe.data.reader import VideoReader
from keyframe.data.sampling import FpsSampling
from keyframe.extraction.folder import MADE_BY, SUMMARY, draw_curve, save_curve, whole, write_page
from keyframe.files import content_hash, described, fingerprint, write_table, write_text
from keyframe.pipeline import Scorer
from keyframe.summary.constraints import Candidates, Selection, Selector
from keyframe.summary.describe import DESCRIPTOR_SIZE, Look, Thumbnails, join, look, thumbnails
from keyframe.summary.skim import write_skim
from keyframe.summary.stills import Still, save_contact_sheet, save_stills
from keyframe.system import installed_versions
from keyframe.types import FloatArray, IntArray

# Decimals: a millionth of a second, of a score.
_DIGITS = 6
_LIBRARIES = ("av", "decord", "numpy", "scipy", "pillow", "matplotlib")


def write_scores(path: Path, frames: IntArray, candidates: Candidates, selection: Selection) -> None:
    """Write a CSV row a scored frame: frame, seconds, score, shot (from 1), selected (0 or 1)."""
    chosen = set(selection.keyframes.tolist())
    columns = zip(frames.tolist(), candidates.seconds, candidates.scores, candidates.shot_of.tolist(), strict=True)
    write_table(
        path,
        [
            {
                "frame": frame,
                "seconds": f"{seconds:.{_DIGITS}f}",
                "score": f"{score:.{_DIGITS}f}",
                "shot": shot + 1,
                "selected": int(place in chosen),
            }
            for place, (frame, seconds, score, shot) in enumerate(columns)
        ],
    )


def shot_spans(candidates: Candidates) -> list[tuple[float, float]]:
    """Start and end of each shot in seconds; the first starts at 0, the last ends with the video."""
    starts = [0.0, *candidates.seconds[candidates.shots[1:, 0]].tolist()]
    return list(zip(starts, [*starts[1:], candidates.duration], strict=True))


def summary_of(
    index: PacketIndex,
    content: str,
    candidates: Candidates,
    selection: Selection,
    stills: Sequence[Still],
    scorer: Scorer,
    settings: Mapping[str, Any],
    fingerprint: str,
    libraries: Sequence[str],
) -> dict[str, Any]:
    """All that is needed to redo an extraction and to know it again, and what came out; plain values.

    Neither a clock nor a place of this machine is in it: redone, it is the same to the byte.
    """
    height, width = index.upright_size
    places = selection.keyframes.tolist()
    return {
        "made_by": MADE_BY,
        "fingerprint": fingerprint,
        "versions": {
            "keyframe": keyframe.__version__,
            **installed_versions([*_LIBRARIES, *scorer.libraries, *libraries]),
        },
        "scorer": {**scorer.description, "name": scorer.name},
        "settings": dict(settings),
        "video": {
            "name": index.path.name,
            "content": content,
            "codec": index.codec,
            "width": width,
            "height": height,
            "frames": index.n_frames,
            "fps": round(index.fps, _DIGITS),
            "duration": round(index.duration, _DIGITS),
        },
        "scored_frames": len(candidates),
        "shots": [
            {"shot": number, "start": round(start, _DIGITS), "end": round(end, _DIGITS), "kept": bool(kept)}
            for number, ((start, end), kept) in enumerate(
                zip(shot_spans(candidates), selection.shots_kept, strict=True), start=1
            )
        ],
        "asked": selection.asked,
        "keyframes": [
            {
                "rank": still.rank,
                "file": still.path.name,
                "frame": still.frame,
                "seconds": round(still.seconds, _DIGITS),
                "score": round(float(candidates.scores[place]), _DIGITS),
                "shot": int(candidates.shot_of[place]) + 1,
            }
            for still, place in zip(stills, places, strict=True)
        ],
        "notes": list(selection.notes),
    }


def write_summary(directory: Path, summary: Mapping[str, Any]) -> None:
    """Write `summary.json` into a folder that is otherwise complete; it lists the files there."""
    files = sorted([*(path.name for path in directory.iterdir()), SUMMARY])
    write_text(directory / SUMMARY, json.dumps({**summary, "files": files}, indent=2, sort_keys=True) + "\n")


class ShotCutter(Protocol):
    """Cuts a video into shots; a dataclass, so that a record can say which."""

    def of_video(self, index: PacketIndex, frames: IntArray, look: Look, reader: VideoReader) -> IntArray:
        """First and last of the n frames looked at of each shot, inclusive, (m, 2), covering 0 ... n - 1 in order."""
        ...


@dataclass(frozen=True)
class Settings:
    """What of an extraction is neither scoring, cutting, selecting nor reading.

    Attributes:
        rate: frames looked at for each second of video, above 0.
        summary_video: whether to write a skim of the kept shots.
        quality: of the JPEG files, 1 to 95.
    """

    rate: float = 2.0
    summary_video: bool = False
    quality: int = 92


@dataclass(frozen=True)
class ScoredVideo:
    """One video, looked at, cut into shots and scored: all that keyframes are selected from.

    Attributes:
        index: its packets.
        frames: numbers of the frames looked at in presentation order, increasing, (n,).
        candidates: these frames.
        scored_by: who scored, in a few words.
    """

    index: PacketIndex
    frames: npt.NDArray[np.int64]
    candidates: Candidates
    scored_by: str

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def scores(self) -> FloatArray:
        """How much each frame matters, in [0, 1], (n,)."""
        return self.candidates.scores

    @property
    def seconds(self) -> FloatArray:
        """When a player shows each, where its clock says 0 at the first presented frame, (n,)."""
        return self.candidates.seconds


@dataclass(frozen=True)
class Extraction:
    """What was found in one video.

    Attributes:
        directory: the folder that holds all of it.
        stills: the keyframes, in order of time.
        scored: the frames looked at.
        selection: which of them are keyframes.
        summary: what `summary.json` holds, but for the list of files.
    """

    directory: Path
    stills: list[Still]
    scored: ScoredVideo
    selection: Selection
    summary: dict[str, Any]


def extract_video(
    path: Path,
    directory: Path,
    scorer: Scorer,
    shots: ShotCutter,
    selector: Selector,
    reader: VideoReader,
    settings: Settings | None = None,
) -> Extraction:
    """Find the keyframes of a video and write them, with all that is known of them, into a folder.

    The folder holds the keyframes as JPEG files, scores.csv, summary.json, curve.png, contact_sheet.jpg, index.html
    and, if asked for and any shot is kept, skim.mp4. It appears whole or not at all; one that an earlier extraction has
    left there is replaced, but for files in it that are not ours.

    Stills and skim decode what they show; for the rest see `analyse_video`.

    Args:
        path: a video file.
        directory: the folder of the results, made where it is missing.
        scorer: says how much a frame matters.
        shots: cuts the video.
        selector: chooses the keyframes.
        reader: decodes frames.
        settings: everything else.

    Raises:
        VideoError: the video cannot be read.
        KeyframeError: the folder holds something that is not ours, or a setting is wrong.
    """
    settings = settings or Settings()
    content = content_hash(path)
    scored = analyse_video(path, scorer, shots, reader, settings.rate)
    index, frames, candidates = scored.index, scored.frames, scored.candidates
    selection = selector(candidates)
    settings_record = recorded(shots, selector, reader, settings)
    with whole(directory) as draft:
        stills = save_stills(index, frames[selection.keyframes], selection.ranks, draft, reader, settings.quality)
        summary = summary_of(
            index,
            content,
            candidates,
            selection,
            stills,
            scorer,
            settings_record,
            fingerprint(scorer.description, settings_record),
            getattr(shots, "libraries", ()),
        )
        write_scores(draft / "scores.csv", frames, candidates, selection)
        save_contact_sheet(stills, draft / "contact_sheet.jpg")
        save_curve(draw_curve(path.name, candidates, selection, scorer.name), draft / "curve.png")
        write_page(draft, summary)
        spans = _kept_spans(candidates, selection)
        # Where knapsack keeps no shot there is nothing to show; the selection's notes say so.
        if settings.summary_video and spans:
            write_skim(index, spans, draft / "skim.mp4", reader)
        write_summary(draft, summary)
    stills = [dataclasses.replace(still, path=directory / still.path.name) for still in stills]
    return Extraction(directory, stills, scored, selection, summary)


def analyse_video(path: Path, scorer: Scorer, shots: ShotCutter, reader: VideoReader, rate: float = 2.0) -> ScoredVideo:
    """Look at a video, cut it into shots and score it.

    The video is decoded once to look at it and, with a trained model, once more at the model's own size: what a shot or
    a duplicate is must not depend on the model. Memory is bounded by the number of frames looked at (about 2 KB each,
    with a model 7 to 11), not by pixels.

    Args:
        path: a video file.
        scorer: says how much a frame matters.
        shots: cuts the video.
        reader: decodes frames.
        rate: frames looked at for each second of video, above 0.

    Raises:
        VideoError: the video cannot be read.
        KeyframeError: the rate is no such number.
    """
    index = index_packets(path)
    frames, seen, thumbs = _looked_at(index, FpsSampling(rate).indices(index), reader)
    cut = shots.of_video(index, frames, seen, reader)
    scores = scorer.score_frames(index, frames, reader, seen, cut)
    light = seen.sharpness, seen.brightness, seen.contrast
    seconds = index.timestamps[frames] - index.timestamps[0]
    candidates = Candidates(scores, seconds, seen.descriptors, thumbs, *light, cut, index.duration)
    return ScoredVideo(index, frames, candidates, scorer.name)


def recorded(shots: ShotCutter, selector: Selector, reader: VideoReader, settings: Settings) -> dict[str, Any]:
    """The settings that decide what comes out, plain values; threads and places do not."""
    return {
        **dataclasses.asdict(settings),
        "shots": described(shots),
        "selection": described(selector),
        "reader": described(reader, without={"threads", "progress"}),
    }


def _looked_at(
    index: PacketIndex, wanted: IntArray, reader: VideoReader
) -> tuple[npt.NDArray[np.int64], Look, Thumbnails]:
    """Distinct frames that decode, increasing, (n,), what they look like, and where."""
    numbers: list[npt.NDArray[np.int64]] = []
    small: list[Thumbnails] = []

    def looks() -> Iterator[Look]:
        latest = -1
        for piece in reader.stream(index.path, np.unique(reader.grid(wanted, index)), DESCRIPTOR_SIZE, index):
            # In place of a frame that does not decode its neighbour comes again.
            fresh = np.diff(piece.indices, prepend=latest) > 0
            latest = int(piece.indices[-1])
            numbers.append(piece.indices[fresh])
            small.append(thumbnails(piece.pixels[fresh]))
            yield look(piece.pixels[fresh])

    seen = join(looks())
    return np.concatenate(numbers), seen, np.concatenate(small)


def _kept_spans(candidates: Candidates, selection: Selection) -> list[tuple[float, float]]:
    spans = zip(shot_spans(candidates), selection.shots_kept, strict=True)
    return [span for span, kept in spans if kept and span[0] < span[1]]
