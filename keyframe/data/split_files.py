"""Parse the split files that published systems come with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from keyframe.errors import KeyframeError

_FORMS = ".json, .yml, .yaml or .txt"


def read_folds(path: str | Path) -> list[dict[str, list[str]]]:
    """Read every fold of a split file, keys as they stand there.

    Known forms:
      - JSON, a list of `{"train_keys": [...], "test_keys": [...]}`: DR-DSN, VASNet, PGL-SUM, CA-SUM.
      - YAML, the same list: DSNet.
      - text, a line a fold, `TVSum/split0/video_1,video_2.../video_7,video_12...`, train first: CSTA.

    Args:
        path: the file; its suffix tells the form.

    Returns:
        A mapping a fold with `train_keys`, `val_keys` (empty where the file names none) and `test_keys`. A
        key of the text form gets the line's data set in front, `TVSum/video_1`.

    Raises:
        KeyframeError: if the file is missing or of no known form.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        match path.suffix.lower():
            case ".json":
                entries = json.loads(text)
            case ".yml" | ".yaml":
                entries = yaml.safe_load(text)
            case ".txt":
                entries = [_text_fold(line, path) for line in text.splitlines() if line.strip()]
            case _:
                raise KeyframeError(f"{path} is no split file: it must be {_FORMS}")
    except FileNotFoundError as error:
        raise KeyframeError(f"there is no split file {path}: give the path of a {_FORMS} file") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise KeyframeError(f"{path} cannot be read as a split file ({reason}): mend it or copy it again") from error
    if not isinstance(entries, list) or not entries:
        raise KeyframeError(f"{path} must hold a list of folds, each with train_keys and test_keys")
    return [
        {part: _keys(entry, part, fold, path) for part in ("train_keys", "val_keys", "test_keys")}
        for fold, entry in enumerate(entries)
    ]


def _text_fold(line: str, path: Path) -> dict[str, list[str]]:
    """Parse a line of CSTA's form: dataset/split/train,train/test,test."""
    parts = [part.strip() for part in line.split("/")]
    if len(parts) != 4:
        raise KeyframeError(f"{path}: the line {line[:40]!r} is not of the form dataset/split/train keys/test keys")
    dataset, _, *keys = parts
    train, test = ([f"{dataset}/{key.strip()}" for key in text.split(",") if key.strip()] for text in keys)
    return {"train_keys": train, "test_keys": test}


def _keys(entry: Any, part: str, fold: int, path: Path) -> list[str]:
    """Take one list of keys from a fold; val_keys may be absent."""
    keys = entry.get(part, [] if part == "val_keys" else None) if isinstance(entry, Mapping) else None
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise KeyframeError(f"{path}, fold {fold}: {part} must be a list of video names")
    return keys
