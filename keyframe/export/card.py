"""The card of an exported file: all that is to be known of it, as JSON beside it, so that it stands for its run."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import keyframe
from keyframe.errors import KeyframeError
from keyframe.export.formats import FRAMES, SCORES, SUFFIXES
from keyframe.extraction.identity import file_hash
from keyframe.files import write_text

_MADE_BY = "keyframe-export"
# Of this layout; another one is refused.
_CARD = 2

# What the model was made for and what not, in words.
USE = {
    "meant_for": ["choosing keyframes of videos", "video summaries, previews and skims"],
    "not_meant_for": [
        "judging people or what they do",
        "finding particular persons, objects or events",
        "decisions that nobody looks at again",
    ],
    "limits": "It has learned what the annotators of its training videos found important; on other kinds of video, "
    "measure it before you rely on it.",
}


@dataclass(frozen=True)
class Card:
    """What is known of an exported file.

    Attributes:
        format: one of `SUFFIXES`.
        sha256: of the file; it tells which file the card is of, and proves nothing about who made it.
        checkpoint_sha256: of the checkpoint that was exported.
        backbone: timm's name.
        size: (height, width) of a frame in pixels. Fixed: the scores of a model mean little at a size it was not
            trained with.
        window: frames the model was trained to see at once, spread evenly over a video; None for any number.
        parameters: counts, `total` among them, as of the run.
        file_mb: MB (10^6 bytes) of the file.
        making: what is particular to its format: ONNX's opset, and of int8 the method and the videos calibrated on.
        check: how far its scores are from the run's own, and on which videos.
        config: the run's whole configuration, plain nested values.
        versions: of what it was made with.
    """

    format: str
    sha256: str
    checkpoint_sha256: str
    backbone: str
    size: tuple[int, int]
    window: int | None
    parameters: Mapping[str, float]
    file_mb: float
    making: Mapping[str, Any]
    check: Mapping[str, Any]
    config: Mapping[str, Any]
    versions: Mapping[str, str]


def card_path(path: Path) -> Path:
    """Where the card of a file lies."""
    return path.with_name(f"{path.name}.json")


def write_card(path: Path, card: Card) -> None:
    """Write the card of a file beside it."""
    height, width = card.size
    content = {
        "made_by": _MADE_BY,
        "card": _CARD,
        "input": {
            "name": FRAMES,
            "shape": ["videos", "frames", 3, height, width],
            "dtype": "uint8",
            "range": [0, 255],
            "channels": "RGB",
            "normalisation": "inside the file: pass pixels as they are",
        },
        "output": {"name": SCORES, "shape": ["videos", "frames"], "dtype": "float32", "range": [0, 1]},
        "use": USE,
        **asdict(card),
    }
    write_text(card_path(path), json.dumps(content, indent=2) + "\n")


def read_card(path: Path) -> Card:
    """The card of an exported file, once it is known to be this file's.

    Raises:
        KeyframeError: there is no file or no card, it is damaged or of another version, or of another file.
    """
    place = card_path(path)
    if not path.is_file():
        raise KeyframeError(f"there is no exported model {path}: give a file that keyframe-export wrote.")
    if not place.is_file():
        raise KeyframeError(f"{path} has no card: put {place.name}, which keyframe-export wrote with it, beside it.")
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
        ours = content["made_by"] == _MADE_BY
        known = content["card"] == _CARD
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KeyframeError(
            f"{place} is not a card of keyframe-export, or is damaged: export the model again."
        ) from error
    if not (ours and known):
        raise KeyframeError(f"{place} is a card of another version of keyframe: export the model again with this one.")
    try:
        card = _card(content)
    except (KeyError, TypeError, ValueError) as error:
        raise KeyframeError(f"{place} is damaged ({error}): export the model again.") from error
    if card.sha256 != file_hash(path):
        raise KeyframeError(
            f"{place} is the card of another file than {path}, or the file was changed: export it again."
        )
    return card


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of keyframe, Python and the given distributions."""
    own = {"keyframe": keyframe.__version__, "python": platform.python_version()}
    return own | {name: metadata.version(name) for name in packages}


def _card(content: Mapping[str, Any]) -> Card:
    """Raises KeyError, TypeError or ValueError where it is none."""
    values = {name: content[name] for name in Card.__dataclass_fields__}
    height, width = values["size"]
    numbers = [height, width, *([] if values["window"] is None else [values["window"]])]
    if not all(isinstance(number, int) and number > 0 for number in numbers):
        raise ValueError("size or window")
    if values["format"] not in SUFFIXES:
        raise ValueError("format")
    if not isinstance(values["config"], dict):
        raise TypeError("config")
    return Card(**{**values, "size": (height, width)})
