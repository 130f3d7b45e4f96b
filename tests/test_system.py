"""Memory and cores of a part of a machine, locks of folders, and processes that measure."""

import logging
import os
import re
import shlex
import signal
import threading
import time
import tomllib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from keyframe import system
from keyframe.system import (
    Load,
    available_bytes,
    cores,
    ctrl_c_blocked,
    fault_of,
    in_child,
    installed_versions,
    lock_folder,
    log_once,
    pip_install,
    threads,
)
from keyframe.types import KeyframeError, VideoError
from tests.child_tasks import end_by, fail, numbers, starts_another
from tests.commands import ROOT

MB = 1 << 20


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of 8 cores and 1000 MB that are free; a call puts files into it."""
    (tmp_path / "meminfo").write_text(f"MemTotal: 9000000 kB\nMemFree: 10 kB\nMemAvailable: {1000 * MB // 1024} kB\n")
    monkeypatch.setattr(system, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(system, "_OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr(system, "_GROUPS", tmp_path / "mount")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)

    def put(own, files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "mount" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")

    return put


def test_a_machine_for_ourselves(machine, monkeypatch, tmp_path):
    assert (available_bytes(), cores()) == (1000 * MB, 8)
    monkeypatch.setattr(system, "_MEMINFO", tmp_path / "none")
    assert available_bytes() is None


@pytest.mark.parametrize("own", ["0::/\n", "0::/docker/abc\n"], ids=["own namespace", "the machine's path"])
def test_a_container(machine, own):
    stat = f"anon {200 * MB}\ninactive_file {40 * MB}\nactive_file {20 * MB}"
    files = {"memory.max": 300 * MB, "memory.current": 260 * MB, "memory.stat": stat, "cpu.max": "150000 100000"}
    machine(own, files)
    assert (available_bytes(), cores()) == (100 * MB, 2)


def test_the_tightest_of_the_groups_around_a_job(machine):
    job = "system.slice/slurm/job_1/step_0"
    files = {
        f"{job}/memory.max": "max",
        f"{job}/memory.current": 50 * MB,
        f"{job}/cpu.max": "max 100000",
        "system.slice/slurm/job_1/memory.max": 400 * MB,
        "system.slice/slurm/job_1/memory.current": 90 * MB,
        "system.slice/slurm/job_1/cpu.max": "400000 100000",
        "system.slice/memory.max": 900 * MB,
        "system.slice/memory.current": 100 * MB,
    }
    machine(f"0::/{job}\n", files)
    assert (available_bytes(), cores()) == (310 * MB, 4)


def test_version_1(machine):
    files = {
        "memory/docker/abc/memory.limit_in_bytes": 200 * MB,
        "memory/docker/abc/memory.usage_in_bytes": 250 * MB,
        "memory/docker/abc/memory.stat": f"inactive_file 1\ntotal_inactive_file {70 * MB}\ntotal_active_file 0",
        "memory/memory.limit_in_bytes": 9223372036854771712,
        "memory/memory.usage_in_bytes": 5000 * MB,
        "cpu/docker/abc/cpu.cfs_quota_us": 50000,
        "cpu/docker/abc/cpu.cfs_period_us": 100000,
        "cpu/cpu.cfs_quota_us": -1,
        "cpu/cpu.cfs_period_us": 100000,
    }
    machine("7:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n", files)
    assert (available_bytes(), cores()) == (20 * MB, 1)


@pytest.mark.parametrize(("others", "free"), [(0.0, 8), (2.6, 5), (7.9, 1), (30.0, 1)])
def test_cores_that_others_leave_idle(machine, monkeypatch, tmp_path, others, free):
    """Over ten seconds of which this process works one; 2.6 cores of others leave five of eight."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    stat, ticks = tmp_path / "stat", os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr(system, "_STAT", stat)
    monkeypatch.setattr(system, "perf_counter", iter([100.0, 110.0]).__next__)
    monkeypatch.setattr(system, "process_time", iter([5.0, 6.0]).__next__)
    # proc(5): user nice system idle iowait irq softirq steal guest guest_nice
    stat.write_text("cpu  1000 200 300 99999 5 10 20 30 40 50\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    load = Load()
    stat.write_text(f"cpu  {1000 + round((10 * others + 1) * ticks)} 200 300 123456 5 10 20 30 40 50\n")
    assert load.free_cores() == free


def test_a_system_that_does_not_report_its_work_has_all_cores_free(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(system, "_STAT", tmp_path / "none")
    assert Load().free_cores() == 8


@pytest.mark.parametrize(("asked", "expected"), [(None, 8), ("3", 3), ("4,2", 4), ("0", 8), ("many", 8)])
def test_threads_are_those_that_the_user_asks_for(machine, monkeypatch, asked, expected):
    if asked is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert threads() == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_start_of_a_child_comes_after_it(number):
    """It may arrive at another thread, which a mask does not stop."""
    done = []

    def interrupt(*_):
        done.append("signal")
        raise KeyboardInterrupt

    before = signal.signal(number, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt), ctrl_c_blocked():
            thread = threading.Thread(target=os.kill, args=(os.getpid(), number))
            thread.start()
            thread.join()
            done.append("started")
        assert signal.getsignal(number) is interrupt
    finally:
        signal.signal(number, before)
    assert done == ["started", "signal"]


def test_a_limit_beyond_the_machine_is_none(machine):
    machine("0::/\n", {"memory.max": 10**15, "memory.current": 1, "cpu.max": "6400000 100000"})
    assert (available_bytes(), cores()) == (1000 * MB, 8)


def forked(work):
    """A child process that does this and then sleeps; returns when the work is done."""
    ready, done = os.pipe()
    child = os.fork()
    if not child:
        try:
            work()
            os.write(done, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(done)
    assert os.read(ready, 1) == b"x"
    os.close(ready)
    return child


def end(child):
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_directory_in_use_is_refused_until_its_process_is_killed(tmp_path):
    child = forked(lambda: lock_folder(tmp_path))
    try:
        with pytest.raises(KeyframeError, match=f"in use by process {child} on .* since 20") as refusal:
            lock_folder(tmp_path)
        assert str(tmp_path) in str(refusal.value)
        (tmp_path / "other").mkdir()
        lock_folder(tmp_path / "other").close()
    finally:
        end(child)
    lock_folder(tmp_path).close()


def test_processes_that_the_owner_has_forked_do_not_hold_it_on(tmp_path):
    lock = lock_folder(tmp_path)
    child = forked(lambda: None)
    try:
        lock.close()
        lock_folder(tmp_path).close()
    finally:
        end(child)


def test_versions_of_what_is_installed():
    assert set(installed_versions(["numpy", "no-such-package"])) == {"numpy"}


def test_a_message_is_logged_once_per_topic(caplog):
    for topic in ("a", "b", "a"):
        log_once(logging.getLogger(), logging.WARNING, ("test", topic), "about %s", topic)
    assert caplog.messages == ["about a", "about b"]


@pytest.mark.full
def test_items_come_from_another_process_that_ends_when_it_is_left():
    process, *items = in_child(partial(numbers, 3), "nothing")
    assert process != os.getpid()
    assert items == [0, 1, 2]
    endless = in_child(partial(numbers, 10**9), "nothing")
    process = next(endless)
    endless.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


@pytest.mark.full
def test_it_works_only_while_it_is_asked_and_may_start_processes(tmp_path):
    items = in_child(partial(starts_another, tmp_path), "nothing")
    assert [next(items), next(items)] == [0, 0]
    time.sleep(0.1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]
    assert list(items) == [0]


@pytest.mark.full
def test_how_it_ends(capfd):
    with pytest.raises(KeyframeError, match="that measured the memory was killed"):
        list(in_child(partial(end_by, signal.SIGKILL), "the memory"))
    assert list(in_child(partial(end_by, signal.SIGINT), "nothing")) == [1]  # Ctrl-C is for the parent
    assert capfd.readouterr().err == ""
    with pytest.raises(VideoError, match=r"^no\.mp4 is empty$"):
        list(in_child(partial(fail, VideoError("no.mp4 is empty")), "nothing"))
    assert capfd.readouterr().err == ""
    with pytest.raises(RuntimeError, match="status 1"):
        list(in_child(partial(fail, OSError("no")), "nothing"))
    assert "OSError: no" in capfd.readouterr().err


def failed(task):
    with pytest.raises(Exception) as caught:
        task()
    return caught.value


def full(write):
    """Write onto a disk without room."""
    with Path("/dev/full").open("wb") as file:
        write(file)


MACHINE = {
    "full disk": (lambda: full(lambda file: file.write(bytes(1 << 20))), "RUN cannot be written (No space left on"),
    "full disk, torch": (
        lambda: full(lambda file: torch.save(torch.zeros(1 << 20), file)),
        "RUN cannot be written (No space left on device): make room, or choose another directory.",
    ),
    "memory, numpy": (lambda: np.empty(1 << 47, np.uint8), "memory ran out (allocating 128. TiB): lower T, or free"),
    "memory, torch": (lambda: torch.empty(1 << 60), "memory ran out (allocating 4611686018427387904 bytes): lower T"),
    "folder in place of a file": (
        lambda: list(Path("/dev/null").iterdir()),
        "/dev/null cannot be used (Not a directory)",
    ),
}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(("task", "sentence"), MACHINE.values(), ids=MACHINE)
def test_faults_of_the_machine(task, sentence, tmp_path):
    assert fault_of(failed(task), tmp_path, "T").startswith(sentence.replace("RUN", str(tmp_path)))


def test_a_directory_that_has_vanished(tmp_path):
    gone = tmp_path / "gone"
    error = failed(lambda: (gone / "file").write_text(""))
    assert fault_of(error, gone) == f"{gone} was removed while in use: start again."
    assert fault_of(error, tmp_path) is None  # a file that is not there may be a bug


def test_a_killed_worker_is_the_cause_of_the_error_that_lightning_raises_after_it(tmp_path):
    error = RuntimeError("Please call `iter(combined_loader)` first.")
    error.__context__ = RuntimeError("DataLoader worker (pid 12623) is killed by signal: Killed. ")
    assert "was killed, most likely because memory ran out: lower data.workers" in str(fault_of(error, tmp_path))


@pytest.mark.parametrize("error", [ValueError("out of memory"), KeyError("x"), RuntimeError("shapes differ")])
def test_bugs_are_no_faults_of_the_machine(error, tmp_path):
    assert fault_of(error, tmp_path) is None


def test_what_installs_an_extra_is_named_after_the_distribution():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra in project["optional-dependencies"]:
        assert shlex.split(pip_install(extra)) == ["pip", "install", f"{project['name']}[{extra}]"]


@pytest.mark.parametrize("folder", ["conf", "docs", "examples", "experiments", "keyframe", "."])
def test_each_pip_line_names_the_distribution_or_the_checkout(folder):
    """`keyframe` itself is another project on the public index."""
    paths = (ROOT / folder).glob("*.*") if folder == "." else (ROOT / folder).rglob("*.*")
    texts = [path for path in paths if path.suffix in (".md", ".yaml", ".yml", ".py", ".html", ".js", ".toml", ".cff")]
    assert texts
    lines = [line for path in texts for line in re.findall(r"pip\s+install\s+([^\n`]*)", path.read_text("utf-8"))]
    ours = re.compile(r"'?(keyframe-lightning|\.)([\['. ]|$)|-e '?\.|--|'\{DISTRIBUTION\}")
    assert [line for line in lines if not ours.match(line)] == []
