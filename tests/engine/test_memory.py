"""What is free is what the tightest limit leaves, and what tensors take is counted without taking it."""

import resource
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from furnace.engine import machine, memory
from furnace.errors import InputError


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GB available, and without control groups."""
    (tmp_path / "meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable: 7812500 kB\nSwapFree: 0 kB\n")
    monkeypatch.setattr(memory, "MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(memory, "_of_address_space", lambda: float("inf"))
    return tmp_path


def group(folder: Path, files: tuple[str, str, tuple[str, ...]], limit: str, use: int, cached: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / files[0]).write_text(f"{limit}\n")
    (folder / files[1]).write_text(f"{use}\n")
    (folder / "memory.stat").write_text(f"anon 7\n{files[2][0]} {cached}\n")


def test_the_machine_alone(system: Path) -> None:
    assert memory.free() == 8e9
    (system / "meminfo").write_text("MemAvailable: 1000 kB\nSwapFree: 24 kB\n")
    assert memory.free() == 2**20


def test_nothing_is_refused_where_nothing_tells(system: Path) -> None:
    (system / "meminfo").unlink()
    assert memory.free() == float("inf")
    memory.require(1e18, "all", "none")


def test_the_tightest_group_counts_and_cached_files_are_free(system: Path) -> None:
    (system / "own").write_text("0::/user/job\n")
    top = system / "cgroup"
    group(top / "user/job", memory.VERSION_2, "max", 10)
    assert memory.free() == 8e9
    group(top / "user/job", memory.VERSION_2, "3000000000", 1_000_000_000, cached=500_000_000)
    assert memory.free() == 2.5e9
    group(top / "user", memory.VERSION_2, "2000000000", 1_500_000_000)
    assert memory.free() == 0.5e9
    group(top / "user", memory.VERSION_2, "2000000000", 2_100_000_000)
    assert memory.free() == 0


def test_groups_of_the_first_version_in_a_container(system: Path) -> None:
    """Its own group is named as outside, and lies at the top of what it sees."""
    (system / "own").write_text("9:name=systemd:/docker/x\n4:cpu,memory:/docker/x\n0::/\n")
    group(system / "cgroup/memory", memory.VERSION_1, "4000000000", 1_000_000_000, cached=200_000_000)
    assert memory.free() == 3.2e9


def test_a_limit_of_the_address_space(monkeypatch: pytest.MonkeyPatch) -> None:
    used = int((memory.PROCESS / "statm").read_text().split()[0]) * resource.getpagesize()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (used + 10**9, -1))
    assert 0.5e9 < memory.free() < 1.1e9


def test_what_is_missing_is_said_in_one_line(system: Path) -> None:
    memory.require(7.9e9, "the work", "do less")
    with pytest.raises(InputError, match=r"^the work needs about 9\.5 GB of memory on cpu, 8\.0 GB are free; do less$"):
        memory.require(9.5e9, "the work", "do less")


def test_tensors_are_counted_once_and_no_longer_than_they_live() -> None:
    def work(given: nn.Linear) -> None:
        first = given.weight.detach() + 1  # 4 MB
        view = first[1:].view(-1)
        second = view * 2  # 4 MB
        del first, view
        second.add_(1)
        del second
        torch.empty(1_500_000)  # 6 MB

    for device in ("cpu", "meta"):
        peak = memory.peak_of(lambda device=device: nn.Linear(1000, 1000, device=device), work)
        assert peak == 4 * (1_000_000 + 999_000)


def test_attention_is_counted_without_its_maps() -> None:
    def work(_: nn.Module) -> None:
        query = torch.empty(1, 2, 4096, 8, requires_grad=True)  # 0.26 MB; two maps of 4096 x 4096 would take 134 MB
        F.scaled_dot_product_attention(query, query, query).sum().backward()

    assert 2.6e5 < memory.peak_of(nn.Identity, work) < 5e6


def test_what_looks_at_values_cannot_be_counted() -> None:
    state = torch.get_rng_state()
    assert memory.peak_of(lambda: nn.Linear(2, 3), lambda network: network.weight.sum().item()) == 0
    assert torch.equal(torch.get_rng_state(), state)
