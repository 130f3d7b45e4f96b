"""Checkpoint files that are whole or not there, on any file system."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the file's place and renames.

    Lightning's own writes to the system's temporary folder and moves the file from there: where that is another disk,
    as on most clusters, the move is a copy, and a process that is killed meanwhile leaves half a checkpoint.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            OSError: the disk is full, or the folder cannot be written; what was there before stays.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # one name, so that the next attempt replaces what a killed process has left
        draft = path.with_name(f".{path.name}.part")
        try:
            with draft.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
