"""Where the YAML lies, and how a run's YAML becomes its model again."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from keyframe.export.model import is_exported
from keyframe.files import write_text
from keyframe.types import KeyframeError

if TYPE_CHECKING:  # torch is heavy, and the command line needs this module for --help
    from keyframe.benchmark.baselines import Recipe
    from keyframe.data.datamodule import KeyframeDataModule
    from keyframe.models.detector import KeyframeDetector
    from keyframe.runs import BaseRun, Run

# Named one by one: a module's namespace also holds what the module imports.
_DATA_CLASSES = {
    "keyframe.data.datamodule.FeatureDataModule",
    "keyframe.data.datamodule.VideoDataModule",
    "keyframe.data.decord_reader.DecordReader",
    "keyframe.data.pyav_reader.PyAVReader",
    "keyframe.data.sampling.FpsSampling",
    "keyframe.data.sampling.UniformSampling",
    "keyframe.data.folder.DemoSource",
    "keyframe.data.folder.DirectorySource",
}
_MODEL_CLASSES = {
    "keyframe.models.backbone.Backbone",
    "keyframe.models.detector.KeyframeDetector",
    "keyframe.models.head.TemporalHead",
    "keyframe.models.backbone.NoBackbone",
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


def find_run(run: str | Path, key: str = "run") -> Path:
    """The checkpoint that `run=` means: a checkpoint file, or a run directory's best one.

    Raises:
        KeyframeError: there is none.
    """
    path = Path(run).expanduser()
    if path.is_dir():
        path = path / "checkpoints" / "best.ckpt"
    if not path.is_file():
        raise KeyframeError(f"{key}={run}: there is no checkpoint {path}; give a run directory or a checkpoint.")
    return path


def load_detector(run: str | Path) -> "KeyframeDetector":
    """Rebuild the trained model of a run, in eval mode, on the CPU.

    Args:
        run: a run directory (its best checkpoint), or a checkpoint file.

    Raises:
        KeyframeError: there is no checkpoint, it is damaged, or it is not one of ours.
    """
    path = find_run(run)
    return _detector(path, _read(path))


def load_run(
    run: str | Path,
    root: str | None = None,
    labels: str | None = None,
    device: str | None = None,
    key: str = "run",
) -> "Run":
    """Rebuild the trained model of a run together with its data.

    All is read from the checkpoint, which holds the run's whole configuration.

    Args:
        run: a run directory (its best checkpoint), or a checkpoint file.
        root: where the data lie now (`data.root`, or `data.path` of a feature file), if they were moved.
        labels: the label file to use instead of the run's own.
        device: where the model computes, a name that torch knows, or "auto" for a GPU where there is one; None for the
            CPU.
        key: what the user calls `run`, for messages.

    Raises:
        KeyframeError: as `load_detector`, the run is of another version of keyframe, or the device is not there.
    """
    from keyframe.models.detector import find_device
    from keyframe.runs import Run

    path = find_run(run, key)
    checkpoint = _read(path)
    detector = _detector(path, checkpoint)
    config = checkpoint["hyper_parameters"]
    datamodule = _datamodule(path, config, root, labels)
    if device is not None:
        detector.to(find_device(device))
    return Run(path, config, detector, datamodule)


def load_any_run(run: str | Path, root: str | None = None, labels: str | None = None) -> "BaseRun":
    """The same of a run or of an exported file, whose card tells its run's configuration; on the CPU.

    Raises:
        KeyframeError: as `load_run`, or as `keyframe.export.model.load_exported`.
    """
    path = Path(run).expanduser()
    if not is_exported(path):
        return load_run(run, root, labels)
    import torch

    from keyframe.export.model import load_exported
    from keyframe.runs import ExportedRun

    model = load_exported(path, threads=torch.get_num_threads())
    return ExportedRun(model, _datamodule(path, model.card.config, root, labels))


def load_recipe(overrides: Sequence[str]) -> "Recipe":
    """The parts and numbers of the training that `keyframe-train` makes of these overrides; of its data nothing.

    Raises:
        KeyframeError: a part refuses its options.
    """
    import torch
    from hydra import compose, initialize_config_dir

    from keyframe.benchmark.baselines import Recipe

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", list(overrides))
    torch.manual_seed(config.seed)
    size = config.data.size
    return Recipe(
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


def _read(path: Path) -> dict[str, Any]:
    from keyframe.training.run import read_checkpoint

    if is_exported(path):
        raise KeyframeError(f"{path} is an exported file, which holds no checkpoint: give the run that it was made of.")
    checkpoint = read_checkpoint(path)
    if "model" not in checkpoint.get("hyper_parameters", {}):
        raise KeyframeError(f"{path} does not say how its model is built: use a checkpoint that keyframe wrote.")
    return checkpoint


def _detector(path: Path, checkpoint: dict[str, Any]) -> "KeyframeDetector":
    """The model without pretrained weights, then with the checkpoint's."""
    model = copy.deepcopy(checkpoint["hyper_parameters"]["model"])
    if isinstance(model.get("backbone"), dict) and "pretrained" in model["backbone"]:
        model["backbone"] |= {"pretrained": False, "weights": None}
    detector: KeyframeDetector = _instantiate(model, _MODEL_CLASSES, path)
    prefix = "detector."
    weights = {key[len(prefix) :]: value for key, value in checkpoint["state_dict"].items() if key.startswith(prefix)}
    try:
        detector.load_state_dict(weights)
    except RuntimeError as error:
        raise KeyframeError(
            f"{path} holds other weights than its model has: it is of another version of keyframe; train it again."
        ) from error
    return detector.eval()


def _datamodule(
    path: Path, config: Mapping[str, Any], root: str | None, labels: str | None
) -> "KeyframeDataModule[Any]":
    """The data of a run's configuration, wherever they lie now."""
    data = config.get("datamodule")
    if not isinstance(data, dict):
        raise KeyframeError(f"{path} does not say which videos it was trained on (datamodule): train it again.")
    # What only training needs is left out, and may be of any class.
    data = copy.deepcopy({key: value for key, value in data.items() if key not in ("augmentation", "cache")})
    for name, value in (("root", root), ("labels", labels)):
        if value is not None:
            _replace(data, name, str(Path(value).expanduser()), path)
    datamodule: KeyframeDataModule[Any] = _instantiate(data, _DATA_CLASSES, path)
    return datamodule


def _instantiate(config: dict[str, Any], allowed: set[str], path: Path) -> Any:
    """Build what a checkpoint describes. It may come from anywhere: only classes of ours are built."""
    stray = [name for name in _targets(config) if name not in allowed]
    if stray:
        raise KeyframeError(f"{path} was not loaded: it asks for {stray[0]}, which is not a part of keyframe for that.")
    try:
        return instantiate(config, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, KeyframeError):
            raise error.__cause__ from error
        reason = " ".join(str(error.__cause__ or error).split())
        raise KeyframeError(
            f"{path} is a run of another version of keyframe ({reason[:200]}): train it again with this one."
        ) from error


def _replace(data: dict[str, Any], name: str, value: str, path: Path) -> None:
    """Set the data's place or labels, wherever this kind of data keeps them."""
    source: dict[str, Any] = data["source"] if isinstance(data.get("source"), dict) else data
    key = "path" if name == "root" and "path" in source else name
    if key not in source:
        raise KeyframeError(f"the run {path} has no data.{name} to replace: leave data.{name} out.")
    source[key] = value


def _targets(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [str(value["_target_"])] if "_target_" in value else []
        return own + [name for child in value.values() for name in _targets(child)]
    if isinstance(value, list):
        return [name for child in value for name in _targets(child)]
    return []
