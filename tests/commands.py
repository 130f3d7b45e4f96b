"""Commands of keyframe as a user runs them: processes with an exit status, stdout and stderr."""

import copy
import functools
import importlib
import json
import math
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from keyframe.cli.arguments import add_inputs, check_values, prepare, split_inputs
from keyframe.cli.errors import sentence_of
from keyframe.config import conf_dir

ROOT = Path(__file__).resolve().parents[1]

# What every small training of the tests has in common: 15 generated videos of 12 frames at 32x32, no trackers; and a
# cut backbone of a tenth of Model 2's size.
PLAIN = (
    "experiment=demo",
    "data.videos=15",
    "data.shots=12",
    "data.size=32",
    "backbone.pretrained=false",
    "sampling=uniform",
    "sampling.frames=12",
    "trainer=cpu",
    "logger=csv",
)
BACKBONE = (
    "backbone=timm",
    "backbone.name=test_efficientnet",
    "backbone.prefix=[conv_stem,bn1,blocks.0,blocks.1,blocks.2,blocks.3]",
    "backbone.tail=[blocks.4,conv_head,bn2,global_pool]",
)
TINY = (*PLAIN[:-1], *BACKBONE, PLAIN[-1])


@dataclass(frozen=True)
class Done:
    """How a command ended, the seconds that it computed, and its peak memory in MB; NaN if not measured."""

    status: int
    out: str
    err: str
    seconds: float = math.nan
    peak_mb: float = math.nan

    def good(self) -> "Done":
        assert self.status == 0, f"{self.out[-3000:]}\n{self.err[-3000:]}"
        return self

    def sentence(self) -> str:
        """The one line on stderr of a command that has refused its input."""
        assert self.status == 1, f"exit status {self.status}\n{self.out[-3000:]}\n{self.err[-3000:]}"
        assert "Traceback" not in self.out + self.err, self.out + self.err
        assert self.err.startswith("keyframe-"), self.err
        assert self.err.count("\n") == 1, self.err
        return self.err.strip()


def environment(**changes: str) -> dict[str, str]:
    """This process's environment with one thread, and without what a user's shell may have set for W&B or Hydra."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "HYDRA_", "PL_"))}
    python_path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return kept | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "PYTHONPATH": python_path} | changes


def script(program: str) -> tuple[str, str]:
    """Arguments of a Python interpreter that make it the console script `keyframe-<program>`."""
    return "-c", f"from keyframe.cli.main import {program}; {program}()"


def cold(arguments: list[str], directory: Path, **changes: str) -> Done:
    """Run a fresh Python interpreter."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=500,  # on a machine that others use
    )
    return Done(done.returncode, done.stdout, done.stderr)


@functools.cache
def _composed(program: str, arguments: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose(program, list(arguments), return_hydra_config=True)


def composed(program: str, arguments: Sequence[str]) -> DictConfig:
    """A command's configuration as Hydra composes it, which takes most of a second; Hydra's own is set.

    Hydra chooses options once a session; values are then set in a copy as Hydra sets them. A refused value it composes.
    """
    overrides = OverridesParser.create().parse_overrides(list(arguments))
    values = {
        str(one.input_line): one
        for one in overrides
        if one.type == OverrideType.CHANGE and not (conf_dir() / one.key_or_group).is_dir()
        if "/" not in one.key_or_group and one.package is None and one.key_or_group != "hydra.searchpath"
    }
    config = copy.deepcopy(_composed(program, tuple(one for one in arguments if one not in values)))
    try:
        for one in values.values():
            OmegaConf.update(config, one.key_or_group, one.value(), merge=True)
    except OmegaConfBaseException:
        config = copy.deepcopy(_composed(program, tuple(arguments)))
    config.hydra.overrides.task = [str(one.input_line) for one in overrides if not one.is_hydra_override()]
    config.hydra.runtime.cwd = str(Path.cwd())
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    return config


def in_process(program: str, *arguments: object, run_dir: Path) -> str:
    """Do what a command does on its arguments, in this process; the sentence that it ends with, "" if it succeeds."""
    others, inputs = [str(argument) for argument in arguments], []
    if program in ("extract", "features"):
        others, inputs = split_inputs(others)
    run_dir.mkdir(parents=True, exist_ok=True)
    config = None
    try:
        config = composed(program, [*prepare(others), f"hydra.runtime.output_dir='{run_dir}'"])
        check_values(config, program)
        if inputs:
            add_inputs(config, inputs)
        importlib.import_module(f"keyframe.cli.{program}").__dict__[program](config)
    except Exception as error:
        sentence = sentence_of(error, config)
        assert sentence is not None, traceback.format_exc()
        return sentence
    return ""


class Warm:
    """A Python interpreter with torch already imported that forks for each command: seconds less for each."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.server: subprocess.Popen[str] | None = None

    def __call__(
        self, *arguments: object, program: str = "keyframe-train", at: Path | None = None, **changes: str
    ) -> Done:
        """Run `keyframe-train` or another command in a directory, else in an empty one of its own."""
        if self.server is None:
            self.server = subprocess.Popen(
                [sys.executable, str(ROOT / "tests" / "warm.py")],
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        place = self.directory / str(len(list(self.directory.iterdir())))
        (place / "cwd").mkdir(parents=True)
        command = {
            "program": program,
            "arguments": [str(argument) for argument in arguments],
            "directory": str(at or place / "cwd"),
            "environment": environment(**changes),
            "out": str(place / "out"),
            "err": str(place / "err"),
        }
        assert self.server.stdin is not None and self.server.stdout is not None
        print(json.dumps(command), file=self.server.stdin, flush=True)
        status, seconds, peak = self.server.stdout.readline().split()
        texts = (place / "out").read_text(), (place / "err").read_text()
        return Done(int(status), *texts, float(seconds), float(peak))

    def close(self) -> None:
        if self.server is not None:
            self.server.communicate()
