"""Run commands, each in a process of its own that need not import torch again; see `tests.commands`.

Reads a JSON line for each command from stdin: `program`, `arguments`, `directory`, `environment`, and the files `out`
and `err`. Answers with a line that holds the exit status, the seconds of computing, and the peak memory in MB.
"""

import atexit
import gc
import json
import os
import sys
import traceback

if __name__ != "__mp_main__":  # processes that a command spawns import what they need, as a user's do
    import decord  # noqa: F401
    import hydra
    import torch

    import keyframe.cli.main
    import keyframe.cli.train
    import keyframe.models.detector
    import keyframe.training.callbacks
    import keyframe.training.run
    from keyframe.config import conf_dir
    from tests.commands import TINY


def run(command: dict) -> None:
    os.chdir(command["directory"])
    os.environ.clear()
    os.environ.update(command["environment"])
    for number, name in ((0, None), (1, "out"), (2, "err")):
        file = os.open(command[name], os.O_WRONLY | os.O_CREAT) if name else os.open(os.devnull, os.O_RDONLY)
        os.dup2(file, number)
        os.close(file)
    sys.argv = [command["program"], *command["arguments"]]
    getattr(keyframe.cli.main, command["program"].removeprefix("keyframe-"))()


def status_of(command: dict) -> int:
    """Run a command and say with which status Python would end."""
    try:
        run(command)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        hydra.compose("train", TINY)  # makes tables of parsers, which each command would make again
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            status = status_of(json.loads(line))
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)  # taking torch apart would touch, and so copy, all the memory that is shared
        _, status, used = os.wait4(child, 0)
        peak = used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
        print(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, peak, flush=True)
    os._exit(0)
