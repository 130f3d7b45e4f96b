"""Run commands, each in a process of its own that need not import torch again; see `tests.commands`.

Reads a JSON line for each command from stdin: `program`, `arguments`, `directory`, `environment`, and the files `out`
and `err`. Answers with a line that holds the exit status.
"""

import importlib
import json
import os
import sys

import decord  # noqa: F401
import hydra  # noqa: F401
import torch

import keyframe.cli.app
import keyframe.models.sizes
import keyframe.training.progress
import keyframe.training.run  # noqa: F401


def run(command: dict) -> None:
    os.chdir(command["directory"])
    os.environ.clear()
    os.environ.update(command["environment"])
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(command[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    sys.argv = [command["program"], *command["arguments"]]
    module = importlib.import_module(f"keyframe.cli.{command['program'].removeprefix('keyframe-')}")
    module.main()


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            run(json.loads(line))
            sys.exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
