"""Trackers: W&B, MLflow, TensorBoard and CSV files, and what is sent to them besides metrics."""

import logging
import math
import netrc
import os
import secrets
import ssl
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse
from urllib.request import urlopen

import matplotlib.image
import numpy as np
from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from keyframe.files import make_folder, one_line, write_text
from keyframe.system import log_once, pip_install
from keyframe.types import KeyframeError

log = logging.getLogger(__name__)

_PATIENCE = 8  # seconds for the first answer of W&B's server


def csv_logger(save_dir: str) -> CSVLogger:
    """A CSV logger into `csv` of the run directory, after a resume `csv-2`, ...: Lightning's deletes old files."""
    names = ["csv", *(f"csv-{number}" for number in range(2, 1000))]
    free = next(name for name in names if not (Path(save_dir) / name).exists())
    return CSVLogger(save_dir=save_dir, name=None, version=free)


def mlflow_logger(
    save_dir: str,
    experiment: str,
    name: str | None = None,
    tags: Mapping[str, str | None] | None = None,
    uri: str | None = None,
) -> MLFlowLogger:
    """An MLflow logger to the server `uri`, else to that of MLFLOW_TRACKING_URI, else into files below `save_dir`."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # newer versions write no files without it
    known = {key: value for key, value in (tags or {}).items() if value is not None}
    try:
        return MLFlowLogger(experiment, name, tracking_uri=uri, save_dir=save_dir, tags=known)
    except ModuleNotFoundError as error:
        raise KeyframeError(f"logger=mlflow needs MLflow: {pip_install('mlflow')}, or use another logger.") from error


class _Wandb(WandbLogger):
    """Says in one sentence why W&B's server refuses a run."""

    @property
    def experiment(self) -> Any:
        """The run, begun at the first use."""
        from wandb.errors import Error

        try:
            return super().experiment
        except Error as error:
            reason = str(error).splitlines()[0]
            raise KeyframeError(
                f"W&B does not start the run ({reason}): try `wandb login --relogin`, or set logger.wandb.offline=true."
            ) from error


def wandb_logger(
    run_dir: str,
    save_dir: str | None = None,
    project: str | None = None,
    entity: str | None = None,
    name: str | None = None,
    group: str | None = None,
    tags: Sequence[str] = (),
    offline: bool | None = None,
) -> WandbLogger | None:
    """A W&B logger that never prompts, and waits seconds for a server that does not answer; one of rank 0 alone writes.

    What is None, or empty, is what the variables of W&B say. With `offline=None` that is WANDB_MODE, else online if
    there is a key, of WANDB_API_KEY or `wandb login`, and an answer; "disabled" gives None. A run keeps its id in
    `run_dir`, to be resumed.
    """
    mode = wandb_mode(offline)
    if mode == "disabled":
        return None
    return _Wandb(
        save_dir=save_dir or os.environ.get("WANDB_DIR") or run_dir,
        version=_run_id(Path(run_dir)),
        project=project or os.environ.get("WANDB_PROJECT") or "keyframe",
        entity=entity,
        name=name,
        group=group,
        tags=list(tags) or None,
        # not Lightning's offline=True, which sets an environment variable for the rest of the process
        mode=mode,
        log_model=False,
    )


def wandb_mode(offline: bool | None = None) -> str:
    """W&B's mode: what is asked for, else "online", or "offline" without a key or an answer of the server, with why.

    Raises KeyframeError if "online" is asked for and there is no key.
    """
    mode = os.environ.get("WANDB_MODE", "") if offline is None else "offline" if offline else "online"
    return mode if mode in ("disabled", "offline", "dryrun") else rank_zero_only(_reachable_mode, "offline")(mode)


def _reachable_mode(asked: str) -> str:
    """`asked`, or "online" if nothing is; "offline" without a key, or without an answer of the server."""
    import wandb

    server = os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url
    if not _has_key(server):
        if asked:
            raise KeyframeError("W&B has no key to go online: run `wandb login`, or set logger.wandb.offline=true.")
        hint = "W&B: no key found, tracking offline (`wandb login` once to go online, logger=csv for no W&B)."
        log_once(log, logging.INFO, "W&B offline", hint)
        return "offline"
    if not _answers(server):
        hint = "W&B: %s does not answer, tracking offline (`wandb sync` sends it later, logger=csv for no W&B)."
        log_once(log, logging.WARNING, "W&B offline", hint, server)
        return "offline"
    return asked or "online"


def _has_key(server: str) -> bool:
    """Whether the environment or the netrc file has a key; wandb itself reads the environment only once."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    hosts = [urlparse(server).hostname or ""]
    if "WANDB_BASE_URL" not in os.environ:
        hosts.append("api.wandb.ai")  # where older versions have put it
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        keys = netrc.netrc(str(path))
    except (OSError, netrc.NetrcParseError):
        return False
    return any(keys.authenticators(host) is not None for host in hosts)


def _answers(server: str) -> bool:
    """Whether a server answers anything in time, through the proxy of the environment if there is one."""
    answered = threading.Event()

    def ask() -> None:
        try:
            urlopen(server, timeout=_PATIENCE).close()
        except HTTPError:
            pass
        except URLError as error:
            if not isinstance(error.reason, ssl.SSLError):  # wandb may know the certificate
                return
        except (OSError, ValueError):
            return
        answered.set()

    thread = threading.Thread(target=ask, daemon=True)  # looking up a name has no limit of its own
    thread.start()
    thread.join(_PATIENCE)
    return answered.is_set()


def _run_id(run_dir: Path) -> str:
    """The id of a run directory's W&B run, kept there: W&B's own files may lie elsewhere."""
    file = run_dir / "wandb_id.txt"
    kept = file.read_text(encoding="utf-8").strip() if file.is_file() else secrets.token_hex(4)
    kept = os.environ.get("WANDB_RUN_ID") or kept
    make_folder(run_dir)
    rank_zero_only(write_text)(file, kept)
    return kept


@rank_zero_only
def log_artifact(loggers: Sequence[Logger], checkpoint: Path) -> None:
    """Keep a checkpoint as a W&B artifact, if W&B is on and still to be reached."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            name = f"keyframe-{logger.version}"
            try:
                logger.experiment.log_artifact(str(checkpoint), name=name, type="model", aliases=["best"])
            except Exception as error:  # without a network say; the results of the training are still to be written
                log.warning("W&B: %s is not kept as an artifact (%s)", checkpoint, one_line(str(error)))


def log_image(loggers: Sequence[Logger], name: str, path: Path, step: int | None = None) -> None:
    """Send a PNG image to W&B, MLflow and TensorBoard if they are on."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(name, [str(path)])
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_artifact(logger.run_id, str(path), name)
        elif isinstance(logger, TensorBoardLogger):
            pixels = (matplotlib.image.imread(path) * 255).astype(np.uint8)
            logger.experiment.add_image(name, pixels, step, dataformats="HWC")


def log_report(loggers: Sequence[Logger], metrics: Mapping[str, float], images: Sequence[Path]) -> None:
    """Send the numbers and the PNG images of an evaluation or comparison to the trackers."""
    for logger in loggers:
        logger.log_metrics({name: value for name, value in metrics.items() if math.isfinite(value)})
        for image in images:
            log_image([logger], image.stem, image)
        logger.finalize("success")


@rank_zero_only
def finish(loggers: Sequence[Logger]) -> None:
    """End W&B's run, else the next job of a sweep would write into it."""
    if any(isinstance(logger, WandbLogger) for logger in loggers):
        import wandb

        wandb.finish()
