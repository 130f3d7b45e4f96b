"""How a job ended, in a file of its run directory; and which process may write there."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from keyframe.files import write_text


@dataclass(frozen=True)
class Status:
    """`running`, `completed`, `failed` or `interrupted`, and why; and which job it was, by its overrides."""

    state: str
    error: str = ""
    overrides: tuple[str, ...] = ()


def is_first_process() -> bool:
    """Whether this is the process a user started, or rank 0, rather than a further DDP rank."""
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID", "NODE_RANK"))


def write_status(directory: Path, status: Status) -> None:
    """Write `status.json`, from the first process only."""
    if is_first_process():
        write_text(directory / "status.json", json.dumps(asdict(status)) + "\n")


def read_status(directory: Path) -> Status | None:
    """What `write_status` has written into a directory, if it has."""
    path = directory / "status.json"
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    return Status(**{**content, "overrides": tuple(content.get("overrides", ()))})
