"""The console scripts. None imports its task before Hydra has composed the configuration: `--help` needs no torch."""

import sys

from keyframe.cli.app import command
from keyframe.cli.arguments import prepare, with_inputs
from keyframe.cli.hooks import with_one_directory


def train() -> None:
    """Run `keyframe-train`."""
    sys.argv[1:] = with_one_directory(prepare(sys.argv[1:]))
    command("train", "keyframe.cli.train:train")


def evaluate() -> None:
    """Run `keyframe-evaluate`."""
    sys.argv[1:] = prepare(sys.argv[1:])
    command("evaluate", "keyframe.cli.evaluate:evaluate")


def compare() -> None:
    """Run `keyframe-compare`."""
    sys.argv[1:] = prepare(sys.argv[1:])
    command("compare", "keyframe.cli.compare:compare")


def extract() -> None:
    """Run `keyframe-extract`."""
    sys.argv[1:] = prepare(with_inputs(sys.argv[1:]))
    command("extract", "keyframe.cli.extract:extract")


def features() -> None:
    """Run `keyframe-features`."""
    sys.argv[1:] = prepare(with_inputs(sys.argv[1:]))
    command("features", "keyframe.cli.features:features")


def export() -> None:
    """Run `keyframe-export`."""
    sys.argv[1:] = prepare(sys.argv[1:])
    command("export", "keyframe.cli.export:export")


def benchmark() -> None:
    """Run `keyframe-benchmark`."""
    sys.argv[1:] = prepare(sys.argv[1:])
    command("benchmark", "keyframe.cli.benchmark:benchmark")
