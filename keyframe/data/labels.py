"""Find a label file and read it, whichever of the known forms it has."""

from pathlib import Path

from keyframe.data.labels_h5 import read_eccv16_h5
from keyframe.data.labels_mat import read_tvsum_mat
from keyframe.data.labels_tsv import read_tvsum_tsv, write_tsv
from keyframe.data.layout import files_below
from keyframe.errors import KeyframeError
from keyframe.types import Labels

__all__ = [
    "find_label_file",
    "read_eccv16_h5",
    "read_labels",
    "read_tvsum_mat",
    "read_tvsum_tsv",
    "write_tsv",
]

# In order of preference: the first two hold the annotators, the h5 only one score track at every 15th frame.
_SUFFIXES = (".mat", ".tsv", ".h5")


def find_label_file(root: str | Path) -> Path:
    """Find the label file of a data set.

    Looked into are `root`, `root/data`, `root/matlab` and the same places of the official TVSum release
    below `root`. A .mat is taken before a .tsv, a .tsv before an .h5; TVSum's `...-info.tsv` is no label
    file.

    Args:
        root: the data set's folder, `data.root`.

    Returns:
        The file.

    Raises:
        KeyframeError: if `root` is no directory, or holds no label file, or several of the preferred kind.
    """
    root = Path(root)
    files = [path for path in files_below(root, ("data", "matlab"), _SUFFIXES) if not path.name.endswith("-info.tsv")]
    for suffix in _SUFFIXES:
        found = [path for path in files if path.suffix.lower() == suffix]
        if len(found) > 1:
            names = ", ".join(str(path.relative_to(root)) for path in found[:3])
            raise KeyframeError(
                f"{root} holds {len(found)} {suffix} files ({names}{' ...' if len(found) > 3 else ''}): "
                "name the label file with data.labels"
            )
        if found:
            return found[0]
    raise KeyframeError(
        f"there is no label file ({', '.join(_SUFFIXES)}) in {root}, its data/ or matlab/: name it with data.labels"
    )


def read_labels(path: str | Path, lowest: float = 1.0, highest: float = 5.0) -> dict[str, Labels]:
    """Read a label file by its suffix: .mat, .tsv or .h5.

    Args:
        path: the label file.
        lowest: the score of a .tsv that becomes 0.
        highest: the score of a .tsv that becomes 1.

    Returns:
        Video id -> labels, in file order.

    Raises:
        KeyframeError: if the suffix is another, or what the file's own reader raises.
    """
    path = Path(path)
    match path.suffix.lower():
        case ".mat":
            return read_tvsum_mat(path)
        case ".tsv":
            return read_tvsum_tsv(path, lowest, highest)
        case ".h5":
            return read_eccv16_h5(path)
    raise KeyframeError(f"{path} is no label file: data.labels must name a {', '.join(_SUFFIXES)} file")
