"""Checkpoints read as data, never as code, and refused in words a user can act on."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from keyframe.errors import KeyframeError

# What Lightning needs beside the weights to go on.
_STATE = ("epoch", "global_step", "loops", "callbacks", "optimizer_states")


def find_checkpoint(ckpt: str, run_dir: Path) -> Path | None:
    """The checkpoint that `ckpt=` means.

    Args:
        ckpt: a checkpoint file; a run directory (its last checkpoint); `last`: that of this run's directory; or
            `auto`: the same, or none where the run has not got that far.
        run_dir: of the run that is to go on.

    Raises:
        KeyframeError: there is none.
    """
    path = run_dir if ckpt in ("last", "auto") else Path(ckpt).expanduser()
    if path.is_dir():
        path = path / "checkpoints" / "last.ckpt"
    if ckpt == "auto" and not path.exists():
        return None
    if not path.is_file():
        raise KeyframeError(f"ckpt={ckpt}: there is no checkpoint {path}; give a checkpoint or a run directory.")
    return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint's tensors and plain values; code in it is refused, not run.

    Raises:
        KeyframeError: not a checkpoint, damaged, or holding anything but plain data.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle protocol of what is no checkpoint
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged file torch raises whatever its bytes lead to
        if isinstance(error, pickle.UnpicklingError) and _is_archive(path):
            raise KeyframeError(
                f"{path} holds Python objects, not plain data: it was not loaded, because loading could run "
                "code from it. Use a checkpoint that keyframe wrote."
            ) from error
        other = _newest_other(path)
        remedy = "use another one" if other is None else f"use another one, such as {other}"
        raise KeyframeError(f"{path} is not a checkpoint, or is damaged: {remedy}.") from error
    weights = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise KeyframeError(f"{path} holds no model weights (no state_dict): use a checkpoint that keyframe wrote.")
    return content


def check_fits(path: Path, checkpoint: dict[str, Any], module: nn.Module) -> None:
    """Refuse a checkpoint that training cannot go on from, before anything is loaded from it.

    Raises:
        KeyframeError: names or shapes of the weights differ, or there is nothing but weights.
    """
    theirs, ours = checkpoint["state_dict"], module.state_dict()
    wrong = sorted(theirs.keys() ^ ours.keys()) + sorted(
        name for name in theirs.keys() & ours.keys() if theirs[name].shape != ours[name].shape
    )
    if wrong:
        name = _backbone_name(checkpoint)
        was = f" It was trained with backbone.name={name}." if name else ""
        raise KeyframeError(
            f"{path} is a checkpoint of another architecture ({len(wrong)} weights differ, first {wrong[0]}): "
            f"resume with the backbone and head it was trained with.{was}"
        )
    missing = [name for name in _STATE if name not in checkpoint]
    if missing:
        raise KeyframeError(
            f"{path} holds weights but not the state of a training run (no {missing[0]}): resume from a checkpoint "
            "that keyframe-train wrote."
        )


def _newest_other(path: Path) -> Path | None:
    """The newest of the other checkpoints in a run's folder that can be read."""
    others = path.parent.glob("*.ckpt") if path.parent.name == "checkpoints" else ()
    for other in sorted(others, key=lambda other: other.stat().st_mtime, reverse=True):
        if other != path and _loads(other):
            return other
    return None


def _loads(path: Path) -> bool:
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # whatever the bytes of a damaged file lead to
        return False
    return True


def _is_archive(path: Path) -> bool:
    """Whether a file begins as those of `torch.save` do, which are zip archives."""
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _backbone_name(checkpoint: dict[str, Any]) -> str | None:
    """The backbone a checkpoint was trained with, where it says so."""
    value = checkpoint.get("hyper_parameters")
    for key in ("model", "backbone", "name"):
        value = value.get(key) if isinstance(value, dict) else None
    return value
