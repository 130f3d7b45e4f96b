"""Memory and cores of a part of a machine, as the kernel's documentation says its files look."""

import os

import pytest

from keyframe import system as cgroup
from keyframe import system as memory
from keyframe.system import available_bytes, cores

MB = 1 << 20


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of 8 cores and 1000 MB that are free; a call puts files into it."""
    (tmp_path / "meminfo").write_text(f"MemTotal: 9000000 kB\nMemFree: 10 kB\nMemAvailable: {1000 * MB // 1024} kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(cgroup, "_OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr(cgroup, "_GROUPS", tmp_path / "mount")
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
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
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


def test_a_limit_beyond_the_machine_is_none(machine):
    machine("0::/\n", {"memory.max": 10**15, "memory.current": 1, "cpu.max": "6400000 100000"})
    assert (available_bytes(), cores()) == (1000 * MB, 8)
