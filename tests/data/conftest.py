"""Fixtures for tests of readers."""

from collections.abc import Callable
from pathlib import Path

import pytest

from keyframe import system
from keyframe.data import decord_reader
from tests.videos import CAN_ROTATE, KINDS, build


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives a video of `KINDS` or `COPIES` by its name."""
    folder = tmp_path_factory.mktemp("videos")

    def get(name: str) -> Path:
        if not CAN_ROTATE and {"rotation", "flips"} & KINDS.get(name, {}).keys():
            pytest.skip("this PyAV cannot write display matrices")
        return build(name, folder)

    return get


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    """A message that is logged once per process is logged once per test."""
    system._logged.clear()
    decord_reader._import_decord.cache_clear()
