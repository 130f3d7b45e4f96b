"""Text as Hydra's grammar quotes it."""

import re

# Text that Hydra reads as it stands; what begins otherwise may be a number to it.
_PLAIN = re.compile(r"[A-Za-z_/.][\w./\-]*", re.ASCII)
_WORDS = ("true", "false", "nan", "inf")


def quote(value: str) -> str:
    """A value that Hydra reads as exactly this text; what is quoted or an interpolation already stays, and null."""
    plain = _PLAIN.fullmatch(value) and not re.fullmatch(r"\.[\d_]+", value) and value.lower() not in _WORDS
    if _is_quoted(value) or plain or value.startswith("${") or value == "null":
        return value
    return f"'{escaped(value)}'"


def escaped(value: str) -> str:
    """The text between Hydra's quotes: there backslashes count only before a quote, or at the end."""
    return re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)


def unquoted(value: str) -> str:
    """The text that somebody has put into quotes; what has none is taken to the letter."""
    return value[1:-1] if _is_quoted(value) else value


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
