"""Where the YAML lies, and how a run's YAML becomes its model again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from keyframe.files import write_text
from keyframe.types import KeyframeError


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


def compose_training(overrides: Sequence[str]) -> tuple[DictConfig, dict[str, Any]]:
    """Build what `keyframe-train` would train with these overrides, but for its data.

    Returns:
        The whole configuration; and the `model`, the `loss` and what makes the `optimizer` of parameter groups.

    Raises:
        KeyframeError: a part refuses its options.
    """
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", list(overrides))
    return config, {name: instantiate(config[name], _convert_="all") for name in ("model", "loss", "optimizer")}
