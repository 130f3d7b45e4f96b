"""Which part of each video is looked at: its stream, a start and an end, a region."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from keyframe.data.packets import PacketIndex, index_packets
from keyframe.types import KeyframeError, Region, VideoError, check_number

_CLOCK = re.compile(r"(?:(\d+):)?(\d+):([0-5]?\d(?:\.\d+)?)")
_NUMBER = r"\s*(\d+(?:\.\d+)?)"
_REGION = re.compile(r"\[?" + ",".join([_NUMBER + r"(%?)\s*"] * 4) + r"\]?")


@dataclass(frozen=True)
class Part:
    """A part of a video; frames keep the time and the number that they have in the file.

    Attributes:
        stream: number among the video streams, from 0; None for the default one (`keyframe.data.container.open_video`).
        start: seconds from the first frame, at least 0; None for the first.
        end: seconds from the first frame, after the start; None for the last.
        region: of each frame, as a player shows it; None for the whole frame.
    """

    stream: int | None = None
    start: float | None = None
    end: float | None = None
    region: Region | None = None

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
