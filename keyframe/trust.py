"""What a file from somebody else may do: hold plain values. Anything more, the user confirms where the file is used."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyframe.types import KeyframeError

# Bounds of plain values. Our own configurations have 5 levels, 200 values and texts of 100 characters.
_MAX_DEPTH = 20
_MAX_VALUES = 20_000
_MAX_TEXT = 10_000
_MAX_INTEGER = 2**53


@dataclass(frozen=True)
class Trust:
    """What the user lets a shared file do; it comes from the command line or the caller, never from a file.

    Attributes:
        programs: whether programs run (exported .pt and .pt2 files, the record of a foreign sweep).
        packages: the importable packages whose classes a file may name.
    """

    programs: bool = False
    packages: tuple[str, ...] = ()

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


def check_plain(value: Any, path: Path) -> None:
    """Raise KeyframeError unless all of a value is plain: dicts, lists, texts, numbers, booleans and None.

    Args:
        value: what a checkpoint, a card or a sweep's record holds. It may be cyclic or of any size.
        path: the file that holds it, for messages.
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
            if "${" in one:
                raise _refused(path, f"holds the unresolved value {one[:80]!r}")
        elif type(one) is int:
            if abs(one) > _MAX_INTEGER:
                raise _refused(path, "has a number beyond 2^53")
        elif one is not None and type(one) not in (float, bool):
            raise _refused(path, f"holds a {type(one).__name__}")

    check(value, 0)


def _refused(path: Path, reason: str) -> KeyframeError:
    return KeyframeError(f"{path} was not loaded: its configuration {reason}.")
