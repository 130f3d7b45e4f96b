"""Checkpoint files: read as data, never as code, into models no larger than the weights that they hold."""

import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from keyframe.types import KeyframeError

Model = TypeVar("Model", bound=nn.Module)

# torch's files are zip files; what torch wrote before 1.6 says how much memory to take before anything is read.
_ZIP = b"PK\x03\x04"
# Functions that take memory by a number that they are given.
_MAKERS = frozenset(
    (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.arange, torch.linspace, torch.eye)
)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint's tensors and plain values; code in it is refused, not run.

    `state_dict` holds tensors by name, together no larger than the file. The other values may be of any kind.
    """
    try:
        content = _load(path)
    except Exception as error:  # whatever the bytes of a damaged file lead to
        if isinstance(error, pickle.UnpicklingError):
            raise KeyframeError(
                f"{path} holds Python objects, not plain data: it was not loaded, because loading could run "
                "code from it. Use a checkpoint that keyframe wrote."
            ) from error
        other = _newest_other(path)
        remedy = "use another one" if other is None else f"use another one, such as {other}"
        raise KeyframeError(f"{path} is not a checkpoint, or is damaged: {remedy}.") from error
    weights = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()
    ):
        raise KeyframeError(f"{path} holds no model weights (no state_dict): use a checkpoint that keyframe wrote.")
    whole = all(value.layout == torch.strided and value.device.type == "cpu" for value in weights.values())
    if not whole or sum(value.nbytes for value in weights.values()) > path.stat().st_size:
        raise KeyframeError(f"{path} names weights that it does not hold: use a checkpoint that keyframe wrote.")
    return content


def _load(path: Path, mmap: bool = False) -> Any:
    """The content of a file of torch, which takes no more memory than the file is long."""
    with path.open("rb") as file:
        if file.read(len(_ZIP)) != _ZIP:
            raise ValueError("not a zip file")
        with zipfile.ZipFile(file) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                raise ValueError("compressed")  # torch compresses nothing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the pickle protocol of other files
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def _newest_other(path: Path) -> Path | None:
    """The newest of the other checkpoints in a run's folder that loads."""
    others = path.parent.glob("*.ckpt") if path.parent.name == "checkpoints" else ()
    for other in sorted(others, key=lambda other: other.stat().st_mtime, reverse=True):
        try:
            if other != path:
                _load(other, mmap=True)
                return other
        except Exception:  # whatever the bytes of a damaged file lead to
            continue
    return None


def rebuild(make: Callable[[], Model], weights: Mapping[str, Tensor], path: Path) -> Model:
    """What `make` returns, with these weights by name, in eval mode; it may take little more memory than they do.

    `make` builds the model from the configuration of the checkpoint `path`, which may ask for any size.
    """
    with _SizeLimit(weights):
        model = make()
    try:
        model.load_state_dict(weights)
    except Exception as error:  # of torch, which has several classes for what does not fit
        raise KeyframeError(
            f"{path} holds other weights than its model has: it is of another version of keyframe; train it again."
        ) from error
    if not all(torch.isfinite(value).all() for value in model.parameters()):
        raise KeyframeError(
            f"{path} holds weights that are not numbers: its training has diverged; use another checkpoint, or train "
            "again with a lower optimizer.lr."
        )
    return model.eval()


class _SizeLimit(TorchFunctionMode):
    """Refuses tensors before they are made, if they are more, or larger, than weights have use for.

    Timm's models make up to 1.3 times as many elements, and 1.4 times as many tensors, as their weights have.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.elements = 10_000_000 + 2 * sum(value.numel() for value in weights.values())
        self.tensors = 1000 + 4 * len(weights)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _MAKERS:
            sizes = {key: value for key, value in kwargs.items() if key != "generator"}
            self.tensors -= 1
            self.elements -= func(*args, **{**sizes, "device": "meta"}).numel()
            if self.tensors < 0 or self.elements < 0:
                raise ValueError("its model is larger than the weights in the file")
        return func(*args, **kwargs)
