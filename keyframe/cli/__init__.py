"""One thin file a command.

Importing a command takes seconds, before it can listen to Ctrl-C: that ends then without a traceback too.
"""

import os
import sys
from pathlib import Path
from types import TracebackType


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report an error that nobody has caught."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    os.write(2, f"{Path(sys.argv[0]).stem}: interrupted\n".encode())
    os._exit(130)


sys.excepthook = _excepthook
