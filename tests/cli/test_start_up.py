"""What a command does not import before it has something to do: seconds of torch and its friends."""

import pytest

from tests.commands import cold

pytestmark = pytest.mark.full

PROGRAMS = ("train", "evaluate", "compare", "extract", "features", "export", "benchmark", "app")
# numpy is not among them: annotations need it, and it takes a twentieth of a second.
HEAVY = ("torch", "torchvision", "pytorch_lightning", "timm", "matplotlib", "scipy", "av", "h5py", "wandb")
# one interpreter, which forks for each command
RUN = f"""
import os, sys
import keyframe.cli.main
for program in {PROGRAMS}:
    for option in (["--help"], ["--cfg", "job"]):
        child = os.fork()
        if not child:
            sys.argv[1:] = option
            getattr(keyframe.cli.main, program)()
            print("HEAVY:", *[name for name in {HEAVY} if name in sys.modules])
            sys.exit()
        assert os.waitpid(child, 0)[1] == 0, (program, option)
"""


def test_nothing_heavy_is_imported_to_print(tmp_path):
    *pages, end = cold(["-c", RUN], tmp_path).good().out.split("HEAVY:")
    assert end.strip() == "" and len(pages) == 2 * len(PROGRAMS)
    for number, program in enumerate(PROGRAMS):
        page, config = (text.strip() for text in pages[2 * number : 2 * number + 2])
        assert page.startswith(f"keyframe-{program}: ") and "run_dir:" in config
    assert not list(tmp_path.iterdir())


def test_a_run_is_read_without_lightning(old_run, tmp_path):
    """It takes seconds, and 110 MB."""
    code = f"import sys, keyframe; keyframe.load_run({str(old_run)!r}).model; print('pytorch_lightning' in sys.modules)"
    assert cold(["-c", code], tmp_path).good().out.strip() == "False"
