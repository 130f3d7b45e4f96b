"""Open HDF5 files so that what is wrong with them is said in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from keyframe.errors import KeyframeError


@contextmanager
def open_hdf5(path: Path, option: str = "data.labels") -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Args:
        path: the file.
        option: the key of the configuration that named it, for messages.

    Raises:
        KeyframeError: if the file is missing or no HDF5 file, or what is read from it inside the `with` is
            damaged or of the wrong kind.
    """
    if not path.is_file():
        raise KeyframeError(f"there is no file {path}: set {option} to the file")
    try:
        with h5py.File(path, "r") as file:
            yield file
    # h5py raises any of these on damaged files and on arrays of another kind than the format says.
    except (OSError, RuntimeError, LookupError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        remedy = ", or save it with MATLAB's -v7.3" if path.suffix.lower() == ".mat" else ""
        raise KeyframeError(f"{path} cannot be read as HDF5 ({reason}): copy the file again{remedy}") from error


def member(group: Any, name: str, path: Path, option: str = "data.labels") -> h5py.Dataset:
    """Return the dataset `name` of what should be a group; for `path` and `option` see `open_hdf5`.

    Raises:
        KeyframeError: if there is none; the message names the file and the key.
    """
    found = group.get(name) if isinstance(group, h5py.Group) else None
    if not isinstance(found, h5py.Dataset):
        key = f"{group.name if isinstance(group, h5py.Group) else ''}/{name}".replace("//", "/")
        raise KeyframeError(f"{path} lacks the dataset {key}: give the official file as {option}")
    return found
