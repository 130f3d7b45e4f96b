"""Where the YAML lies, and how a run's YAML becomes its model again."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from keyframe.files import write_text
from keyframe.types import KeyframeError

if TYPE_CHECKING:  # torch is heavy, and the command line needs this module for --help
    from keyframe.benchmark.baselines import TrainingParts


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


def load_training_parts(overrides: Sequence[str]) -> "TrainingParts":
    """The parts and numbers of the training that `keyframe-train` makes of these overrides; of its data nothing.

    Raises:
        KeyframeError: a part refuses its options.
    """
    import torch
    from hydra import compose, initialize_config_dir

    from keyframe.benchmark.baselines import TrainingParts

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", list(overrides))
    torch.manual_seed(config.seed)
    size = config.data.size
    return TrainingParts(
        detector=instantiate(config.model, _convert_="all"),
        loss=instantiate(config.loss, _convert_="all"),
        make_optimizer=instantiate(config.optimizer),
        frames=config.sampling.frames,
        size=(size, size) if isinstance(size, int) else (size[0], size[1]),
        batch_size=config.data.batch_size,
        lr_factor=config.finetune.lr_factor,
        clip=config.trainer.gradient_clip_val,
        device="cpu" if config.trainer.accelerator == "cpu" else "auto",
    )
