"""Ctrl-C and SIGTERM end a command, even where a library swallows what they raise."""

import signal
from types import FrameType

_asked = False


def listen() -> None:
    """From now on SIGTERM ends a command as Ctrl-C does, so that what was begun is removed, and both are noted."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell may have it ignored
        signal.signal(signal.SIGINT, _interrupt)


def stop_if_asked() -> None:
    """Raise KeyboardInterrupt if one was raised before and got lost; for places between two steps.

    In callbacks of C code and of the garbage collector Python prints an exception and goes on, and some extensions turn
    it into another one: it was seen in one of a hundred interruptions.
    """
    if _asked:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = True
    raise KeyboardInterrupt
