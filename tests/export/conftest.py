"""Exported files for the tests beside this file."""

import pytest
import torch

from tests.export.build import save_onnx


@pytest.fixture(scope="session")
def config(old_run):
    """The configuration of a run, in names of an older version."""
    return torch.load(old_run / "checkpoints" / "best.ckpt", weights_only=True)["hyper_parameters"]


@pytest.fixture
def exported(config, tmp_path):
    """An ONNX file and its card."""
    path = tmp_path / "a.onnx"
    return path, save_onnx(path, config)
