"""A decoded frame as the RGB picture that a player shows: the one place for scan lines, colours, shape and rotation."""

import functools
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import av
import av.error
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import SideData, SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from keyframe.data.container import open_video
from keyframe.types import Float64Array, UInt8Array

# FFmpeg's numbers for RGB, BT.709, unspecified, FCC, BT.470BG, SMPTE 170M, SMPTE 240M and BT.2020. Its scaler
# refuses all others, which count as unspecified, as in decord.
_CONVERTIBLE = {0, 1, 2, 4, 5, 6, 7, 9}
_UNSPECIFIED, _BT2020 = 2, 9
# From PyAV 17 on, scaling takes a thread per core by default.
_ONE_THREAD = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}
_MOST_STRETCHED = 2.5  # a cinema film (2.4 : 1) in a square is stretched less; a panorama is not, and gets bars
_ASPECT_UNITS = 1980  # common pixel aspect ratios (12/11, 16/15, 64/45 ...) are whole multiples of 1 / this
# FFmpeg's numbers of the transfer characteristics of high dynamic range, and of interlaced field orders.
_PQ, _HLG = 16, 18
_FIELD_ORDERS = {2, 3, 4, 5}
_MOST_ANAMORPHIC = 4  # anamorphic formats go up to 2.9 (352x576 shown as 16:9); far beyond, the header is damaged
# cd/m2 of white in an SDR picture and of the brightest highlight (ITU-R BT.2408); brighter ones are clipped.
_WHITE, _PEAK = 203.0, 1000.0
# Linear BT.2020 to BT.709 (ITU-R BT.2087, table 2).
_TO_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593])
_CUBE = 33
_LARGEST = 2**31 // 8 - 1  # pixels that FFmpeg makes no image of (`av_image_check_size`)


# A frame from a phone or a camera may carry side data of a type that this PyAV has no name for, for which it raises
# (18.1: EXIF, the view of spatial video). It never matters here.
def _nameless(kind: Any, value: int) -> Any:
    member = object.__new__(kind)
    member._name_, member._value_ = f"NUMBER_{value}", value
    return member


SideDataType._missing_ = classmethod(_nameless)  # type: ignore[assignment]


class Orientation(NamedTuple):
    """How coded pixels become the upright image: swap the axes first, then flip (`libavutil/display.h` of FFmpeg)."""

    transposed: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> "Orientation":
        """The orientation in a decoded frame's display matrix, to the nearest quarter turn."""
        # `frame.side_data` would tie the frame to itself: it would live until the garbage collector runs.
        matrix = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg]  # the stub lacks it
        if not isinstance(matrix, SideData):
            return cls()
        a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
        transposed = abs(b) + abs(c) > abs(a) + abs(d)
        return cls(transposed, (b if transposed else d) < 0, (c if transposed else a) < 0)

    @property
    def mirrored(self) -> bool:
        """Whether left and right change places, which no rotation does."""
        return self.transposed ^ self.flip_rows ^ self.flip_columns

    @property
    def rotation(self) -> int:
        """Counterclockwise degrees, 0 to 270; of a mirrored image, those before left and right change."""
        columns = self.flip_columns ^ self.mirrored
        if self.transposed:
            return 270 if columns else 90
        return 180 if columns else 0


def shown_size(height: int, width: int, pixel_aspect: float, turned: bool) -> tuple[int, int]:
    """(height, width) of a coded frame in square pixels, with all of its detail, and then turned on its side."""
    if 1 / _MOST_ANAMORPHIC <= pixel_aspect <= _MOST_ANAMORPHIC:
        height, width = round(height * max(1 / pixel_aspect, 1)), round(width * max(pixel_aspect, 1))
    return (width, height) if turned else (height, width)


def corrections(path: Path) -> tuple[str, ...]:
    """What readers do about a video's pictures by default, "deinterlace", "tone_map"; may raise `VideoError`."""
    with open_video(path) as (container, stream):
        frame = None
        with suppress(av.error.FFmpegError):
            frame = next(container.decode(stream), None)
        return corrections_of(stream.codec_context, frame)


def corrections_of(context: VideoCodecContext, frame: VideoFrame | None) -> tuple[str, ...]:
    """`corrections` of an opened stream and its first frame, because the header or the frame may be silent."""
    interlaced = context.field_order in _FIELD_ORDERS or (frame is not None and frame.interlaced_frame)
    needed = {"deinterlace": interlaced, "tone_map": _is_wide(context) or (frame is not None and _is_wide(frame))}
    return tuple(name for name, is_needed in needed.items() if is_needed)


def _is_wide(video: VideoFrame | VideoCodecContext) -> bool:
    """Whether colours go beyond those of an SDR screen: high dynamic range, or BT.2020 primaries."""
    return video.color_trc in (_PQ, _HLG) or video.color_primaries == _BT2020


class Moment(NamedTuple):
    """A frame and, if it is to be deinterlaced, those right before and after it, as far as they decode."""

    frame: VideoFrame
    interlaced: bool = False
    before: VideoFrame | None = None
    after: VideoFrame | None = None


def moments(frames: Iterator[tuple[int, VideoFrame]], deinterlace: bool) -> Iterator[tuple[int, Moment]]:
    """Numbered frames with what it takes to deinterlace them; of progressive ones nothing is held back."""
    latest: tuple[int, VideoFrame] | None = None
    held: tuple[int, Moment] | None = None
    for number, frame in frames:
        if held is not None:
            yield held[0], held[1]._replace(after=frame if number == held[0] + 1 else None)
            held = None
        if deinterlace and frame.interlaced_frame:
            held = number, Moment(frame, True, latest[1] if latest is not None and latest[0] == number - 1 else None)
        else:
            yield number, Moment(frame)
        latest = number, frame
    if held is not None:
        yield held


def unbarred_size(shown: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """The part of `size` that a frame shown at another (height, width) fills.

    It is stretched to all of it, as in training, but by no more than 2.5 : 1: between bars then.
    """
    stretch = size[0] * shown[1] / (size[1] * shown[0])
    if stretch > _MOST_STRETCHED:
        return max(1, round(size[0] * _MOST_STRETCHED / stretch)), size[1]
    if stretch < 1 / _MOST_STRETCHED:
        return size[0], max(1, round(size[1] * _MOST_STRETCHED * stretch))
    return size


def fitted(image: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    """An RGB image (height, width, 3) resized to (height, width), as frames are."""
    height, width = unbarred_size((image.shape[0], image.shape[1]), size)
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    scaled = VideoReformatter().reformat(
        frame, width, height, "rgb24", interpolation=Interpolation.BILINEAR, **_ONE_THREAD
    )
    return _barred(scaled.to_ndarray().view(np.uint8), size)


def _barred(pixels: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    """An image in the middle of a black one of (height, width)."""
    height, width = pixels.shape[:2]
    if (height, width) == size:
        return pixels
    barred = np.zeros((*size, 3), np.uint8)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    barred[top : top + height, left : left + width] = pixels
    return barred


class Painter:
    """Turns frames of one stream into pictures; made before the first frame is decoded.

    The whole frame is shown, upright. Interlaced frames are deinterlaced by FFmpeg's `bwdif` filter, and high dynamic
    range (PQ, HLG) and BT.2020 colours become SDR of BT.709. The video's own matrix and range are honoured; if it names
    no matrix it is BT.601, as in FFmpeg. Pictures have `size`, (height, width), filled as `unbarred_size` says and else
    black; None is for each frame's own size in square pixels. `tone_map` is whether HDR becomes SDR.
    """

    def __init__(self, stream: VideoStream, size: tuple[int, int] | None, tone_map: bool) -> None:
        self.context, self.size, self.tone_map = stream.codec_context, size, tone_map
        # FFmpeg's rule: a ratio of the container overrules the frames' own. It cannot be told from theirs if equal.
        stated, coded = stream.sample_aspect_ratio, stream.codec_context.sample_aspect_ratio
        self._aspect = float(stated) if stated and stated != coded else None
        self._scaler = VideoReformatter()
        self._ruler: Graph | None = None
        self._graphs: dict[tuple[str, int, int, int | str], Graph] = {}
        self._pushed: list[VideoFrame] = []

    def __call__(self, moment: Moment) -> UInt8Array:
        """The picture, RGB (height, width, 3)."""
        frame = moment.frame
        orientation = Orientation.of(frame)
        upright = shown_size(frame.height, frame.width, self._pixel_aspect(frame), orientation.transposed)
        size = self.size or upright
        inner = unbarred_size(upright, size)
        if moment.interlaced:
            frame = self._deinterlaced(moment)
        if frame.colorspace not in _CONVERTIBLE:
            frame.colorspace = _UNSPECIFIED
        height, width = inner[::-1] if orientation.transposed else inner
        pixels: UInt8Array
        if self.tone_map and _is_wide(frame):
            pixels = self._mapped(frame, height, width)
        else:
            pixels = self._scaled(frame, height, width, "rgb24").to_ndarray().view(np.uint8)
        if orientation.transposed:
            pixels = pixels.swapaxes(0, 1)
        pixels = pixels[:: -1 if orientation.flip_rows else 1, :: -1 if orientation.flip_columns else 1]
        return _barred(pixels, size)

    def _pixel_aspect(self, frame: VideoFrame) -> float:
        """Width over height of a pixel of this frame."""
        if self._aspect is not None:
            return self._aspect
        if self.size is not None:
            # Near a change that of a frame or two later: enough to decide about bars.
            return float(self.context.sample_aspect_ratio or 1)
        # PyAV does not give a frame's own ratio, but FFmpeg's filters know it.
        if self._ruler is None:
            width = f"clip(round({_ASPECT_UNITS}*sar),1,5*{_ASPECT_UNITS})"
            self._ruler = _graph(frame, "scale", w=width, h="1", flags="neighbor", eval="frame")
        self._ruler.push(frame)
        return _last_of(self._ruler).width / _ASPECT_UNITS

    def _deinterlaced(self, moment: Moment) -> VideoFrame:
        """The frame with the lines of its second field put in place of those of its first, by FFmpeg's `bwdif`."""
        frame = moment.frame
        shape = frame.width, frame.height, frame.format.name
        before, after = (
            other if other is not None and (other.width, other.height, other.format.name) == shape else None
            for other in (moment.before, moment.after)
        )
        graph = self._graphs.get(("bwdif", *shape))
        if graph is None or before is None:  # A new filter interpolates its first frame without one before.
            graph = self._graphs["bwdif", *shape] = _graph(frame, "bwdif", mode="send_frame")
            self._pushed = []
        # It gives a frame when it has seen the next; at the end of the video the last one again, as in FFmpeg.
        line = [one for one in (before, frame) if one is not None]
        for one in [] if self._pushed == line else line:
            graph.push(one)
        graph.push(after or frame)
        self._pushed = [frame, after or frame]
        return _last_of(graph)

    def _scaled(self, frame: VideoFrame, height: int, width: int, form: str) -> VideoFrame:
        try:
            return self._scaler.reformat(
                frame, width, height, form, interpolation=Interpolation.BILINEAR, **_ONE_THREAD
            )
        except av.error.ArgumentError as error:
            if height * width > _LARGEST:
                raise MemoryError(f"{width}x{height}") from error
            raise

    def _mapped(self, frame: VideoFrame, height: int, width: int) -> UInt8Array:
        """The frame scaled, then its colours looked up in a table (FFmpeg's `lut3d`)."""
        if frame.colorspace == _UNSPECIFIED:
            frame.colorspace = _BT2020
        deep = self._scaled(frame, height, width, "rgb48le")
        transfer = frame.color_trc if frame.color_trc in (_PQ, _HLG) else 0
        if (graph := self._graphs.get(("lut3d", width, height, transfer))) is None:
            with TemporaryDirectory() as folder:
                table = Path(folder) / "map.cube"
                table.write_text(_cube(transfer))
                graph = self._graphs["lut3d", width, height, transfer] = _graph(deep, "lut3d", file=str(table))
        graph.push(deep)
        # The high byte of each value.
        return _last_of(graph).to_ndarray().view(np.uint8)[..., 1::2]


def _graph(frame: VideoFrame, name: str, **options: str) -> Graph:
    """A graph of one filter for frames like this."""
    graph = Graph()
    graph.threads = 1
    size = f"{frame.width}x{frame.height}"
    source = graph.add("buffer", video_size=size, pix_fmt=frame.format.name, time_base="1/1000", pixel_aspect="1/1")
    graph.link_nodes(source, graph.add(name, **options), graph.add("buffersink")).configure()
    return graph


def _last_of(graph: Graph) -> VideoFrame:
    """The newest frame that a graph has ready."""
    frame = graph.pull()
    with suppress(av.error.BlockingIOError):
        while True:
            frame = graph.pull()
    assert isinstance(frame, VideoFrame)
    return frame


@functools.cache
def _cube(transfer: int) -> str:
    """A table from R'G'B' of BT.2020 and this transfer to 8 bits of BT.709, as a .cube file.

    HDR is made SDR as FFmpeg's `zscale=t=linear:npl=203,zscale=p=bt709,tonemap=mobius:desat=0:peak=1000/203,
    zscale=t=bt709` does it: highlights are compressed above .3 of white, hue is kept. Sources: ITU-R BT.2100 tables 4
    and 5 (PQ, HLG), BT.1886 (display of SDR), libavfilter/vf_tonemap.c (the curve).
    """
    grid = np.linspace(0, 1, _CUBE)
    coded = np.stack(np.meshgrid(grid, grid, grid, indexing="ij")[::-1], axis=-1).reshape(-1, 3)
    if transfer == _PQ:
        power = coded ** (32 / 2523)
        light = 10_000 * (np.maximum(power - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * power)) ** (16384 / 2610)
    elif transfer == _HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(coded <= 0.5, coded**2 / 3, (np.exp((coded - c) / a) + b) / 12)
        light = _PEAK * scene * (scene @ _LUMA_2020)[:, None] ** 0.2
    else:
        light = _WHITE * coded**2.4
    rgb = light @ _TO_709.T / _WHITE
    if transfer:
        brightest = np.maximum(rgb.max(axis=1, keepdims=True), 1e-6)
        rgb *= _mobius(brightest) / brightest
    # Half a step is added, so that the high byte of FFmpeg's 16 bits is the rounded value.
    rows = (rgb.clip(0, 1) ** (1 / 2.4) * 65280 + 128) / 65535
    return f"LUT_3D_SIZE {_CUBE}\n" + ("%.6f %.6f %.6f\n" * len(rows)) % tuple(rows.ravel().tolist())


def _mobius(light: Float64Array, knee: float = 0.3, peak: float = _PEAK / _WHITE) -> Float64Array:
    """Light relative to white, compressed above the knee so that the peak becomes 1."""
    a = -(knee**2) * (peak - 1) / (knee**2 - 2 * knee + peak)
    b = (knee**2 - 2 * knee * peak + peak) / (peak - 1)
    compressed = (b**2 + 2 * b * knee + knee**2) / (b - a) * (light + a) / (light + b)
    return np.where(light <= knee, light, compressed)
