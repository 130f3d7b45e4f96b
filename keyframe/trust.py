"""What a shared file may hold and what is built of it: plain values, and classes that are known or trusted.

Anything more, the user confirms where the file is used.
"""

import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from itertools import islice
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from keyframe.files import one_line
from keyframe.types import KeyframeError

# Bounds of plain values. Our own configurations have 5 levels, 200 values and texts of 100 characters.
_MAX_DEPTH = 20
_MAX_VALUES = 20_000
_MAX_TEXT = 10_000
_MAX_INTEGER = 2**53

# Installed packages that declare an entry point here are trusted: who installs a package trusts it already.
_PLUGINS = "keyframe.plugins"
# No own class lies there.
_NEVER_TRUSTED = sys.stdlib_module_names | {"keyframe"}
# What our YAML files name classes of besides.
_LIBRARIES = {"torch", "pytorch_lightning"}
# Names in files of older versions -> the names now.
_MOVED = {
    "keyframe.data.augment.Augmentation": "keyframe.data.dataset.Augmentation",
    "keyframe.data.sources.DemoSource": "keyframe.data.folder.DemoSource",
    "keyframe.data.sources.DirectorySource": "keyframe.data.folder.DirectorySource",
    "keyframe.models.no_backbone.NoBackbone": "keyframe.models.backbone.NoBackbone",
    "keyframe.training.interruption.SaveOnSignal": "keyframe.training.callbacks.SaveOnSignal",
    "keyframe.training.distillation.Distillation": "keyframe.training.losses.Distillation",
    **{
        f"keyframe.training.stages.{name}": f"keyframe.training.callbacks.{name}"
        for name in ("TwoStage", "StageAwareEarlyStopping", "cosine")
    },
}


@dataclass(frozen=True)
class Trust:
    """What the user lets a shared file do; it comes from the command line or the caller, never from a file."""

    programs: bool = False  # whether programs run (exported .pt and .pt2 files, the record of a foreign sweep)
    packages: tuple[str, ...] = ()  # the importable packages whose classes a file may name

    @classmethod
    def of(cls, value: "TrustLike") -> "Trust":
        """What `trust=` means: true for programs, a package's name, a list of these, or a `Trust` as it is."""
        if isinstance(value, Trust):
            return value
        values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        packages = tuple(one for one in values if isinstance(one, str))
        known = all(one is None or isinstance(one, (bool, str)) for one in values)
        if not known or not all(part.isidentifier() for name in packages for part in name.split(".")):
            raise KeyframeError(f"trust={value} is neither true nor a package: use trust=true or trust=[PACKAGE].")
        return cls(any(one is True for one in values), packages)


NO_TRUST = Trust()
# What a caller may give for it.
TrustLike = Trust | bool | str | Sequence[bool | str] | None


def check_plain(value: Any, path: Path, references: bool = False) -> None:
    """Raise KeyframeError unless all of a value is plain: dicts, lists, texts, numbers, booleans and None.

    The value may be cyclic or of any size; `path` is the file that holds it. With `references` texts may hold `${`, if
    nothing resolves them.
    """
    left = _MAX_VALUES

    def check(one: Any, depth: int) -> None:
        nonlocal left
        left -= 1
        if depth > _MAX_DEPTH or left < 0:
            raise _refused(path, "is nested too deeply" if depth > _MAX_DEPTH else "has too many values")
        if type(one) is dict:
            for key, child in one.items():
                if type(key) is not str:
                    raise _refused(path, f"has a {type(key).__name__} as a name")
                check(key, depth + 1)
                check(child, depth + 1)
        elif type(one) is list:
            for child in one:
                check(child, depth + 1)
        elif type(one) is str:
            if len(one) > _MAX_TEXT:
                raise _refused(path, f"has a text of {len(one):,} characters")
            if "${" in one and not references:
                raise _refused(path, f"contains the unresolved value {one[:80]!r}")
        elif type(one) is int:
            if abs(one) > _MAX_INTEGER:
                raise _refused(path, "has a number beyond 2^53")
        elif one is not None and type(one) not in (float, bool):
            raise _refused(path, f"holds a {type(one).__name__}")

    check(value, 0)


def _refused(path: Path, reason: str) -> KeyframeError:
    return KeyframeError(f"{path} was not loaded: its configuration {reason}.")


def current_name(name: str) -> str:
    """Today's name of a class that may have another one in a file of an older version."""
    return _MOVED.get(name, name)


def names_of(kind: type) -> list[str]:
    """The names by which `_target_` may ask for a class, today's first."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    return [name, *(old for old, new in _MOVED.items() if new == name)]


def build(
    value: Any,
    allowed: Sequence[type],
    path: Path,
    trust: Trust = NO_TRUST,
    fixed: Mapping[Any, Mapping[str, Any]] | None = None,
) -> Any:
    """Build what plain nested values describe by Hydra's `_target_` and `_partial_`, and refuse all else.

    The value, of the file `path`, may come from anywhere. `_target_` may name the `allowed` classes, by today's or a
    former name, and those that `trust` names; `fixed` are arguments of a class that replace the file's.
    """
    check_plain(value, path)
    classes = {name: one for one in allowed for name in names_of(one)}

    def built(one: Any) -> Any:
        if isinstance(one, list):
            return [built(child) for child in one]
        if isinstance(one, dict):
            parts = {key: built(child) for key, child in one.items()}
            return called(parts) if "_target_" in parts else parts
        return one

    def called(parts: dict[str, Any]) -> Any:
        name, later = parts.pop("_target_"), parts.pop("_partial_", False)
        if isinstance(name, str) and name in classes:
            made = classes[name]
            parts |= (fixed or {}).get(made, {})
            check_types(made, parts, path)
        else:
            made = _trusted_class(name, trust, path)
        if later:
            return partial(made, **parts)
        try:
            return made(**parts)
        except KeyframeError as error:
            raise KeyframeError(f"{path} was not loaded: {error}") from error
        except Exception as error:  # a class may refuse arguments of another version in any way
            reason = one_line(str(error))[:200]
            if name not in classes:
                raise KeyframeError(f"{path}: {name} cannot be built ({type(error).__name__}: {reason}).") from error
            raise KeyframeError(
                f"{path} is a run from another version of keyframe ({reason}): train it again with this one."
            ) from error

    return built(value)


def plugins() -> list[str]:
    """The modules that installed packages declare as plugins."""
    return [point.module for point in entry_points(group=_PLUGINS)]


def find_packages(names: Iterable[str], folders: Sequence[Path]) -> None:
    """Let the packages of these dotted names be imported from folders that hold them, if they are not installed.

    The user has named them: a package that is only looked for, such as an optional one, is not taken from there.
    """
    for package in sorted({name.partition(".")[0] for name in names} - _NEVER_TRUSTED):
        if package.isidentifier() and PathFinder.find_spec(package) is None:
            found = (folder for folder in folders if PathFinder.find_spec(package, [str(folder)]) is not None)
            sys.path.extend(str(folder) for folder in islice(found, 1))


def package_folder(package: str) -> Path | None:
    """The folder of an importable package, which is not imported; None if there is none."""
    spec = PathFinder.find_spec(package)
    places = list((spec and spec.submodule_search_locations) or ())
    return Path(places[0]) if places else None


def own_packages(names: Iterable[object]) -> set[str]:
    """The packages of a user's own among dotted names of classes."""
    return {str(name).partition(".")[0] for name in names} - _NEVER_TRUSTED - _LIBRARIES


def own_fault(error: BaseException, packages: Set[str]) -> str | None:
    """Where a user's own code, of these packages, has failed, in one sentence; None if none of it was running."""
    frames = [
        (frame, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] in packages
    ]
    if not frames:
        return None
    frame, line = frames[-1]
    return (
        f"{frame.f_code.co_filename}, line {line}, in {frame.f_code.co_name}, fails "
        f"({one_line(f'{type(error).__name__}: {error}')[:300]}): correct it (HYDRA_FULL_ERROR=1 shows what called it)."
    )


def _trusted_class(name: object, trust: Trust, path: Path) -> type:
    """A class of a trusted package, by its name; nothing is imported of another one."""
    parts = name.split(".") if isinstance(name, str) else [""]
    if len(parts) < 2 or not all(part.isidentifier() for part in parts) or parts[0] in _NEVER_TRUSTED:
        shown = name if isinstance(name, str) and name.isprintable() else repr(name)
        raise KeyframeError(f"{path} was not loaded: it asks for {shown[:200]}, which keyframe does not use for that.")
    trusted = (*trust.packages, *plugins())
    package = next((one for one in trusted if _is_in(".".join(parts[:-1]), one)), None)
    if package is None:
        raise KeyframeError(
            f"{path} was not loaded: it asks for {name}, which is not a part of keyframe: if it is yours, or you trust "
            f"who wrote it, add trust=[{parts[0]}]."
        )
    module = ".".join(parts[:-1])
    try:
        found = getattr(import_module(module), parts[-1], None)
    except Exception as error:  # a module may fail in any way
        raise KeyframeError(
            f"{path} asks for {name}, and importing it fails ({type(error).__name__}: {one_line(str(error))}): "
            f"install {parts[0]}, or set PYTHONPATH to the folder that holds it."
        ) from error
    if not isinstance(found, type) or not _is_in(found.__module__, package):
        raise KeyframeError(f"{path} was not loaded: {name} is not a class that {package} defines.")
    return found


def _is_in(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def check_types(made: type, parts: Mapping[str, Any], path: Path) -> None:
    """Refuse an argument that is not of the type that the class states; names are checked by the call itself."""
    hints: dict[str, Any] = {}
    for base in reversed(made.__mro__):
        if "__init__" in vars(base) and base is not object:
            hints |= get_type_hints(base.__init__)  # type: ignore[misc]
    for key, value in parts.items():
        hint = hints.get(key, Any)
        if not _fits(value, hint):
            shown = one_line(repr(value))[:80] if _is_plain(value) else f"a {type(value).__name__}"
            raise KeyframeError(
                f"{path} was not loaded: {key} of its {made.__name__} is {shown}, not {inspect.formatannotation(hint)}."
            )


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of a file, or what was built of it, is of an annotated type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in arguments)
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in arguments)
    if hint in (None, NoneType):
        return value is None
    if hint in (int, float, bool, str):
        # a file's 1 may stand for 1.0 and for true
        return type(value) is hint or (type(value) is int and hint in (float, bool))
    if origin is tuple and Ellipsis not in arguments:
        return isinstance(value, list) and len(value) == len(arguments) and all(map(_fits, value, arguments))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, dict) and all(_fits(one, arguments[1]) for one in value.values())
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return isinstance(value, list) and all(_fits(one, arguments[0]) for one in value)
    if _is_plain(value):
        return False
    if origin is Callable:
        return callable(value)
    # a user's own class may stand in the place of a protocol, or of a class of ours
    return all(hasattr(value, name) for name in dir(hint) if not name.startswith("_"))


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (dict, list, str, int, float))
