"""The formats a model is exported in, and how their files are told apart.

The card of an exported file: all that is to be known of it, as JSON beside it, so that it stands for its run.

An exported file as a function of frames.

An exported file as a model that scores videos; with an ONNX file no torch is imported.
"""

import json
import logging
import os
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import keyframe
from keyframe.data.packets import PacketIndex
from keyframe.data.reader import VideoReader
from keyframe.data.sampling import average_windows
from keyframe.files import file_hash, write_text
from keyframe.system import installed_versions
from keyframe.types import Frames, IntArray, KeyframeError, Scores

# By format, the end of the file's name.
SUFFIXES = {
    "torchscript": ".torchscript.pt",
    "torch_export": ".pt2",
    "onnx": ".onnx",
    "onnx_int8": ".int8.onnx",
}
# Versions of ONNX's operators that torch's exporter and ONNX Runtime both know.
OPSETS = range(18, 24)
# The input and the output of a program.
FRAMES, SCORES = "frames", "scores"


def is_exported(path: str | Path) -> bool:
    """Whether a model's file is one that was exported, by its name; a checkpoint ends otherwise."""
    return Path(path).suffix in (".pt", ".pt2", ".onnx")


@contextmanager
def onnx_packages() -> Iterator[None]:
    """Around imports of the extra `onnx`.

    Raises:
        KeyframeError: one of its packages is missing.
    """
    try:
        yield
    except ImportError as error:
        raise KeyframeError(f"ONNX needs the package {error.name}: pip install 'keyframe[onnx]'.") from error


def require_packages() -> None:
    """See that ONNX files can be written and run.

    Raises:
        KeyframeError: a package of the extra `onnx` is missing.
    """
    with onnx_packages():
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401


_MADE_BY = "keyframe-export"
# Of this layout; another one is refused.
_CARD = 2

# What the model was made for and what not, in words.
USE = {
    "meant_for": ["choosing keyframes of videos", "video summaries, previews and skims"],
    "not_meant_for": [
        "judging people or what they do",
        "finding particular persons, objects or events",
        "decisions that nobody looks at again",
    ],
    "limits": "It has learned what the annotators of its training videos found important; on other kinds of video, "
    "measure it before you rely on it.",
}


@dataclass(frozen=True)
class Card:
    """What is known of an exported file.

    Attributes:
        format: one of `SUFFIXES`.
        sha256: of the file; it tells which file the card is of, and proves nothing about who made it.
        checkpoint_sha256: of the checkpoint that was exported.
        backbone: timm's name.
        size: (height, width) of a frame in pixels. Fixed: the scores of a model mean little at a size it was not
            trained with.
        window: frames the model was trained to see at once, spread evenly over a video; None for any number.
        parameters: counts, `total` among them, as of the run.
        file_mb: MB (10^6 bytes) of the file.
        making: what is particular to its format: ONNX's opset, and of int8 the method and the videos calibrated on.
        check: how far its scores are from the run's own, and on which videos.
        config: the run's whole configuration, plain nested values.
        versions: of what it was made with.
    """

    format: str
    sha256: str
    checkpoint_sha256: str
    backbone: str
    size: tuple[int, int]
    window: int | None
    parameters: Mapping[str, float]
    file_mb: float
    making: Mapping[str, Any]
    check: Mapping[str, Any]
    config: Mapping[str, Any]
    versions: Mapping[str, str]


def card_path(path: Path) -> Path:
    """Where the card of a file lies."""
    return path.with_name(f"{path.name}.json")


def write_card(path: Path, card: Card) -> None:
    """Write the card of a file beside it."""
    height, width = card.size
    content = {
        "made_by": _MADE_BY,
        "card": _CARD,
        "input": {
            "name": FRAMES,
            "shape": ["videos", "frames", 3, height, width],
            "dtype": "uint8",
            "range": [0, 255],
            "channels": "RGB",
            "normalisation": "inside the file: pass pixels as they are",
        },
        "output": {"name": SCORES, "shape": ["videos", "frames"], "dtype": "float32", "range": [0, 1]},
        "use": USE,
        **asdict(card),
    }
    write_text(card_path(path), json.dumps(content, indent=2) + "\n")


def read_card(path: Path) -> Card:
    """The card of an exported file, once it is known to be this file's.

    Raises:
        KeyframeError: there is no file or no card, it is damaged or of another version, or of another file.
    """
    place = card_path(path)
    if not path.is_file():
        raise KeyframeError(f"there is no exported model {path}: give a file that keyframe-export wrote.")
    if not place.is_file():
        raise KeyframeError(f"{path} has no card: put {place.name}, which keyframe-export wrote with it, beside it.")
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
        ours = content["made_by"] == _MADE_BY
        known = content["card"] == _CARD
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KeyframeError(
            f"{place} is not a card of keyframe-export, or is damaged: export the model again."
        ) from error
    if not (ours and known):
        raise KeyframeError(f"{place} is a card of another version of keyframe: export the model again with this one.")
    try:
        card = _card(content)
    except (KeyError, TypeError, ValueError) as error:
        raise KeyframeError(f"{place} is damaged ({error}): export the model again.") from error
    if card.sha256 != file_hash(path):
        raise KeyframeError(
            f"{place} is the card of another file than {path}, or the file was changed: export it again."
        )
    return card


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of keyframe, Python and the given distributions."""
    own = {"keyframe": keyframe.__version__, "python": platform.python_version()}
    return own | installed_versions(packages)


def _card(content: Mapping[str, Any]) -> Card:
    """Raises KeyError, TypeError or ValueError where it is none."""
    values = {name: content[name] for name in Card.__dataclass_fields__}
    height, width = values["size"]
    numbers = [height, width, *([] if values["window"] is None else [values["window"]])]
    if not all(isinstance(number, int) and number > 0 for number in numbers):
        raise ValueError("size or window")
    if values["format"] not in SUFFIXES:
        raise ValueError("format")
    if not isinstance(values["config"], dict):
        raise TypeError("config")
    return Card(**{**values, "size": (height, width)})


# Frames uint8 (N, T, 3, H, W) -> scores float32 (N, T).
Program = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


def load_program(path: Path, format: str, threads: int = 0) -> Program:
    """What an exported file computes, on the CPU.

    An ONNX file is data. The others are programs that torch unpickles and runs: a file from somebody else can do
    anything that its user can.

    Args:
        path: the file.
        format: one of `keyframe.export.model.SUFFIXES`.
        threads: that it computes with; 0 leaves it to the library.

    Raises:
        KeyframeError: ONNX Runtime is missing, or the file is damaged.
    """
    if format in ("onnx", "onnx_int8"):
        return load_onnx(path, threads)
    import torch

    if threads:
        torch.set_num_threads(threads)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated, which keyframe-export has told
            model = torch.jit.load(path) if format == "torchscript" else torch.export.load(path).module()
    except Exception as error:  # of a damaged file torch raises whatever its bytes lead to
        raise _unreadable(path, error) from error

    @torch.inference_mode()
    def program(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        scores: npt.NDArray[np.float32] = model(torch.from_numpy(frames)).numpy()
        return scores

    return program


def load_onnx(path: Path, threads: int = 0) -> Program:
    """What an ONNX file computes, by ONNX Runtime on the CPU; no torch is needed.

    Raises:
        KeyframeError: as `load_program`.
    """
    with onnx_packages():
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # remarks on shapes that it cannot infer
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own classes, one a status
        raise _unreadable(path, error) from error

    def program(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        scores: npt.NDArray[np.float32] = session.run([SCORES], {FRAMES: frames})[0]
        return scores

    return program


def _unreadable(path: Path, error: Exception) -> KeyframeError:
    reason = " ".join(str(error).split())[:200]
    return KeyframeError(f"{path} cannot be loaded ({type(error).__name__}: {reason}): export the model again.")


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportedModel:
    """An exported file; made by `load_exported`.

    Attributes:
        path: the file.
        card: what is known of it.
        program: what it computes, frames uint8 (N, T, 3, H, W) -> scores float32 (N, T).
    """

    path: Path
    card: Card
    program: Program

    @property
    def name(self) -> str:
        """Its backbone and its format."""
        return f"{self.card.backbone} ({self.card.format})"

    def score_frames(self, path: Path, frames: IntArray, reader: VideoReader, index: PacketIndex) -> Scores:
        """Score frames of one video.

        Unlike a run's model, which encodes each frame once, a program takes whole windows: where they overlap, a frame
        is encoded more than once. The pictures of one section (see `keyframe.data.sampling`) are held at once, 1200 at
        most.

        Args:
            path: the video.
            frames: numbers in presentation order, not decreasing, (T,), T >= 1.
            reader: decodes them.
            index: of the video's packets.

        Raises:
            VideoError: the file cannot be read.
        """
        pictures = _Rolling(reader.stream(path, frames, self.card.size, index))
        scores = average_windows(lambda places: self.program(pictures.take(places)), len(frames), self.card.window)
        pictures.finish()
        return Scores(scores, np.concatenate(pictures.timestamps), np.concatenate(pictures.indices))


def load_exported(path: Path, device: str = "auto", threads: int = 0) -> ExportedModel:
    """Load an exported file with the card beside it.

    Args:
        path: the file.
        device: "auto" or "cpu".
        threads: as of `load_program`.

    Raises:
        KeyframeError: as `read_card` and `load_program`, or another device was asked for.
    """
    require_cpu(path, device)
    card = read_card(path)
    if not card.format.startswith("onnx"):
        log.warning(
            "%s is a program that torch runs: load it only if you trust who made it (ONNX files are data)", path
        )
    return ExportedModel(path, card, load_program(path, card.format, threads))


def require_cpu(path: Path, device: str) -> None:
    """Refuse another device.

    Raises:
        KeyframeError: naming it.
    """
    if device not in ("auto", "cpu"):
        raise KeyframeError(f"device={device}: the exported model {path} computes on the CPU; leave device out.")


class _Rolling:
    """The pictures that windows ask for, from a stream; those before the latest window's first are let go."""

    def __init__(self, stream: Iterator[Frames]) -> None:
        self._stream = stream
        self._pieces: list[npt.NDArray[np.uint8]] = []
        self._first = self._next = 0
        self.timestamps: list[npt.NDArray[np.float64]] = []
        self.indices: list[npt.NDArray[np.int64]] = []

    def take(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Pictures of windows by their places in the stream, (B, T) -> (B, T, 3, H, W)."""
        while self._next <= places.max():
            self._read(next(self._stream))
        while self._first + len(self._pieces[0]) <= places.min():
            self._first += len(self._pieces.pop(0))
        starts = self._first + np.cumsum([0, *(len(piece) for piece in self._pieces)])
        owners = np.searchsorted(starts, places.ravel(), side="right") - 1
        pictures = [
            self._pieces[owner][place - starts[owner]] for owner, place in zip(owners, places.ravel(), strict=True)
        ]
        stacked = np.stack(pictures).transpose(0, 3, 1, 2)
        return np.ascontiguousarray(stacked).reshape(*places.shape, *stacked.shape[1:])

    def finish(self) -> None:
        """Let the reader end."""
        for frames in self._stream:
            self._read(frames)

    def _read(self, frames: Frames) -> None:
        self._pieces.append(frames.pixels)
        self._next += len(frames)
        self.timestamps.append(frames.timestamps)
        self.indices.append(frames.indices)
