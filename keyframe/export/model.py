"""An exported file as a model that scores videos; with an ONNX file no torch is imported.

A file has one of four formats, and a card beside it, a JSON file that holds all that is known of the run.
"""

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from keyframe.data.packets import PacketIndex
from keyframe.data.reader import VideoReader
from keyframe.data.sampling import average_windows
from keyframe.files import file_hash, one_line, write_text
from keyframe.summary.describe import Appearance
from keyframe.trust import NO_TRUST, TrustLike
from keyframe.types import Float32Array, FloatArray, Frames, Int64Array, IntArray, KeyframeError, UInt8Array

log = logging.getLogger(__name__)

# Format -> the end of the file's name.
SUFFIXES = {"torchscript": ".torchscript.pt", "torch_export": ".pt2", "onnx": ".onnx", "onnx_int8": ".int8.onnx"}
# Versions of ONNX's operators that torch's exporter and ONNX Runtime both know.
OPSETS = range(18, 24)
# The input and the output of a program.
FRAMES, SCORES = "frames", "scores"

_MADE_BY = "keyframe-export"
# Version of the card's layout; other versions are refused.
_CARD_VERSION = 2
_USE = {
    "meant_for": ["choosing keyframes of videos", "video summaries, previews and skims"],
    "not_meant_for": [
        "judging people or what they do",
        "finding particular persons, objects or events",
        "decisions that no person reviews",
    ],
    "limits": "It has learned what the annotators of its training videos found important; on other kinds of video, "
    "measure it before you rely on it.",
}

# Frames uint8 (N, T, 3, H, W) -> scores float32 (N, T).
Program = Callable[[UInt8Array], Float32Array]


def is_exported(path: str | Path) -> bool:
    """Whether a model's file is an exported one by its name, not a checkpoint."""
    return Path(path).suffix in (".pt", ".pt2", ".onnx")


def find_run(run: str | Path, key: str = "run") -> Path:
    """The file that `run=` means: a run directory's best checkpoint, a checkpoint, or an exported file."""
    path = Path(run).expanduser()
    if path.is_dir():
        path = path / "checkpoints" / "best.ckpt"
    if not path.is_file():
        raise KeyframeError(f"{key}={run}: there is no checkpoint {path}; give a run directory or a checkpoint.")
    return path


def describe_model(path: Path, bf16: bool = False) -> dict[str, Any]:
    """The `Scorer.description` of a checkpoint or an exported file, known without loading it."""
    kind, file = ("exported", "file") if is_exported(path) else ("model", "checkpoint")
    return {"kind": kind, f"{file}_sha256": file_hash(path), **({"bf16": True} if bf16 else {})}


@contextmanager
def onnx_packages() -> Iterator[None]:
    """Name the extra `onnx` if an import inside fails."""
    try:
        yield
    except ImportError as error:
        raise KeyframeError(f"ONNX needs the package {error.name}: pip install 'keyframe[onnx]'.") from error


def require_packages() -> None:
    """Check that ONNX files can be written and run."""
    with onnx_packages():
        for package in ("onnx", "onnxruntime", "onnxscript"):
            import_module(package)


@dataclass(frozen=True)
class Card:
    """What is known of an exported file.

    Attributes:
        format: one of `SUFFIXES`.
        sha256: of the file; it shows which file the card belongs to, and proves nothing about who made it.
        checkpoint_sha256: of the checkpoint that was exported.
        backbone: timm's name.
        size: (height, width) of a frame in pixels, as in training.
        window: frames the model was trained to see at once, spread evenly over a video; None for any number.
        parameters: counts, `total` among them, as of the run.
        file_mb: MB (10^6 bytes) of the file.
        making: particular to its format: ONNX's opset, and of int8 the method and the calibration videos.
        check: how far its scores are from the run's own, and on which videos.
        config: the run's whole configuration, plain nested values.
        versions: of the packages that made it.
        split: ids of the run's videos by part; None in cards of before.
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
    split: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        numbers = [*self.size, *([] if self.window is None else [self.window])]
        if len(self.size) != 2 or not all(isinstance(number, int) and number > 0 for number in numbers):
            raise ValueError("size or window")
        if self.format not in SUFFIXES:
            raise ValueError("format")
        if not isinstance(self.config, dict):
            raise ValueError("config")


def card_path(path: Path) -> Path:
    """Where the card of a file lies."""
    return path.with_name(f"{path.name}.json")


def write_card(path: Path, card: Card) -> None:
    """Write the card of a file beside it."""
    content = {
        "made_by": _MADE_BY,
        "card": _CARD_VERSION,
        "input": {
            "name": FRAMES,
            "shape": ["videos", "frames", 3, *card.size],
            "dtype": "uint8",
            "range": [0, 255],
            "channels": "RGB",
            "normalisation": "inside the file: pass pixels as they are",
        },
        "output": {"name": SCORES, "shape": ["videos", "frames"], "dtype": "float32", "range": [0, 1]},
        "use": _USE,
        **asdict(card),
    }
    write_text(card_path(path), json.dumps(content, indent=2) + "\n")


def read_card(path: Path) -> Card:
    """The card of an exported file, checked to be this file's."""
    place = card_path(path)
    if not path.is_file():
        raise KeyframeError(f"there is no exported model {path}: give a file that keyframe-export wrote.")
    if not place.is_file():
        raise KeyframeError(f"{path} has no card: put {place.name}, which keyframe-export wrote with it, beside it.")
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
        known = (content["made_by"], content["card"]) == (_MADE_BY, _CARD_VERSION)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KeyframeError(
            f"{place} is not a card of keyframe-export, or is damaged: export the model again."
        ) from error
    if not known:
        raise KeyframeError(f"{place} is a card of another version of keyframe: export the model again with this one.")
    try:
        values = {one.name: content[one.name] for one in fields(Card) if one.name != "split"}
        values["split"] = content.get("split")
        card = Card(**{**values, "size": tuple(values["size"])})
    except (KeyError, TypeError, ValueError) as error:
        raise KeyframeError(f"{place} is damaged ({error}): export the model again.") from error
    if card.sha256 != file_hash(path):
        raise KeyframeError(
            f"{place} is the card of another file than {path}, or the file was changed: export it again."
        )
    return card


def load_program(path: Path, format: str, threads: int = 0) -> Program:
    """What an exported file computes, on the CPU.

    An ONNX file is data. The other formats are programs that torch unpickles and runs, with all rights of the user.

    Args:
        path: the file.
        format: one of `SUFFIXES`.
        threads: to compute with; 0 leaves it to the library.
    """
    if format.startswith("onnx"):
        return load_onnx(path, threads)
    import torch  # not at the top: an ONNX file needs none

    if threads:
        torch.set_num_threads(threads)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated, as keyframe-export says
            model = torch.jit.load(path) if format == "torchscript" else torch.export.load(path).module()
    except Exception as error:  # for a damaged file torch raises whatever its bytes lead to
        raise _unreadable(path, error) from error

    @torch.inference_mode()
    def program(frames: UInt8Array) -> Float32Array:
        scores: Float32Array = model(torch.from_numpy(frames)).numpy()
        return scores

    return program


def load_onnx(path: Path, threads: int = 0) -> Program:
    """What an ONNX file computes, by ONNX Runtime on the CPU."""
    with onnx_packages():
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # without remarks on shapes that it cannot infer
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has one class per status
        raise _unreadable(path, error) from error

    def program(frames: UInt8Array) -> Float32Array:
        scores: Float32Array = session.run([SCORES], {FRAMES: frames})[0]
        return scores

    return program


def _unreadable(path: Path, error: Exception) -> KeyframeError:
    reason = one_line(str(error))[:200]
    return KeyframeError(f"{path} cannot be loaded ({type(error).__name__}: {reason}): export the model again.")


@dataclass(frozen=True, eq=False)
class ExportedModel:
    """An exported file as a `keyframe.pipeline.Scorer`; made by `load_exported`.

    Attributes:
        path: the file.
        card: beside it.
        program: what it computes.
    """

    path: Path
    card: Card
    program: Program

    @property
    def backbone(self) -> str:
        """Timm's name of the backbone."""
        return self.card.backbone

    @property
    def format(self) -> str:
        """One of `SUFFIXES`."""
        return self.card.format

    @property
    def name(self) -> str:
        """What it is, in a few words."""
        return f"an exported model, {self.backbone} ({self.format})"

    @cached_property
    def description(self) -> dict[str, Any]:
        """See `Scorer`."""
        return describe_model(self.path)

    @property
    def libraries(self) -> tuple[str, ...]:
        """The distribution that runs the file."""
        return ("onnxruntime",) if self.format.startswith("onnx") else ("torch",)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of the frames it takes."""
        return self.card.size

    @property
    def window(self) -> int | None:
        """The number of frames it sees at once; None for any number."""
        return self.card.window

    def score_frames(
        self,
        index: PacketIndex,
        frames: IntArray,
        reader: VideoReader,
        appearance: Appearance | None = None,
        shots: IntArray | None = None,
    ) -> FloatArray:
        """Score frames; see `keyframe.pipeline.Scorer`.

        A program takes whole windows, so where they overlap a frame is encoded more than once. The frames of one
        section (see `keyframe.data.sampling`) are held at once, 1200 at most.
        """
        held = _HeldFrames(reader.stream(index.path, frames, self.size, index))
        scores = average_windows(lambda places: self.program(held.take(places)), len(frames), self.window)
        held.finish()
        return scores


def load_exported(path: str | Path, threads: int = 0, trust: TrustLike = NO_TRUST) -> ExportedModel:
    """Load a file of keyframe-export, with the card beside it; with an ONNX file no torch is imported.

    TorchScript and torch.export files are programs: load only those of people you trust.

    Args:
        path: the file.
        threads: to compute with; 0 leaves it to the library.
        trust: what the file may do, see `keyframe.trust.Trust.of`.

    Raises:
        KeyframeError: it is no such file, it is damaged, or ONNX Runtime is missing.
    """
    path = Path(path).expanduser()
    card = read_card(path)
    if not card.format.startswith("onnx"):
        log.warning(
            "%s is a program that torch runs: load it only if you trust who made it (ONNX files are data)", path
        )
    return ExportedModel(path, card, load_program(path, card.format, threads))


def require_cpu(path: Path, device: str) -> None:
    """Refuse another device for an exported file."""
    if device not in ("auto", "cpu"):
        raise KeyframeError(f"device={device}: the exported model {path} computes on the CPU; leave device out.")


class _HeldFrames:
    """The frames that windows ask for, from a stream; those before the latest window's first are dropped."""

    def __init__(self, stream: Iterator[Frames]) -> None:
        self._stream = stream
        self._pieces: list[UInt8Array] = []
        self._first = self._next = 0

    def take(self, places: Int64Array) -> UInt8Array:
        """Frames of windows by their places in the stream, (B, T) -> (B, T, 3, H, W)."""
        while self._next <= places.max():
            self._pieces.append(next(self._stream).pixels)
            self._next += len(self._pieces[-1])
        while self._first + len(self._pieces[0]) <= places.min():
            self._first += len(self._pieces.pop(0))
        starts = self._first + np.cumsum([0, *(len(piece) for piece in self._pieces)])
        owners = np.searchsorted(starts, places.ravel(), side="right") - 1
        taken = [self._pieces[owner][place - starts[owner]] for owner, place in zip(owners, places.flat, strict=True)]
        stacked = np.stack(taken).transpose(0, 3, 1, 2)
        return np.ascontiguousarray(stacked).reshape(*places.shape, *stacked.shape[1:])

    def finish(self) -> None:
        """Read the stream to its end, so that the reader reports what it left out."""
        for _ in self._stream:
            pass
