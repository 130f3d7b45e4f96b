"""Learn from pixels which frames of a video matter."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keyframe.api import load_exported, score_video, select_keyframes
    from keyframe.runs import load_run

__version__ = "0.1.0"

__all__ = ["load_exported", "load_run", "score_video", "select_keyframes"]


def __getattr__(name: str) -> Any:
    """The functions of `__all__`, imported when they are asked for: `import keyframe` alone costs nothing."""
    if name == "load_run":
        from keyframe.runs import load_run

        return load_run
    if name in __all__:
        from keyframe import api

        return getattr(api, name)
    raise AttributeError(f"module 'keyframe' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
