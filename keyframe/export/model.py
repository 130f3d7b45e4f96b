"""An exported file as a model that scores videos, and its card; with an ONNX file no torch is imported.

File and card, a JSON file beside it that holds all that is known of the run, may come from anywhere. A card's values
are checked, and what its file is by its name, by its content and by its card must agree before anything is loaded. An
ONNX file is data: it is loaded if it is a straight line of ONNX's own operators. A TorchScript or torch.export file is
a program, loaded only if the user trusts it. What either computes is checked at each call.
"""

import json
import os
import re
import warnings
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from keyframe.data.sampling import SPAN, average_windows
from keyframe.files import file_hash, one_line, read_json, unchanged, write_text
from keyframe.summary.describe import Appearance
from keyframe.system import pip_install
from keyframe.trust import NO_TRUST, Trust, TrustLike, check_plain, check_types
from keyframe.types import Float32Array, FloatArray, Int64Array, IntArray, KeyframeError, UInt8Array, check_number

# Format -> the end of the file's name.
SUFFIXES = {"torchscript": ".torchscript.pt", "torch_export": ".pt2", "onnx": ".onnx", "onnx_int8": ".int8.onnx"}
KINDS = {".pt": "TorchScript", ".pt2": "torch.export", ".onnx": "ONNX"}  # what a file is, by the suffix of its name
FRAMES, SCORES = "frames", "scores"  # the input and the output of a program

_MADE_BY = "keyframe-export"
# Version of the card's layout; other versions are refused.
_CARD_VERSION = 2
_USE = {
    "meant_for": ["choosing keyframes of videos", "video summaries, previews and skims"],
    "not_meant_for": [
        "judging people or what they do",
        "finding particular persons, objects or events",
        "decisions that no one reviews",
    ],
    "limits": "It has learned what the annotators of its training videos found important; on other kinds of video, "
    "measure it before you rely on it.",
}

# Bounds of a card's values: a side in pixels, frames of a window, and bytes of a window's frames.
_MAX_SIDE, _MAX_WINDOW, _MAX_WINDOW_BYTES = 4096, 10_000, 2**33
_MAX_NAME = 200
OPSETS = range(18, 24)  # versions of ONNX's operators that torch's exporter and ONNX Runtime both know
_MAX_OPERATORS = 50_000  # more are no model of ours, and ONNX Runtime's time grows with their square
_ROUNDING = 1e-4  # how far scores may lie outside [0, 1] by rounding

# Frames uint8 (N, T, 3, H, W) -> scores float32 (N, T).
Program = Callable[[UInt8Array], Float32Array]


@dataclass(frozen=True)
class Card:
    """What is known of an exported file."""

    format: str  # one of `SUFFIXES`
    sha256: str  # of the file; it shows which file the card belongs to, and proves nothing about who made it
    checkpoint_sha256: str  # of the checkpoint that was exported
    backbone: str  # timm's name
    size: tuple[int, int]  # (height, width) of a frame in pixels, as in training, at most 4096 each
    # frames the model was trained to see at once, spread evenly over a video, at most 10,000; None for any number
    window: int | None
    parameters: Mapping[str, float]  # counts, `total` among them, as of the run
    file_mb: float  # MB (10^6 bytes) of the file
    # particular to its format: ONNX's opset, and of int8 the method and the calibration videos
    making: Mapping[str, Any]
    check: Mapping[str, Any]  # how far its scores are from the run's own, and on which videos
    config: Mapping[str, Any]  # the run's whole configuration, plain nested values
    versions: Mapping[str, str]  # of the packages that made it
    # ids of the run's videos by part, for `keyframe.data.splits.Split.from_plain`; None in cards of before
    split: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.format not in SUFFIXES:
            raise KeyframeError(f"format={self.format} must be one of {', '.join(SUFFIXES)}.")
        for key in ("sha256", "checkpoint_sha256"):
            if not re.fullmatch("[0-9a-f]{64}", getattr(self, key)):
                raise KeyframeError(f"{key}={getattr(self, key)} must be a SHA-256.")
        if not self.backbone.isprintable() or len(self.backbone) > _MAX_NAME:
            raise KeyframeError(f"backbone={self.backbone!r} must be a name of at most {_MAX_NAME} characters.")
        for side in self.size:
            check_number("size", side, 1, _MAX_SIDE)
        check_number("window", self.window, 1, _MAX_WINDOW, optional=True)
        if 3 * self.size[0] * self.size[1] * (self.window or SPAN) > _MAX_WINDOW_BYTES:
            raise KeyframeError(f"window={self.window} frames of size={self.size} fill more than 8 GB of memory.")
        for name, count in {"total": None, **self.parameters}.items():
            check_number(f"parameters.{name}", count, 0, 1e12, whole=False)
        check_number("file_mb", self.file_mb, 0, 1e6, whole=False)

    @property
    def kind(self) -> str:
        """One of the values of `KINDS`."""
        return KINDS[SUFFIXES[self.format][SUFFIXES[self.format].rindex(".") :]]


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
    """The card of an exported file, checked to be this file's; the file is not loaded."""
    place = card_path(path)
    if not path.is_file():
        raise KeyframeError(f"there is no exported model {path}: give a file that keyframe-export wrote.")
    if not place.exists():
        raise KeyframeError(f"{path} has no card: put {place.name}, which keyframe-export wrote with it, beside it.")
    content = read_json(place)
    if not isinstance(content, dict) or content.get("made_by") != _MADE_BY:
        raise KeyframeError(f"{place} is not a card of keyframe-export: export the model again.")
    # the split may have more values, and is checked where it is used
    check_plain({key: value for key, value in content.items() if key != "split"}, place)
    if content.get("card") != _CARD_VERSION:
        raise KeyframeError(f"{place} is a card from another version of keyframe: export the model again.")
    values: dict[str, Any] = {field.name: content.get(field.name) for field in fields(Card)}
    check_types(Card, values, place)
    try:
        card = Card(**{**values, "size": tuple(values["size"])})
    except KeyframeError as error:
        reason = one_line(str(error)).rstrip(".")[:_MAX_NAME]
        raise KeyframeError(f"{place} is damaged ({reason}): export the model again.") from error
    if card.sha256 != file_hash(path):
        raise KeyframeError(f"{place} is not the card of {path}, or that was changed: export it again.")
    kinds = (KINDS.get(path.suffix, "another kind"), _kind_of_content(path), card.kind)
    if len(set(kinds)) > 1:
        raise KeyframeError(
            f"{path} was not loaded: it is {kinds[0]} by its name, {kinds[1]} by its content and {kinds[2]} by its "
            "card; use it as keyframe-export wrote it."
        )
    return card


def _kind_of_content(path: Path) -> str:
    """What a file is by its first bytes and, of an archive, by the files in it."""
    with path.open("rb") as file:
        first = file.read(4)
    if first[:1] == b"\x08":  # the version of ONNX, the first field of its protobuf message
        return KINDS[".onnx"]
    try:
        names = zipfile.ZipFile(path).namelist() if first == b"PK\x03\x04" else []
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "a damaged archive"
    inside = {name.partition("/")[2] for name in names}
    if {"archive_format", "models/model.json"} <= inside:
        return KINDS[".pt2"]
    if "constants.pkl" in inside and any(name.startswith("code/") for name in inside):
        return KINDS[".pt"]
    return "another kind"


def is_exported(path: str | Path) -> bool:
    """Whether a model's file is an exported one by its name, not a checkpoint."""
    return Path(path).suffix in KINDS


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
        raise KeyframeError(f"ONNX needs the package {error.name}: {pip_install('onnx')}.") from error


def require_packages() -> None:
    """Check that ONNX files can be written and run."""
    with onnx_packages():
        for package in ("onnx", "onnxruntime", "onnxscript"):
            import_module(package)


def load_program(path: Path, format: str, threads: int = 0) -> Program:
    """What an exported file computes, on the CPU; nothing is checked before, see `load_exported`.

    An ONNX file is data. The other formats are programs that torch unpickles and runs, with all rights of the user. The
    program raises KeyframeError if it fails or its scores are not finite, in [0, 1], or one per frame. 0 `threads`
    leave their number to the library.
    """
    try:
        compute = _onnx_call(path, threads) if format.startswith("onnx") else _torch_call(path, format, threads)
    except KeyframeError:
        raise
    except Exception as error:  # ONNX Runtime has one class per status; torch raises whatever a file's bytes lead to
        raise _failed(path, "cannot be loaded", error) from error

    def program(frames: UInt8Array) -> Float32Array:
        try:
            scores = compute(frames)
        except Exception as error:  # a file's maker decides what it raises
            raise _failed(path, f"cannot score frames of shape {frames.shape}", error) from error
        if not isinstance(scores, np.ndarray) or scores.dtype != np.float32 or scores.shape != frames.shape[:2]:
            given = f"{scores.dtype} {scores.shape}" if isinstance(scores, np.ndarray) else type(scores).__name__
            raise KeyframeError(f"{path} gives {given}, not float32 {frames.shape[:2]} scores: export the model again.")
        if not (scores.min() >= -_ROUNDING and scores.max() <= 1 + _ROUNDING):  # NaN too
            raise KeyframeError(
                f"{path} gives scores from {scores.min():g} to {scores.max():g}, not in [0, 1]: export the model again."
            )
        return scores

    return program


def _torch_call(path: Path, format: str, threads: int) -> Callable[[UInt8Array], Any]:
    import torch  # not at the top: an ONNX file needs none

    if threads:
        torch.set_num_threads(threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, as keyframe-export says
        model = torch.jit.load(path) if format == "torchscript" else torch.export.load(path).module()
    return torch.inference_mode()(lambda frames: model(torch.from_numpy(frames)).numpy())


def _onnx_call(path: Path, threads: int) -> Callable[[UInt8Array], Any]:
    with onnx_packages():
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # without remarks on shapes that it cannot infer
    providers = ["CPUExecutionProvider"]
    # a fallback would try again and print
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=providers, enable_fallback=0)
    return lambda frames: session.run([SCORES], {FRAMES: frames})[0]


def _require_data(path: Path) -> None:
    """Refuse an ONNX file that could run without end or read other files."""
    with onnx_packages():
        import onnx
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf has classes of its own
        raise _failed(path, "cannot be loaded", error) from error
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    tensors = [*model.graph.initializer, *(one for part in attributes for one in (part.t, *part.tensors))]
    sparse = any(part.HasField("sparse_tensor") or part.sparse_tensors for part in attributes)
    unusual = {
        "loops or branches": any(part.HasField("g") or part.graphs for part in attributes),
        "functions": model.functions,
        "weights in other files": any(one.data_location or one.external_data for one in tensors),
        "sparse weights": sparse or model.graph.sparse_initializer,
        "operators that are not ONNX's": any(node.domain not in ("", "ai.onnx") for node in model.graph.node),
        f"more than {_MAX_OPERATORS:,} operators": len(model.graph.node) > _MAX_OPERATORS,
    }
    if name := next((name for name, found in unusual.items() if found), None):
        raise KeyframeError(
            f"{path} was not loaded: it has {name}, as no file of keyframe-export; add trust=true if you trust who "
            "made it."
        )


def _failed(path: Path, what: str, error: Exception) -> KeyframeError:
    reason = one_line(str(error))[:200]
    return KeyframeError(f"{path} {what} ({type(error).__name__}: {reason}): export the model again.")


@dataclass(frozen=True, eq=False)
class ExportedModel:
    """An exported file as a `keyframe.pipeline.Scorer`; made by `load_exported`."""

    path: Path  # the file
    card: Card  # beside it
    program: Program  # what it computes

    @property
    def backbone(self) -> str:
        return self.card.backbone

    @property
    def format(self) -> str:
        return self.card.format

    @property
    def name(self) -> str:
        return f"an exported model, {self.backbone} ({self.format})"

    @property
    def description(self) -> dict[str, Any]:
        """As of `describe_model` when the file was loaded."""
        return {"kind": "exported", "file_sha256": self.card.sha256}

    @property
    def libraries(self) -> tuple[str, ...]:
        return ("onnxruntime",) if self.format.startswith("onnx") else ("torch",)

    @property
    def size(self) -> tuple[int, int]:
        return self.card.size

    @property
    def window(self) -> int | None:
        return self.card.window

    def see(self, images: Iterator[UInt8Array], n: int) -> Float32Array:
        """The scores of n frames, (n,).

        A program takes whole windows, so where they overlap a frame is encoded more than once. The frames of one
        section (see `keyframe.data.sampling`) are held at once, 1200 at most.
        """
        held = _HeldFrames(images)
        scores = average_windows(lambda places: self.program(held.take(places)), n, self.window)
        deque(held.stream, maxlen=0)  # to its end, so that the reader reports what it left out
        return scores

    def score(
        self, seen: FloatArray, appearance: Appearance | None = None, shots: IntArray | None = None
    ) -> FloatArray:
        """What `see` has returned."""
        return seen


def load_exported(path: str | Path, threads: int = 0, trust: TrustLike = NO_TRUST) -> ExportedModel:
    """Load a file of keyframe-export, with the card beside it; with an ONNX file no torch is imported.

    0 `threads` leave their number to the library. `trust` is what the file may do, see `keyframe.trust.Trust.of`:
    TorchScript and torch.export files are programs. A KeyframeError says why a file is not loaded.
    """
    path = Path(path).expanduser()
    with unchanged(path):  # what is checked is what is loaded
        card = read_card(path)
        if not Trust.of(trust).programs:
            if card.kind != KINDS[".onnx"]:
                raise KeyframeError(
                    f"{path} was not loaded: it is a program ({card.kind}), which can do anything that you can; add "
                    "trust=true if you trust who made it, or use an .onnx file, which needs no trust."
                )
            _require_data(path)
        program = load_program(path, card.format, threads)
    program(np.random.default_rng(0).integers(0, 256, (1, 2, 3, *card.size), dtype=np.uint8))
    return ExportedModel(path, card, program)


def require_cpu(path: Path, device: str) -> None:
    """Refuse another device for an exported file."""
    if device not in ("auto", "cpu"):
        raise KeyframeError(f"device={device}: the exported model {path} runs on the CPU; leave device out.")


def require_checkpoint(run: str | Path) -> None:
    """Refuse an exported file where only the model of a checkpoint will do."""
    if is_exported(run):
        raise KeyframeError(f"{run} is an exported file without a checkpoint: give the run that it was made from.")


class _HeldFrames:
    """The frames that windows ask for, from a stream; those before the latest window's first are dropped."""

    def __init__(self, stream: Iterator[UInt8Array]) -> None:
        self.stream = stream
        self._frames: deque[UInt8Array] = deque()
        self._first = 0

    def take(self, places: Int64Array) -> UInt8Array:
        """Frames of windows by their places in the stream, (B, T) -> (B, T, 3, H, W)."""
        while self._first + len(self._frames) <= places.max():
            self._frames.extend(next(self.stream))
        while self._first < places.min():
            self._frames.popleft()
            self._first += 1
        stacked = np.stack([self._frames[place - self._first] for place in places.flat]).transpose(0, 3, 1, 2)
        return np.ascontiguousarray(stacked).reshape(*places.shape, *stacked.shape[1:])
