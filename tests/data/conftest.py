"""Fixtures for tests of readers."""

from collections.abc import Callable
from pathlib import Path

import pytest

from keyframe import system
from keyframe.data import decord_reader
from tests.videos import CAN_ROTATE, KINDS, build


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("readers")

    def get(name: str) -> Path:
        if not CAN_ROTATE and {"rotation", "flips"} & KINDS.get(name, {}).keys():
            pytest.skip("this PyAV cannot write display matrices")
        return build(name, folder)

    return get


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    """What is told once a process is told once a test."""
    system._logged.clear()
    decord_reader._import_decord.cache_clear()
