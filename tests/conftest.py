"""Fixtures that every test may use."""

import fcntl
import os

# Two threads on a busy two-core machine were seen to be 20 times slower than one.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("MPLBACKEND", "agg")

import gzip
import io
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from keyframe.data.demo import DemoSet, generate
from tests.commands import Warm, in_process

if TYPE_CHECKING:
    from playwright.sync_api import Browser

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # What a shell starts in the background is deaf to Ctrl-C, and so would be the processes that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put every test into a lane, skip what needs a GPU where there is none, and share the tests among the workers."""
    for item in items:
        if isinstance(item, pytest.Function):
            commands = getattr(item.module, "in_process", None) is in_process
            if commands or not {"command", "tiny_demo"}.isdisjoint(item.fixturenames):
                item.add_marker(pytest.mark.full)
        lanes = {mark.name for mark in item.iter_markers() if mark.name in ("full", "gpu")}
        if not lanes:
            item.add_marker(pytest.mark.fast)
        if "gpu" in lanes and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="torch finds no GPU on this machine"))
    if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
        items[:] = in_shares(items, int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))


def in_shares(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Each worker's share of files, one after the other, since xdist gives each worker a stretch to begin with.

    A share begins with the files that have long tests, so that the short ones are left for whoever ends first.
    """
    files = [list(tests) for _, tests in groupby(items, key=lambda item: item.path)]
    files.sort(key=lambda tests: not any(item.get_closest_marker("full") for item in tests))
    return [item for first in range(workers) for tests in files[first::workers] for item in tests]


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A directory that one worker of the session makes, and all share."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    place, done = root / name, root / f"{name}.done"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(place, ignore_errors=True)  # another worker has failed at it
            place.mkdir()
            make(place)
            done.touch()
    return place


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Undo what a test has set: sums over another number of threads round differently."""
    yield
    torch.set_num_threads(1)


SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def tiny_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which `data=demo data.root=... data.videos=15 data.shots=12` finds its 15 short videos."""
    demo = DemoSet(seed=0, videos=15, shots=12)
    return made_once(tmp_path_factory, "demo", lambda root: generate(root, demo, workers=2))


@pytest.fixture(scope="session")
def old_run(tiny_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with a checkpoint of an older version (tests/fixtures), trained on these 15 videos."""
    path = tmp_path_factory.mktemp("run") / "checkpoints" / "best.ckpt"
    path.parent.mkdir()
    file = Path(__file__).parent / "fixtures" / "before_videos.ckpt.gz"
    checkpoint = torch.load(io.BytesIO(gzip.decompress(file.read_bytes())), weights_only=True)
    checkpoint["hyper_parameters"]["datamodule"]["source"]["root"] = str(tiny_demo)
    torch.save(checkpoint, path)
    return path.parent.parent


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A disk of its own; a call gives it a size, such as "64k", and returns its path."""
    place = tmp_path / "disk"

    def resize(size: str) -> Path:
        place.mkdir(exist_ok=True)
        options = f"{'remount,' if place.is_mount() else ''}size={size}"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("a small disk needs the right to mount one (root, or CAP_SYS_ADMIN)")
        return place

    yield resize
    if place.is_mount():
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture(scope="session")
def clips() -> Path:
    """Real video files."""
    if not (SHARED / "clips").is_dir():
        pytest.skip("the real clips (../shared/clips) are not on this machine")
    return SHARED / "clips"


@pytest.fixture(scope="session")
def official_labels() -> Path:
    """TVSum's own label file."""
    path = SHARED / "data" / "ydata-tvsum50.mat"
    if not path.is_file():
        pytest.skip("the official label file (../shared/data/ydata-tvsum50.mat) is not on this machine")
    return path


def chromium() -> str | None:
    """The system's Chromium."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Chromium of the system, without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if (program := chromium()) is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """Runs `keyframe-train`, or another command, in a process of its own."""
    warm = Warm(tmp_path_factory.mktemp("commands"))
    yield warm
    warm.close()
