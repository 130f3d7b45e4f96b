"""How many threads torch takes, and how they wait: set before it loads, by every command."""

import os
import subprocess
import sys

import pytest

from keyframe import cli
from keyframe.system import cores

_SHOW = "import os, keyframe.cli; print(os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, "4000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
    ids=["ours", "the user's number", "the user's policy"],
)
def test_waiting_threads_sleep_soon_unless_the_user_says_otherwise(settings, expected):
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in names} | settings
    assert subprocess.check_output([sys.executable, "-c", _SHOW], env=environment, text=True).strip() == expected


@pytest.mark.parametrize(("asked", "free", "expected"), [(None, 1, "1"), (None, cores(), None), ("5", 1, "5")])
def test_torch_takes_the_cores_that_are_free(monkeypatch, caplog, asked, free, expected):
    monkeypatch.setattr(cli._load, "free_cores", lambda: free)
    monkeypatch.setenv("OMP_NUM_THREADS", asked or "")
    if asked is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    caplog.set_level("INFO")
    cli.share_cores()
    assert os.environ.get("OMP_NUM_THREADS") == (expected if cores() > 1 else asked)
    busy = "Other processes are busy: this one uses 1 of {0} cores (OMP_NUM_THREADS={0} for all of them)."
    assert caplog.messages == ([busy.format(cores())] if asked is None and free < cores() else [])
