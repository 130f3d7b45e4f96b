"""The videos that a user names: files, addresses, images, folders, patterns, lists; and which part of each is meant."""

import logging
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from glob import has_magic
from pathlib import Path

from keyframe.data.container import VIDEO_SUFFIXES
from keyframe.data.packets import PacketIndex, index_packets
from keyframe.extraction.download import ADDRESS, PLAYLIST, parts_beside
from keyframe.extraction.staging import IMAGE_SUFFIXES, NUMBERED, Refused, Staging, files_in, makes_video
from keyframe.files import natural_key
from keyframe.types import KeyframeError, Region, VideoError, check_number

log = logging.getLogger(__name__)

_LIST_SUFFIXES = (".txt", ".lst")


def find_inputs(inputs: Sequence[str], recursive: bool, ours: Sequence[Path], staging: Staging) -> list[Path | Refused]:
    """The files that inputs mean, each once, in the order given; those of a folder or a pattern in natural order.

    A folder without videos, a pattern that matches none and a list that is not readable are refused.

    Args:
        inputs: each a video (of any suffix; it need not exist), an http(s) address, a folder, a pattern with `*`, `?`
            or `[`, numbered images (frames/%05d.png), or a text file that lists such, one per line, from its own
            folder; `-` is standard input. A name that exists is never a pattern.
        recursive: whether to search folders to any depth; hidden files and folders are left out.
        ours: where the command writes. Files there are no input unless they are named; a folder that leads there and
            to no other video is passed over, because a shell's `*` names it.
        staging: makes files of what is none.
    """
    places = [Path(os.path.realpath(place)) for place in ours]
    found: dict[str, Path | Refused] = {}
    passed: dict[str, Path | Refused] = {}
    for entry in inputs:
        means = list(_files_of(entry, recursive, Path(), staging))
        kept = [one for one in means if _path(one) in staging.names or not _leads_to(one, entry, places)]
        for one in kept:
            found.setdefault(os.path.realpath(_path(one)), one)
        if means and not kept:
            passed[entry] = means[0]
    if not found:
        reasons = [one.reason for one in passed.values() if isinstance(one, Refused)]
        nothing = f"{', '.join(map(str, inputs)) or 'input'} names no video: give videos, a folder or a list, "
        raise KeyframeError(reasons[0] if reasons else f"{nothing}such as keyframe-extract holiday.mp4.")
    for entry in passed:
        log.info("Skipped %s: results are written there", entry)
    return list(found.values())


def _path(one: Path | Refused) -> Path:
    return one.path if isinstance(one, Refused) else one


def _leads_to(one: Path | Refused, entry: str, places: Sequence[Path]) -> bool:
    """Whether a file lies in one of our places, or whether a folder without videos lies in one or holds one."""
    real = Path(os.path.realpath(_path(one)))
    if isinstance(one, Path):
        # A file that is named itself is an input, even a skim.
        return str(one) != entry and any(real.is_relative_to(place) for place in places)
    return real.is_dir() and any(real.is_relative_to(place) or place.is_relative_to(real) for place in places)


def _files_of(
    entry: str, recursive: bool, base: Path, staging: Staging, in_list: bool = False
) -> Iterator[Path | Refused]:
    if entry == "-" and not in_list and not os.path.lexists(entry):
        yield staging.standard_input()
        return
    if ADDRESS.match(entry) and not os.path.lexists(base / entry):
        yield staging.address(entry)
        return
    try:
        path = base / Path(entry).expanduser()
    except RuntimeError:  # "~draft.mp4" is a name, not a home.
        path = base / entry
    mode = _mode(path)
    if stat.S_ISDIR(mode):
        videos = _below(path, recursive)
        images = [file for file in files_in(path) if file.suffix.lower() in IMAGE_SUFFIXES]
        if videos or not images:
            if not videos:
                more = "" if recursive else ", or recursive=true to look into the folders below"
                yield Refused(path, f"{path} holds no videos: name another folder{more}.")
            yield from map(staging.file, _in_order(videos))
        elif staging.rate is None:
            more = "if they form a sequence, add image_rate=25, or their number per second"
            yield Refused(path, f"{path} holds no videos but {len(images)} images: {more}.")
        else:
            yield staging.images(path, _in_order(images))
    elif stat.S_ISREG(mode) and path.suffix.lower() in _LIST_SUFFIXES:
        if in_list:
            yield Refused(path, f"{path} is a list within a list: name videos in the first one.")
        else:
            yield from _listed(path, recursive, staging)
    elif not mode and NUMBERED.search(path.name):
        yield staging.numbered(path)
    elif not mode and has_magic(entry):
        matches = [match for match in Path(path.anchor).glob(str(path.relative_to(path.anchor))) if match.is_file()]
        if not matches:
            yield Refused(path, f"{entry} matches no file: check the pattern.")
        yield from map(staging.file, _in_order(matches))
    else:
        yield staging.file(path)


def _in_order(paths: list[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: natural_key(str(path)))


def _mode(path: Path) -> int:
    """The file mode of what a path leads to; 0 if there is nothing, or it cannot be read."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def _below(folder: Path, recursive: bool) -> list[Path]:
    """The videos in a folder, without hidden ones and without the segments of playlists."""
    videos: list[Path] = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        videos += [Path(place, name) for name in files if not name.startswith(".")]
    videos = [video for video in videos if video.suffix.lower() in VIDEO_SUFFIXES or makes_video(video)]
    parts = {part for video in videos if video.suffix.lower() == PLAYLIST for part in parts_beside(video)}
    return [video for video in videos if Path(os.path.realpath(video)) not in parts] if parts else videos


def _listed(path: Path, recursive: bool, staging: Staging) -> Iterator[Path | Refused]:
    """The files that a list means; a text in which no line means anything is one refusal."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError):
        text = "\0"
    if "\0" in text:
        yield Refused(path, f"{path} is not a readable list of videos (UTF-8, one per line): save it again.")
        return
    names = [line.strip() for line in text.splitlines()]
    # A line that begins with # is a comment, unless there is such a file.
    names = [name for name in names if name and (not name.startswith("#") or (path.parent / name).exists())]
    means = [one for name in names for one in _files_of(name, recursive, path.parent, staging, in_list=True)]
    if len(means) == 1 or any(_mode(_path(one)) or _path(one) in staging.names for one in means):
        yield from means
    else:
        yield Refused(path, f"{path} lists no file that exists: name one video per line, from the list's own folder.")


_CLOCK = re.compile(r"(?:(\d+):)?(\d+):([0-5]?\d(?:\.\d+)?)")
_NUMBER = r"\s*(\d+(?:\.\d+)?)"
_REGION = re.compile(r"\[?" + ",".join([_NUMBER + r"(%?)\s*"] * 4) + r"\]?")


@dataclass(frozen=True)
class Part:
    """A part of a video; frames keep the time and the number that they have in the file."""

    stream: int | None = None  # number among the video streams, from 0; None for the default one
    start: float | None = None  # seconds from the first frame, at least 0; None for the first
    end: float | None = None  # seconds from the first frame, after the start; None for the last
    region: Region | None = None  # of each frame, as a player shows it; None for the whole frame

    def __post_init__(self) -> None:
        check_number("stream", self.stream, 0, optional=True)
        check_number("start", self.start, 0, whole=False, optional=True)
        check_number("end", self.end, 0, whole=False, above=True, optional=True)
        if self.end is not None and self.end <= (self.start or 0):
            raise KeyframeError(f"end={self.end:g} is not after start={self.start or 0:g}: change one of them.")

    @classmethod
    def of(
        cls, stream: int | None, start: float | str | None, end: float | str | None, region: str | None = None
    ) -> "Part":
        """A part whose times are given in seconds or as M:SS or H:MM:SS, and its region as `left,top,width,height`."""
        return cls(stream, _seconds("start", start), _seconds("end", end), _region(region))

    def index(self, path: Path) -> PacketIndex:
        """The packet index of this part of a video; may raise `VideoError`.

        The region must lie in the first frame. Of later ones that are smaller it is what they have of it.
        """
        whole = index_packets(path, self.stream)
        if self.region is not None:
            height, width = whole.shown_size
            rows, columns = self.region.spans(height, width)
            if rows.stop > height or columns.stop > width:
                raise VideoError(f"{path} has frames of {width}x{height} pixels, and region extends beyond: change it.")
        return replace(whole, region=self.region).between(self.start, self.end)


def _seconds(key: str, time: float | str | None) -> float | None:
    if not isinstance(time, str):
        return time
    clock = _CLOCK.fullmatch(time)
    if clock is None:
        raise KeyframeError(f"{key}={time} is not a time: give seconds, or H:MM:SS such as 1:02:03.5.")
    hours, minutes, seconds = clock.groups()
    return 3600 * int(hours or 0) + 60 * int(minutes) + float(seconds)


def _region(text: str | None) -> Region | None:
    if text is None:
        return None
    match = _REGION.fullmatch(text)
    if match is None or len(set(match.groups()[1::2])) > 1:
        raise KeyframeError(
            f"region={text} is not a rectangle: give left,top,width,height in pixels, or in percent, 25%,0%,50%,100%."
        )
    left, top, width, height = map(float, match.groups()[::2])
    return Region(left, top, width, height, percent=match[2] == "%")


WHOLE = Part()
