"""Where the YAML lies, and how a run's YAML becomes its model again."""

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from keyframe.errors import KeyframeError
from keyframe.files import write_text


def conf_dir() -> Path:
    """The directory of the YAML files: `conf/` of a checkout, else the copy inside the installed package."""
    package = Path(__file__).resolve().parent
    for place in (package.parent / "conf", package / "conf"):
        if (place / "train.yaml").is_file():
            return place
    raise KeyframeError(f"The configuration files are missing from {package}: install keyframe again.")


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain containers, every interpolation resolved."""
    resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def save_config(config: DictConfig, run_dir: Path) -> None:
    """Write `config.yaml`, resolved, into a run directory."""
    write_text(run_dir / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plain(config))))


def build_model(model: dict[str, Any]) -> Any:
    """Rebuild a detector from the `model` part of a run's configuration, without pretrained weights.

    The file may come from anywhere, so only our own model classes are built from it.

    Raises:
        KeyframeError: the configuration names anything else.
    """
    stray = [name for name in _targets(model) if not name.startswith("keyframe.models.")]
    if stray:
        raise KeyframeError(f"The run's configuration builds {stray[0]}, which is not a model of keyframe.")
    config = OmegaConf.create(model)
    config.backbone.pretrained = False
    config.backbone.weights = None
    return instantiate(config, _convert_="all")


def _targets(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [str(value["_target_"])] if "_target_" in value else []
        return own + [name for child in value.values() for name in _targets(child)]
    if isinstance(value, list):
        return [name for child in value for name in _targets(child)]
    return []
