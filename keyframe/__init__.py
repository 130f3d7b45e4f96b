"""Learn from pixels which frames of a video matter."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keyframe.api import Keyframes, score_video, select_keyframes
    from keyframe.export.model import load_exported
    from keyframe.runs import load_run

__version__ = "0.1.0"

__all__ = ["Keyframes", "load_exported", "load_run", "score_video", "select_keyframes"]

_HOMES = {"load_exported": "keyframe.export.model", "load_run": "keyframe.runs"}


def __getattr__(name: str) -> Any:
    """The names of `__all__`, imported when they are used: `import keyframe` alone costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'keyframe' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "keyframe.api")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
