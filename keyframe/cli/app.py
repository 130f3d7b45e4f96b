"""keyframe-app: a local page to look at videos, choose keyframes, label, train."""

import logging
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from keyframe.cli.extract import choose_scorer, extraction_spec, output_folder
from keyframe.config import as_list
from keyframe.extraction.inputs import find_inputs
from keyframe.extraction.staging import Refused, staged
from keyframe.system import pip_install, threads
from keyframe.types import KeyframeError, check_number

try:
    from keyframe.app.library import Library, Model, short_hash
    from keyframe.app.server import serve
except ModuleNotFoundError as error:
    if error.name not in ("starlette", "uvicorn", "anyio"):
        raise
    raise KeyframeError(f"the page needs the package {error.name}: {pip_install('app')}.") from error

log = logging.getLogger(__name__)

# Keys that the commands that the page shows have no use for, or set themselves.
_OWN = (
    *("input", "recursive", "run", "features", "bf16", "output", "labels", "lowest", "highest", "shot_seconds"),
    *("training", "port", "open", "folder", "runs", "trust"),
)


def app(config: DictConfig) -> None:
    """Serve the page until Ctrl-C."""
    check_number("port", config.port, 0, 65535)
    output, folder = output_folder(config), Path(str(config.folder)).expanduser()
    labels = folder / "labels.tsv" if config.labels is None else Path(str(config.labels)).expanduser()
    if config.labels is not None and not labels.parent.is_dir():
        raise KeyframeError(f"labels={labels} lies in no folder: make {labels.parent}, or choose another place.")
    check_number("shot_seconds", config.shot_seconds, 0.1, 60, whole=False)
    try:
        training = shlex.split(config.training or "")
    except (ValueError, TypeError, AttributeError) as error:
        raise KeyframeError(f"training={config.training} is not a line of settings ({error}): correct it.") from error
    runs = [] if config.run is None else as_list(config.run)
    models = list(_models(config, [*runs, None], output))
    named = [str(entry) for entry in as_list("." if config.input is None else config.input)]
    run_dir = Path(config.run_dir)
    with staged(run_dir / "inputs", config.image_rate) as staging:

        def find() -> list[Path]:
            try:
                found = find_inputs(named, bool(config.recursive), [output, run_dir, folder], staging)
            except KeyframeError:
                if config.input is not None:
                    raise
                return []  # an empty folder: videos may be added on the page
            for one in found:
                if isinstance(one, Refused):
                    log.warning("%s", one.reason)
            return [one for one in found if isinstance(one, Path)]

        for path in find():
            if not path.exists():
                raise KeyframeError(f"{path} does not exist: check the path.")
        library = Library(
            find,
            models,
            folder,
            labels,
            (float(config.lowest), float(config.highest)),
            float(config.shot_seconds),
            lambda run, number: next(_models(config, [str(run)], output, number)),
            Path(str(config.runs)).expanduser(),
            training,
        )
        serve(library, config.port, bool(config.open))


def _models(config: DictConfig, runs: Sequence[str | None], output: Path, first: int = 0) -> Iterator[Model]:
    """Models of runs, None for the rule without one; number 0 has the folder of results as it is named."""
    overrides = [one for one in HydraConfig.get().overrides.task if one.split("=")[0].lstrip("+") not in _OWN]
    for number, run in enumerate(runs, first):
        own = config.copy()
        own.run = run
        if run is None and number:
            own.features, own.bf16 = "none", False
        choose_scorer(own)
        spec = extraction_spec(own, threads())
        named = {"run": run, "features": own.features, "bf16": str(own.bf16).lower()}
        given = [f"{key}={value}" for key, value in named.items() if value not in (None, "none", "false")]
        id = short_hash(str(spec.checkpoint))[:8]
        # one folder holds the results of one model
        place = output.with_name(f"{output.name}-{'rule' if run is None else id}") if number else output
        yield Model(id, _name(spec.checkpoint), spec, place, (*overrides, *given))


def _name(checkpoint: Path | None) -> str:
    if checkpoint is None:
        return "without a model"
    return checkpoint.parents[1].name if checkpoint.parent.name == "checkpoints" else checkpoint.stem
