"""Processes that end with the one that has started them."""

import multiprocessing
import os
import signal
import threading


def end_with_parent() -> None:
    """Stop this process as soon as its parent is gone, killed say: nobody waits for what it does."""
    threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
