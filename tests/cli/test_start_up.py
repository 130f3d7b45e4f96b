"""What a command does not import before it has something to do: seconds of torch and its friends."""

import pytest

from tests.commands import cold

pytestmark = pytest.mark.full

PROGRAMS = ("train", "evaluate", "compare", "extract", "features", "export", "benchmark")
# numpy is not among them: annotations need it, and it takes a twentieth of a second.
HEAVY = ("torch", "torchvision", "pytorch_lightning", "timm", "matplotlib", "scipy", "av", "h5py", "wandb")
RUN = """
import sys
from keyframe.cli.main import {program}
try:
    {program}()
finally:
    print("HEAVY:", *[name for name in {heavy} if name in sys.modules])
"""


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("option", ["--help", "--cfg job"])
def test_nothing_heavy_is_imported_to_print(program, option, tmp_path):
    done = cold(["-c", RUN.format(heavy=HEAVY, program=program), *option.split()], tmp_path).good()
    assert done.out.splitlines()[-1].strip() == "HEAVY:"
    assert "run_dir:" in done.out or done.out.startswith(f"keyframe-{program}: ")
    assert not list(tmp_path.iterdir())
