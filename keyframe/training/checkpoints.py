"""Checkpoints read as data, never as code, and refused in words a user can act on."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from keyframe.errors import KeyframeError


def find_checkpoint(ckpt: str, run_dir: Path) -> Path:
    """The checkpoint that `ckpt=` means.

    Args:
        ckpt: a checkpoint file; a run directory; or `last`: this run directory's last checkpoint, else that of the
            newest run beside it.
        run_dir: of the run that is to start.

    Raises:
        KeyframeError: there is none.
    """
    if ckpt != "last":
        path = Path(ckpt).expanduser()
        if path.is_dir():
            path = path / "checkpoints" / "last.ckpt"
        if not path.is_file():
            raise KeyframeError(f"ckpt={ckpt}: there is no checkpoint {path}.")
        return path
    own = run_dir / "checkpoints" / "last.ckpt"
    if own.is_file():
        return own
    others = sorted(run_dir.parent.glob("*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
    if not others:
        raise KeyframeError(f"ckpt=last: no run in {run_dir.parent} has a checkpoint yet; give ckpt=FILE.")
    return others[-1]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint's tensors and plain values; code in it is refused, not run.

    Raises:
        KeyframeError: not a checkpoint, damaged, or holding anything but plain data.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if zipfile.is_zipfile(path):
            raise KeyframeError(
                f"{path} holds Python objects, not plain data: it was not loaded, because loading could run "
                "code from it. Use a checkpoint that keyframe wrote."
            ) from error
        raise KeyframeError(f"{path} is not a checkpoint, or is damaged: use another one.") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise KeyframeError(f"{path} is not a checkpoint, or is damaged: use another one.") from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise KeyframeError(f"{path} holds no model weights (no state_dict): use a checkpoint that keyframe wrote.")
    return content


def check_fits(path: Path, checkpoint: dict[str, Any], module: nn.Module) -> None:
    """Refuse a checkpoint of another architecture before anything is loaded from it.

    Raises:
        KeyframeError: names or shapes of the weights differ.
    """
    theirs, ours = checkpoint["state_dict"], module.state_dict()
    wrong = sorted(theirs.keys() ^ ours.keys()) + sorted(
        name for name in theirs.keys() & ours.keys() if theirs[name].shape != ours[name].shape
    )
    if wrong:
        made = checkpoint.get("hyper_parameters", {}).get("model", {})
        was = f" It was trained with backbone.name={made['backbone']['name']}." if "backbone" in made else ""
        raise KeyframeError(
            f"{path} is a checkpoint of another architecture ({len(wrong)} weights differ, first {wrong[0]}): "
            f"resume with the backbone and head it was trained with.{was}"
        )
