"""The shots that annotators score, their scores in a journal before the next shot is shown, and the label file.

The journal is `<labels>.journal`, beside the label file: JSON lines that are only ever appended, each on disk before
its request is answered. Once an annotator has scored all shots of a video, a row of TVSum's form goes into the label
file. Rows that were in that file before come first and stay as they are.
"""

import errno
import hashlib
import json
import logging
import os
import threading
import time
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from keyframe.data.hdf5 import checked_id
from keyframe.data.label_tables import of_annotators
from keyframe.data.labels import read_tvsum_tsv, tsv_row
from keyframe.data.packets import index_packets
from keyframe.data.sampling import labelled_frames
from keyframe.files import make_folder, one_line, write_bytes
from keyframe.system import lock_file
from keyframe.types import Float32Array, KeyframeError, Labels

log = logging.getLogger(__name__)

_SCORES = (1, 2, 3, 4, 5)
_MOST_LINE = 2**23  # bytes of a line of the journal
_LONGEST_NAME = 40  # characters
_MOST_ENTRIES = 2**25  # in a row of the label file


@dataclass(frozen=True)
class Shots:
    """The shots of a video that its annotators score, the same for all of them.

    Attributes:
        frames: number of frames of the video.
        seconds: its length.
        entries: number of scores in a row of the label file.
        starts: of each shot, seconds from the first frame, the first 0.
        first: the first entry of each shot, the first 0.
        kind: "even" or "own", those of the video.
    """

    frames: int
    seconds: float
    entries: int
    starts: tuple[float, ...]
    first: tuple[int, ...]
    kind: str

    def __post_init__(self) -> None:
        rising = all(
            values[0] == 0 and all(a < b for a, b in zip(values, [*values[1:], end], strict=True))
            for values, end in ((self.starts, self.seconds), (self.first, self.entries))
        )
        whole = all(isinstance(value, int) for value in (self.frames, self.entries, *self.first))
        if not (whole and rising and len(self.starts) == len(self.first) and 0 < self.entries <= _MOST_ENTRIES):
            raise ValueError("its shots do not follow each other")

    def per_entry(self, scores: Mapping[int, int]) -> list[int]:
        """The score of each entry."""
        of_shots = [scores[shot] for shot in range(len(self.first))]
        return np.repeat(of_shots, np.diff([*self.first, self.entries])).tolist()


def find_shots(path: Path, seconds: float, own: list[float] | None = None, entries: int | None = None) -> Shots:
    """The shots of a video that annotators score.

    Args:
        path: of the video.
        seconds: length of each shot; a rest shorter than a quarter of it belongs to the last.
        own: starts of the video's own shots, to score in place of these.
        entries: number of scores in a row of the label file; None: the number of frames.
    """
    index = index_packets(path)
    entries = entries or index.n_frames
    starts = (
        np.arange(0, max(index.duration - seconds / 4, seconds / 4), seconds) if own is None else np.unique([0, *own])
    )
    times = index.timestamps[labelled_frames(entries, np.arange(entries), index)] - index.zero
    used, first = np.unique(np.searchsorted(starts[1:], times + 1e-6, side="right"), return_index=True)
    return Shots(
        frames=index.n_frames,
        seconds=round(index.duration, 3),
        entries=entries,
        starts=(0.0, *starts[used[1:]].round(3).tolist()),
        first=tuple(first.tolist()),
        kind="even" if own is None else "own",
    )


@dataclass
class Annotation:
    """What one annotator has done with one video."""

    order: str  # of the shots: "random" or "chronological"
    watched: bool = False  # the whole video once
    given_up: bool = False
    scores: dict[int, int] = field(default_factory=dict)  # shot -> 1 ... 5


class Annotations:
    """All annotations of a label file; one process at a time has it.

    Args:
        path: the label file, which may be missing.
        scale: lowest and highest score in it.
    """

    def __init__(self, path: Path, scale: tuple[float, float] = (1.0, 5.0)) -> None:
        self.path, self.scale = path, scale
        self.place = path.with_name(f"{path.name}.journal")
        self.shots: dict[str, Shots] = {}
        self.found: dict[str, dict[str, Annotation]] = {}  # video -> annotator -> annotation
        self.before: dict[str, Labels] = {}  # the rows that were in the file before
        self._lock = threading.Lock()
        self._journal: IO[bytes] | None = None
        self._known: dict[str, int] = {}  # hash of the label file as we wrote it -> bytes that were there before
        self._kept = b""

    def open(self, new: bool = True) -> None:
        """Read the journal and the label file, once, and have them alone; KeyframeError if that cannot be.

        With `new` it makes a journal if there is none.
        """
        with self._lock:
            if self._journal is None and (new or self.place.exists()):
                self._open()

    def check_shown(self, video: str) -> None:
        """Raise a KeyframeError if an annotator is at work on a video, so that no score of others may be shown."""
        self.open(new=False)
        if names := self.hidden(video):
            raise KeyframeError(f"scores of annotators are shown once {', '.join(names)} has completed the video.")

    def close(self) -> None:
        """Let others have the file."""
        with self._lock:
            if self._journal is not None:
                self._journal.close()
                self._journal = None

    def hidden(self, video: str) -> list[str]:
        """The annotators who have begun a video, and neither completed it nor given up."""
        done = self.complete(video)
        return [name for name, one in self._of(video) if not one.given_up and name not in done]

    def complete(self, video: str) -> dict[str, Annotation]:
        """The annotators who have scored all shots of a video."""
        return {name: one for name, one in self._of(video) if len(one.scores) == len(self.shots[video].starts)}

    def shares(self, video: str) -> dict[str, float]:
        """How far each annotator of a video is."""
        return {name: len(one.scores) / len(self.shots[video].starts) for name, one in self._of(video)}

    def _of(self, video: str) -> list[tuple[str, Annotation]]:
        return list(self.found.get(video, {}).items())

    def annotation(self, video: str, annotator: str) -> Annotation:
        """What an annotator who has begun has done."""
        one = self.found.get(video, {}).get(annotator)
        if one is None:
            raise KeyframeError(f"{annotator} has not started this video: reload the page.")
        return one

    def begin(self, video: str, annotator: str, order: str, shots: Shots) -> None:
        """Let an annotator begin, unless that has happened; the shots count if no one has begun before."""
        with self._lock:
            if annotator in self.found.get(video, {}):
                return
            known = self.shots.get(video, shots)
            if known.frames != shots.frames:
                raise KeyframeError(
                    f"{video} has {shots.frames} frames, and the one that was labelled {known.frames}: it is another "
                    "video of the same name, rename it."
                )
            if video not in self.shots:
                self._append({"video": video, "shots": vars(shots)})
            self._append({"video": video, "annotator": annotator, "order": order})

    def watched(self, video: str, annotator: str) -> None:
        """An annotator has seen the whole video."""
        self.annotation(video, annotator)
        with self._lock:
            self._append({"video": video, "annotator": annotator, "watched": True})

    def give_up(self, video: str, annotator: str) -> None:
        """An annotator will not go on: the scores of others may be shown."""
        with self._lock:
            if annotator in self.hidden(video):
                self._append({"video": video, "annotator": annotator, "given_up": True})

    def rate(self, video: str, annotator: str, shot: int, score: int) -> None:
        """Score a shot: on disk when this returns, and in the label file if it was the last or has changed."""
        with self._lock:
            one = self.annotation(video, annotator)
            if not one.watched or one.given_up:
                raise KeyframeError(
                    "watch the whole video first." if not one.given_up else f"{annotator} has given up."
                )
            now = round(time.time())
            self._append({"video": video, "annotator": annotator, "shot": shot, "score": score, "time": now})
            if annotator in self.complete(video):
                self._write()

    def rows(self, video: str) -> tuple[list[str], Float32Array]:
        """Who has scored a video, and the scores in [0, 1], (A, L): first the rows that are not ours."""
        before, shots = self.before.get(video), self.shots.get(video)
        ours = self.complete(video)
        tracks = [] if before is None else list(before.annotators)
        names = [f"row {row} of the file" for row in range(1, len(tracks) + 1)]
        if shots is not None:
            tracks += [(np.array(shots.per_entry(one.scores), np.float32) - 1) / 4 for one in ours.values()]
        return [*names, *ours], np.array(tracks, np.float32)

    def _open(self) -> None:
        if self.path.suffix != ".tsv" or self.scale != (1, 5):
            raise KeyframeError(
                f"labels={self.path} cannot hold scores of shots: to label, start keyframe-app with labels=NEW.tsv, "
                "without lowest and highest."
            )
        make_folder(self.place.parent)
        journal = self.place.open("ab", buffering=0)  # what could not be written is not tried again
        try:
            self._take(journal)
        except BaseException:
            self._journal = None
            journal.close()
            raise

    def _take(self, journal: IO[bytes]) -> None:
        try:
            free = lock_file(journal)
        except OSError:  # a system without locks
            free = True
        if not free:
            raise KeyframeError(f"{self.place} is in use by another keyframe-app: end it, or give another labels=.")
        self.shots, self.found, self._known, end = {}, {}, {}, 0
        with self.place.open("rb") as lines:
            for number, line in enumerate(iter(lambda: lines.readline(_MOST_LINE), b""), start=1):
                if not line.endswith(b"\n") and len(line) < _MOST_LINE:
                    log.warning("%s: the last line is incomplete, and is dropped", self.place)
                    journal.truncate(end)
                    break
                try:
                    self._apply(json.loads(line))
                except (KeyframeError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
                    reason = one_line(str(error))[:100]
                    where = f"{self.place}, line {number}"
                    raise KeyframeError(f"{where} is damaged ({reason}): remove the line.") from error
                end += len(line)
        content = self._read_file()
        self._kept = content[: self._bytes_before(content)]
        self.before = self._labels_before()
        self._journal = journal
        if any(map(self.complete, self.shots)) and content != self._content():  # it was ended between the two
            self._write()

    def _read_file(self) -> bytes:
        return self.path.read_bytes() if self.path.exists() else b""

    def _bytes_before(self, content: bytes) -> int:
        """How much of the label file, as it is now, is not ours."""
        known = self._known.get(hashlib.sha256(content).hexdigest())
        if known is None and content and self._known:
            raise self._changed()
        return len(content) if known is None else known

    def _changed(self) -> KeyframeError:
        return KeyframeError(
            f"{self.path} was changed by another program: move it away, or give another labels=; the scores that were "
            f"given here are in {self.place}."
        )

    def _labels_before(self) -> dict[str, Labels]:
        """The labels of the rows that are not ours, which come first in the file."""
        rows = [line.split("\t")[0].strip() for line in self._kept.decode("utf-8-sig", "replace").split("\n")]
        if not any(rows):
            return {}
        found = read_tvsum_tsv(self.path, option="labels")
        if any(one.selections for one in found.values()):
            raise KeyframeError(f"{self.path} holds selected frames, not scores: give another labels= to label.")
        counts = Counter(rows)
        ours = {name: one for name, one in found.items() if counts[name]}
        return {name: of_annotators(one.annotators[: counts[name]], one.category) for name, one in ours.items()}

    def _append(self, entry: Mapping[str, Any]) -> None:
        """Check and apply an entry, once it is on disk."""
        if self._journal is None:
            raise KeyframeError("the label file is not open: reload the page.")
        line = json.dumps(entry).encode() + b"\n"
        self._check(entry)
        end = self._journal.seek(0, os.SEEK_END)
        try:
            if self._journal.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._journal.fileno())
        except OSError as error:
            self._journal.truncate(end)
            raise KeyframeError(
                f"{self._journal.name} cannot be written ({error.strerror}): make room on the disk."
            ) from error
        self._apply(entry)

    def _check(self, entry: Mapping[str, Any]) -> None:
        if "score" in entry:
            shots = len(self.shots[entry["video"]].starts)
            if entry["score"] not in _SCORES or not 0 <= entry["shot"] < shots:
                raise KeyframeError(f"a score is 1 to 5, of a shot from 0 to {shots - 1}: reload the page.")

    def _apply(self, entry: Mapping[str, Any]) -> None:
        """Do what a line of the journal says; ValueError and the like if it is none of ours."""
        if "file" in entry:
            self._known[str(entry["file"])] = int(entry["kept"])
            return
        video = checked_id(entry["video"], "the journal")
        if "shots" in entry:
            values: dict[str, Any] = dict(entry["shots"])
            values |= {name: tuple(values[name]) for name in ("starts", "first") if name in values}
            self.shots.setdefault(video, Shots(**values))
            return
        if video not in self.shots:
            raise ValueError(f"{video} has no shots")
        of_video, annotator = self.found.setdefault(video, {}), annotator_name(entry["annotator"])
        if "order" in entry:
            of_video.setdefault(annotator, Annotation(str(entry["order"])))
        one = of_video[annotator]
        one.watched = one.watched or "watched" in entry
        one.given_up = one.given_up or "given_up" in entry
        if "score" in entry:
            self._check(entry)
            one.scores[int(entry["shot"])] = int(entry["score"])

    def _content(self) -> bytes:
        """The label file as it is to be."""
        rows = b"".join(
            tsv_row(video, self.before[video].category if video in self.before else "", per_entry).encode()
            for video, shots in self.shots.items()
            for per_entry in (shots.per_entry(one.scores) for one in self.complete(video).values())
        )
        gap = b"\n" if rows and self._kept and not self._kept.endswith(b"\n") else b""
        return self._kept + gap + rows

    def _write(self) -> None:
        """Write the label file, if it is as we left it."""
        now = self._read_file()
        if now[: self._bytes_before(now)] != self._kept:
            raise self._changed()
        content = self._content()
        self._append({"file": hashlib.sha256(content).hexdigest(), "kept": len(self._kept)})
        write_bytes(self.path, content)


def annotator_name(text: Any) -> str:
    """An annotator's name: one line of at most 40 characters; KeyframeError if it is none."""
    name = unicodedata.normalize("NFC", one_line(text)) if isinstance(text, str) else ""
    if not 0 < len(name) <= _LONGEST_NAME:
        raise KeyframeError(f"an annotator needs a name of 1 to {_LONGEST_NAME} characters.")
    return name
