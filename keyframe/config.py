"""Where the YAML lies, and how a run's YAML becomes its model again."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from keyframe.errors import KeyframeError
from keyframe.files import write_text

if TYPE_CHECKING:  # torch is heavy, and the command line needs this module for --help
    from keyframe.models.detector import KeyframeDetector

# Named one by one: a module's namespace also holds what the module imports.
_MODEL_CLASSES = {
    "keyframe.models.backbone.Backbone",
    "keyframe.models.detector.KeyframeDetector",
    "keyframe.models.head.TemporalHead",
}


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


def load_detector(run: str | Path) -> "KeyframeDetector":
    """Rebuild the trained model of a run, in eval mode, on the CPU.

    Args:
        run: a run directory (its best checkpoint), or a checkpoint file.

    Raises:
        KeyframeError: there is no checkpoint, it is damaged, or it is not one of ours.
    """
    from keyframe.training.checkpoints import read_checkpoint

    path = Path(run).expanduser()
    if path.is_dir():
        path = path / "checkpoints" / "best.ckpt"
    if not path.is_file():
        raise KeyframeError(f"run={run}: there is no checkpoint {path}.")
    checkpoint = read_checkpoint(path)
    model = checkpoint.get("hyper_parameters", {}).get("model")
    if model is None:
        raise KeyframeError(f"{path} does not say how its model is built: use a checkpoint that keyframe wrote.")
    detector = _build(model, path)
    prefix = "detector."
    weights = {key[len(prefix) :]: value for key, value in checkpoint["state_dict"].items() if key.startswith(prefix)}
    detector.load_state_dict(weights)
    return detector.eval()


def _build(model: dict[str, Any], path: Path) -> "KeyframeDetector":
    """The model without pretrained weights. A checkpoint may come from anywhere: it builds our model classes only."""
    stray = [name for name in _targets(model) if name not in _MODEL_CLASSES]
    if stray:
        raise KeyframeError(f"{path} was not loaded: it asks for {stray[0]}, which is not a model of keyframe.")
    config = OmegaConf.create(model)
    config.backbone.pretrained = False
    config.backbone.weights = None
    detector: KeyframeDetector = instantiate(config, _convert_="all")
    return detector


def _targets(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [str(value["_target_"])] if "_target_" in value else []
        return own + [name for child in value.values() for name in _targets(child)]
    if isinstance(value, list):
        return [name for child in value for name in _targets(child)]
    return []
