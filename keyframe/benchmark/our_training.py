"""`keyframe-train` in a process of its own, and what each part of it takes."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keyframe
from keyframe.errors import KeyframeError


@dataclass(frozen=True)
class Trained:
    """How long a training took.

    Attributes:
        before: seconds from the making of its callbacks to the first epoch: videos are found, decoded and encoded.
            Starting Python and building the model is not in it.
        epochs: of each, its seconds by part; see `keyframe.benchmark.epoch_laps`.
        after: seconds from the last epoch to the end of the test.
    """

    before: float
    epochs: list[dict[str, float]]
    after: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.before + sum(sum(epoch.values()) for epoch in self.epochs) + self.after


def train(overrides: Sequence[str], directory: Path, name: str) -> Trained:
    """Run `keyframe-train`.

    Args:
        overrides: of its configuration; relative paths are below the directory.
        directory: where it runs, and writes its run directory.
        name: of that.

    Raises:
        KeyframeError: it failed, in its own words.
    """
    laps = f"{name}-laps.jsonl"
    timed = ("+callbacks.laps._target_=keyframe.benchmark.epoch_laps.EpochLaps", f"+callbacks.laps.path={laps}")
    package = str(Path(keyframe.__file__).parents[1])
    python_path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "keyframe.cli.train", *overrides, *timed, f"hydra.run.dir={name}"],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": python_path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise KeyframeError(f"The training that was measured failed ({' '.join(words)}).")
    lines = [json.loads(line) for line in (directory / laps).read_text(encoding="utf-8").splitlines()]
    (before, *epochs, after) = lines
    return Trained(before["before"], epochs, after["after"])
