"""An exported file as a model that scores videos; with an ONNX file no torch is imported.

An ONNX file is data: it is loaded if it is a straight line of ONNX's own operators. A TorchScript or torch.export file
is a program, loaded only if the user trusts it. What either computes is checked at each call.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from keyframe.data.sampling import average_windows
from keyframe.export.card import FRAMES, KINDS, SCORES, Card, read_card
from keyframe.files import file_hash, one_line, unchanged
from keyframe.summary.describe import Appearance
from keyframe.system import pip_install
from keyframe.trust import NO_TRUST, Trust, TrustLike
from keyframe.types import Float32Array, FloatArray, Int64Array, IntArray, KeyframeError, UInt8Array

# Versions of ONNX's operators that torch's exporter and ONNX Runtime both know.
OPSETS = range(18, 24)
# More are no model of ours, and ONNX Runtime's time grows with their square.
_MAX_OPERATORS = 50_000
# How far scores may lie outside [0, 1] by rounding.
_ROUNDING = 1e-4

# Frames uint8 (N, T, 3, H, W) -> scores float32 (N, T).
Program = Callable[[UInt8Array], Float32Array]


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
        raise _failed(path, "cannot be loaded", error) from error

    @torch.inference_mode()
    def program(frames: UInt8Array) -> Float32Array:
        scores: Float32Array = model(torch.from_numpy(frames)).numpy()
        return scores

    return _checked_program(program, path)


def load_onnx(path: Path, threads: int = 0) -> Program:
    """What an ONNX file computes, by ONNX Runtime on the CPU."""
    with onnx_packages():
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # without remarks on shapes that it cannot infer
    try:
        session = onnxruntime.InferenceSession(
            os.fspath(path),
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # which would try again and print
        )
    except Exception as error:  # ONNX Runtime has one class per status
        raise _failed(path, "cannot be loaded", error) from error

    def program(frames: UInt8Array) -> Float32Array:
        scores: Float32Array = session.run([SCORES], {FRAMES: frames})[0]
        return scores

    return _checked_program(program, path)


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
    unusual = {
        "loops or branches": any(part.HasField("g") or part.graphs for part in attributes),
        "functions": bool(model.functions),
        "weights in other files": any(one.data_location or one.external_data for one in tensors),
        "sparse weights": bool(model.graph.sparse_initializer)
        or any(part.HasField("sparse_tensor") or part.sparse_tensors for part in attributes),
        "operators that are not ONNX's": any(node.domain not in ("", "ai.onnx") for node in model.graph.node),
        f"more than {_MAX_OPERATORS:,} operators": len(model.graph.node) > _MAX_OPERATORS,
    }
    for name, found in unusual.items():
        if found:
            raise KeyframeError(
                f"{path} was not loaded: it has {name}, as no file of keyframe-export; add trust=true if you trust "
                "who made it."
            )


def _checked_program(compute: Program, path: Path) -> Program:
    """A program that raises KeyframeError if it fails or its scores are none."""

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
        """Timm's name of the backbone."""
        return self.card.backbone

    @property
    def format(self) -> str:
        """One of `SUFFIXES`."""
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
        """(height, width) in pixels of the frames it takes."""
        return self.card.size

    @property
    def window(self) -> int | None:
        """The number of frames it sees at once; None for any number."""
        return self.card.window

    def see(self, images: Iterator[UInt8Array], n: int) -> Float32Array:
        """The scores of n frames, (n,).

        A program takes whole windows, so where they overlap a frame is encoded more than once. The frames of one
        section (see `keyframe.data.sampling`) are held at once, 1200 at most.
        """
        held = _HeldFrames(images)
        scores = average_windows(lambda places: self.program(held.take(places)), n, self.window)
        held.finish()
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
        self._stream = stream
        self._pieces: list[UInt8Array] = []
        self._first = self._next = 0

    def take(self, places: Int64Array) -> UInt8Array:
        """Frames of windows by their places in the stream, (B, T) -> (B, T, 3, H, W)."""
        while self._next <= places.max():
            self._pieces.append(next(self._stream))
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
