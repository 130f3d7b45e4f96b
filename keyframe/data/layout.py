"""Where the files of a data set lie below `data.root`."""

from collections.abc import Iterable
from pathlib import Path

from keyframe.errors import KeyframeError

# TVSum release 1.1 unpacks to tvsum50_ver_1_1/ydata-tvsum50-v1_1/, which holds
# ydata-tvsum50-{data,matlab,video}.zip; those unpack to data/, matlab/ and video/, either in place or each
# in a folder of the zip's name.
_RELEASE_FOLDERS = ("", "ydata-tvsum50-v1_1", "tvsum50_ver_1_1/ydata-tvsum50-v1_1")


def files_below(root: Path, kinds: Iterable[str], suffixes: Iterable[str]) -> list[Path]:
    """List the files with one of the suffixes in the usual folders of a data set.

    Looked into are `root`, `root/<kind>`, and the same places of the official TVSum release below `root`.
    Nothing is searched recursively; hidden files are left out, and a folder that is reached twice through a
    link counts once.

    Args:
        root: the data set's folder, `data.root`.
        kinds: names of sub-folders, e.g. `("data", "matlab")`.
        suffixes: file name endings in lower case, e.g. `(".mp4",)`; upper case in a file's name does not
            matter.

    Returns:
        The files, sorted within each folder.

    Raises:
        KeyframeError: if `root` is no directory.
    """
    if not root.is_dir():
        raise KeyframeError(f"there is no directory {root}: set data.root to the folder that holds the data set")
    names = ["", *(name for kind in kinds for name in (kind, f"ydata-tvsum50-{kind}/{kind}"))]
    wanted = frozenset(suffixes)
    candidates = [root / release / name for release in _RELEASE_FOLDERS for name in names]
    folders: dict[Path, Path] = {}
    for folder in candidates:
        if folder.is_dir():
            folders.setdefault(folder.resolve(), folder)
    return [
        path
        for folder in folders.values()
        for path in sorted(folder.iterdir())
        # macOS leaves a hidden "._<name>" beside what it unpacks.
        if path.suffix.lower() in wanted and not path.name.startswith(".") and path.is_file()
    ]
