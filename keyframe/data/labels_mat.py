"""Read TVSum's official `ydata-tvsum50.mat`."""

from pathlib import Path

import h5py
import numpy as np

from keyframe.data.hdf5 import member, open_hdf5
from keyframe.errors import KeyframeError
from keyframe.types import Labels


def read_tvsum_mat(path: str | Path) -> dict[str, Labels]:
    """Read the official annotation of TVSum.

    The file is MATLAB v7.3, which is HDF5: `/tvsum50` holds one (50, 1) array of object references a field;
    behind them `video` and `category` are uint16 character codes and `user_anno` is float64 (20, n_frames)
    in 1 ... 5.

    Args:
        path: `ydata-tvsum50.mat` (Song et al., TVSum, CVPR 2015).

    Returns:
        Video id -> labels, in file order; a score x becomes (x - 1) / 4, `importance` is the annotators'
        mean.

    Raises:
        KeyframeError: if the file is missing, is no HDF5, lacks a field, or holds a score outside 1 ... 5.
    """
    path = Path(path)
    labels: dict[str, Labels] = {}
    with open_hdf5(path) as file:
        fields = [_references(file, name, path) for name in ("video", "category", "user_anno")]
        for video, category, scores in zip(*fields, strict=True):
            name = _text(file, video)
            raw = np.asarray(file[scores][()], dtype=np.float64)
            if raw.ndim != 2 or not raw.size or not (raw.min() >= 1 and raw.max() <= 5):
                raise KeyframeError(
                    f"{path}: user_anno of {name} is not (annotators, frames) with scores from 1 to 5: "
                    "give the official ydata-tvsum50.mat as data.labels"
                )
            annotators = (raw - 1) / 4
            labels[name] = Labels(
                importance=annotators.mean(axis=0).astype(np.float32),
                annotators=annotators.astype(np.float32),
                category=_text(file, category),
            )
    return labels


def _references(file: h5py.File, name: str, path: Path) -> list[h5py.Reference]:
    """Return the references of one field of the struct array, one a video."""
    field = member(file, f"tvsum50/{name}", path)
    if h5py.check_ref_dtype(field.dtype) is None:
        raise KeyframeError(
            f"{path}: /tvsum50/{name} holds no references: give the official ydata-tvsum50.mat as data.labels"
        )
    return list(field[()].ravel())


def _text(file: h5py.File, reference: h5py.Reference) -> str:
    """Decode a MATLAB char array: one uint16 code a character."""
    return "".join(map(chr, file[reference][()].ravel()))
