"""The card of an exported file: a JSON file beside it that holds all that is known of the run.

File and card may come from anywhere. A card's values are checked, and what its file is by its name, by its content and
by its card must agree before anything is loaded.
"""

import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from keyframe.data.sampling import SPAN
from keyframe.files import file_hash, one_line, read_json, write_text
from keyframe.trust import check_plain, check_types
from keyframe.types import KeyframeError, check_number

# Format -> the end of the file's name.
SUFFIXES = {"torchscript": ".torchscript.pt", "torch_export": ".pt2", "onnx": ".onnx", "onnx_int8": ".int8.onnx"}
# What a file is, by the suffix of its name.
KINDS = {".pt": "TorchScript", ".pt2": "torch.export", ".onnx": "ONNX"}
# The input and the output of a program.
FRAMES, SCORES = "frames", "scores"

_MADE_BY = "keyframe-export"
# Version of the card's layout; other versions are refused.
_CARD_VERSION = 2
_USE = {
    "meant_for": ["choosing keyframes of videos", "video summaries, previews and skims"],
    "not_meant_for": [
        "judging people or what they do",
        "finding particular persons, objects or events",
        "decisions that no one reviews",
    ],
    "limits": "It has learned what the annotators of its training videos found important; on other kinds of video, "
    "measure it before you rely on it.",
}

# Bounds of a card's values: a side in pixels, frames of a window, and bytes of a window's frames.
_MAX_SIDE, _MAX_WINDOW, _MAX_WINDOW_BYTES = 4096, 10_000, 2**33
_MAX_NAME = 200


@dataclass(frozen=True)
class Card:
    """What is known of an exported file."""

    format: str  # one of `SUFFIXES`
    sha256: str  # of the file; it shows which file the card belongs to, and proves nothing about who made it
    checkpoint_sha256: str  # of the checkpoint that was exported
    backbone: str  # timm's name
    size: tuple[int, int]  # (height, width) of a frame in pixels, as in training, at most 4096 each
    # frames the model was trained to see at once, spread evenly over a video, at most 10,000; None for any number
    window: int | None
    parameters: Mapping[str, float]  # counts, `total` among them, as of the run
    file_mb: float  # MB (10^6 bytes) of the file
    # particular to its format: ONNX's opset, and of int8 the method and the calibration videos
    making: Mapping[str, Any]
    check: Mapping[str, Any]  # how far its scores are from the run's own, and on which videos
    config: Mapping[str, Any]  # the run's whole configuration, plain nested values
    versions: Mapping[str, str]  # of the packages that made it
    # ids of the run's videos by part, for `keyframe.data.splits.Split.from_plain`; None in cards of before
    split: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.format not in SUFFIXES:
            raise KeyframeError(f"format={self.format} must be one of {', '.join(SUFFIXES)}.")
        for key in ("sha256", "checkpoint_sha256"):
            if not re.fullmatch("[0-9a-f]{64}", getattr(self, key)):
                raise KeyframeError(f"{key}={getattr(self, key)} must be a SHA-256.")
        if not self.backbone.isprintable() or len(self.backbone) > _MAX_NAME:
            raise KeyframeError(f"backbone={self.backbone!r} must be a name of at most {_MAX_NAME} characters.")
        for side in self.size:
            check_number("size", side, 1, _MAX_SIDE)
        check_number("window", self.window, 1, _MAX_WINDOW, optional=True)
        if 3 * self.size[0] * self.size[1] * (self.window or SPAN) > _MAX_WINDOW_BYTES:
            raise KeyframeError(f"window={self.window} frames of size={self.size} fill more than 8 GB of memory.")
        for name, count in {"total": None, **self.parameters}.items():
            check_number(f"parameters.{name}", count, 0, 1e12, whole=False)
        check_number("file_mb", self.file_mb, 0, 1e6, whole=False)

    @property
    def kind(self) -> str:
        """One of the values of `KINDS`."""
        return KINDS[SUFFIXES[self.format][SUFFIXES[self.format].rindex(".") :]]


def card_path(path: Path) -> Path:
    """Where the card of a file lies."""
    return path.with_name(f"{path.name}.json")


def write_card(path: Path, card: Card) -> None:
    """Write the card of a file beside it."""
    content = {
        "made_by": _MADE_BY,
        "card": _CARD_VERSION,
        "input": {
            "name": FRAMES,
            "shape": ["videos", "frames", 3, *card.size],
            "dtype": "uint8",
            "range": [0, 255],
            "channels": "RGB",
            "normalisation": "inside the file: pass pixels as they are",
        },
        "output": {"name": SCORES, "shape": ["videos", "frames"], "dtype": "float32", "range": [0, 1]},
        "use": _USE,
        **asdict(card),
    }
    write_text(card_path(path), json.dumps(content, indent=2) + "\n")


def read_card(path: Path) -> Card:
    """The card of an exported file, checked to be this file's; the file is not loaded."""
    place = card_path(path)
    if not path.is_file():
        raise KeyframeError(f"there is no exported model {path}: give a file that keyframe-export wrote.")
    if not place.exists():
        raise KeyframeError(f"{path} has no card: put {place.name}, which keyframe-export wrote with it, beside it.")
    content = read_json(place)
    if not isinstance(content, dict) or content.get("made_by") != _MADE_BY:
        raise KeyframeError(f"{place} is not a card of keyframe-export: export the model again.")
    # the split may have more values, and is checked where it is used
    check_plain({key: value for key, value in content.items() if key != "split"}, place)
    if content.get("card") != _CARD_VERSION:
        raise KeyframeError(f"{place} is a card from another version of keyframe: export the model again.")
    values: dict[str, Any] = {field.name: content.get(field.name) for field in fields(Card)}
    check_types(Card, values, place)
    try:
        card = Card(**{**values, "size": tuple(values["size"])})
    except KeyframeError as error:
        reason = one_line(str(error)).rstrip(".")[:_MAX_NAME]
        raise KeyframeError(f"{place} is damaged ({reason}): export the model again.") from error
    if card.sha256 != file_hash(path):
        raise KeyframeError(f"{place} is not the card of {path}, or that was changed: export it again.")
    kinds = (KINDS.get(path.suffix, "another kind"), _kind_of_content(path), card.kind)
    if len(set(kinds)) > 1:
        raise KeyframeError(
            f"{path} was not loaded: it is {kinds[0]} by its name, {kinds[1]} by its content and {kinds[2]} by its "
            "card; use it as keyframe-export wrote it."
        )
    return card


def _kind_of_content(path: Path) -> str:
    """What a file is by its first bytes and, of an archive, by the files in it."""
    with path.open("rb") as file:
        first = file.read(4)
    if first[:1] == b"\x08":  # the version of ONNX, the first field of its protobuf message
        return KINDS[".onnx"]
    try:
        names = zipfile.ZipFile(path).namelist() if first == b"PK\x03\x04" else []
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "a damaged archive"
    inside = {name.partition("/")[2] for name in names}
    if {"archive_format", "models/model.json"} <= inside:
        return KINDS[".pt2"]
    if "constants.pkl" in inside and any(name.startswith("code/") for name in inside):
        return KINDS[".pt"]
    return "another kind"
