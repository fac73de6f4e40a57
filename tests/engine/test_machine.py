"""How many cores a process may use: affinity and control groups of both versions count, as containers set them."""

import os
from pathlib import Path

import pytest

from furnace.engine import machine
from furnace.engine.machine import control_groups, cores


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_affinity_counts_and_threads_of_a_library_do_not(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # nproc would say 1
    assert cores() == 16  # without control groups, too


@pytest.mark.parametrize(
    ("text", "expected"),
    [("400000 100000", 4), ("150000 100000", 2), ("10000 100000", 1), ("max 100000", 16), ("9900000 100000", 16)],
)
@pytest.mark.parametrize("place", ["", "slurm/job/step", "slurm"])  # its own, that of a container, and of the machine
def test_a_quota_of_version_2(groups: Path, text: str, expected: int, place: str) -> None:
    write(groups / "own", "0::/slurm/job/step\n")
    write(groups / "cgroup" / place / "cpu.max", f"{text}\n")
    assert cores() == expected


@pytest.mark.parametrize(("quota", "expected"), [(300000, 3), (-1, 16)])
def test_a_quota_of_version_1(groups: Path, quota: int, expected: int) -> None:
    write(groups / "own", "4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n0::/\n")
    write(groups / "cgroup/cpu/cpu.cfs_quota_us", f"{quota}\n")
    write(groups / "cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert cores() == expected


def test_groups_go_from_the_innermost_to_the_outermost(groups: Path) -> None:
    write(groups / "own", "4:memory:/a/b\n0::/c\n")
    top = groups / "cgroup"
    expected = [(top / "memory/a/b", 1), (top / "memory/a", 1), (top / "memory", 1), (top / "c", 2), (top, 2)]
    assert list(control_groups("memory")) == expected
