"""Text from anywhere, made safe to print and to save: a file name may hold any character but `/` and NUL."""

import re

# Control characters (terminal escapes among them), halves of surrogate pairs (bytes of a file name that are not
# UTF-8), and the marks that turn the reading direction of what follows. A line feed is layout, and stays.
_UNPRINTABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with U+FFFD, the replacement character, for what no reader should meet."""
    return _UNPRINTABLE.sub("\ufffd", text)


def one_line(text: str) -> str:
    """The text with every run of white space as one space."""
    return " ".join(text.split())


def paragraphs(text: str) -> list[str]:
    """Its paragraphs, each as one line; empty lines part them."""
    return [line for part in re.split(r"\n\s*\n", text) if (line := one_line(part))]
