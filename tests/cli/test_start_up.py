"""What a command does not import before it has something to do: seconds of torch and its friends."""

import pytest

from keyframe.config import conf_dir
from tests.commands import cold, script

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


@pytest.mark.parametrize(
    "arguments", [["train", "--help"], *[[program, "--cfg", "job"] for program in PROGRAMS]], ids=" ".join
)
def test_nothing_heavy_is_imported_to_print(arguments, tmp_path):
    program, *option = arguments
    done = cold(["-c", RUN.format(heavy=HEAVY, program=program), *option], tmp_path).good()
    assert done.out.splitlines()[-1].strip() == "HEAVY:"
    assert "run_dir" in done.out
    assert not list(tmp_path.iterdir())


def test_help_lists_all_groups_though_hydra_copies_its_store_no_more(tmp_path):
    groups = {path.name for path in conf_dir().iterdir() if path.is_dir() and path.name != "experiment"}
    listed = cold([*script("train"), "--help"], tmp_path).good().out
    assert all(f"{group}: " in listed for group in groups)
    assert "backbone: efficientnet_b0, efficientnet_b1, efficientnet_b2, mobilenetv4_conv_medium, " in listed
