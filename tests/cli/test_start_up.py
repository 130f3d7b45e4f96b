"""What a command does not import before it has something to do: seconds of torch and its friends."""

import pytest

from tests.commands import cold

PROGRAMS = ("train", "evaluate", "compare", "extract", "features", "benchmark")
HEAVY = ("torch", "torchvision", "pytorch_lightning", "timm", "matplotlib", "scipy", "numpy", "av", "h5py", "wandb")
RUN = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
finally:
    print("HEAVY:", *[name for name in {heavy} if name in sys.modules])
"""


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("option", [["--help"], ["--cfg", "job"]])
def test_nothing_heavy_is_imported_to_print(program, option, tmp_path):
    done = cold(["-c", RUN.format(heavy=HEAVY), f"keyframe.cli.{program}", *option], tmp_path).good()
    assert done.out.splitlines()[-1].strip() == "HEAVY:"
    assert "run_dir" in done.out
    assert not list(tmp_path.iterdir())
