"""GPUs that are well, busy, too old, hidden, or not taken by a run; torch's and the driver's answers are made up."""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from furnace.doctor import cards, driver
from furnace.doctor.finding import NOTE, OK, PROBLEM, Finding
from furnace.doctor.wanted import Wanted

WHEEL = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
VERSION = "NVRM version: NVIDIA UNIX {}  {}  Tue Mar  5 22:23:56 UTC 2024\nGCC version:  gcc version 12.3.0\n"
GB = 10**9


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Makes a machine with these GPUs, of which torch is built with CUDA 13.0 and sees `visible`."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(driver, "newest_cuda", lambda: "12.4")
    monkeypatch.setattr(driver, "programs", dict)
    for name, folder in (("PROC", "proc"), ("DEVICES", "dev"), ("BUS", "bus")):
        (tmp_path / folder).mkdir()
        monkeypatch.setattr(driver, name, tmp_path / folder)

    def put(
        visible: int,
        free: Sequence[int] = (80 * GB,),
        capability: tuple[int, int] = (9, 0),
        init: Callable = lambda: None,
    ) -> None:
        (tmp_path / "proc/version").write_text(VERSION.format("x86_64 Kernel Module", "550.54.15"))
        for number in range(max(1, visible)):
            (tmp_path / f"dev/nvidia{number}").touch()
        (tmp_path / "dev/nvidiactl").touch()
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "init", init)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: WHEEL)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"Card {number}")
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (free[number % len(free)], 80 * GB))
        monkeypatch.setattr(torch.cuda, "can_device_access_peer", lambda one, other: (one, other) != (0, 2))
        monkeypatch.setattr(torch.cuda.nccl, "version", lambda: (2, 27, 3))
        monkeypatch.setattr(
            torch.cuda,
            "get_device_properties",
            lambda number: SimpleNamespace(
                name=f"Card {number}", major=capability[0], minor=capability[1], uuid=f"id-{number}"
            ),
        )

    return put


def look(gpus: int | str = "all", **more: object) -> list[Finding]:
    return list(cards.gpus(Wanted(gpus, **more)))


def test_gpus_that_are_well(machine: Callable) -> None:
    machine(2)
    first, second, together = look()
    assert [first.state, second.state, together.state] == [OK] * 3
    assert first.found == "Card 0, 80.0 GB of 80.0 GB are free, capability 9.0, bf16" and second.subject == "GPU 1"
    assert together.found == "driver 550.54.15, CUDA 13.0, NCCL 2.27.3, all reach each other's memory"
    assert first.figures["memory_free"] == 80 * GB and together.figures["gpus"] == 2
    assert look(2) == [first, second, together]


def test_more_gpus_are_wanted_than_there_are(machine: Callable) -> None:
    machine(2)
    first, *others = look(4)
    assert first == Finding(PROBLEM, "GPUs", "NGPUS: 4 asked for, 2 visible", "lower it, or set NGPUS=0 to use the CPU")
    assert len(others) == 3


def test_gpus_that_do_not_reach_each_other(machine: Callable) -> None:
    machine(3)
    assert look()[-1].state == NOTE and "; 0-2 do not reach each other's memory" in look()[-1].found


@pytest.mark.parametrize(("free", "state"), [(77, OK), (40, NOTE), (0, PROBLEM)])
def test_gpus_that_others_use(machine: Callable, monkeypatch: pytest.MonkeyPatch, free: int, state: str) -> None:
    monkeypatch.setattr(driver, "programs", lambda: {"GPU-id-0": ["python (process 7, 4012 MiB)"]})
    machine(1, [free * GB])
    assert look()[0].state == state
    assert ("used by python (process 7, 4012 MiB)" in look()[0].found) == (state != OK)


@pytest.mark.parametrize(
    ("wanted", "used"),
    [
        ({}, 3),
        ({"gpus": 1}, 1),
        ({"gpus": 5}, 3),
        ({"is_named": True, "batch_size": 4}, 2),  # all: a batch of 4 has no three equal shares
        ({"is_named": True, "batch_size": 6}, 3),
        ({"is_named": True, "batch_size": 4, "gpus": 1}, 1),
        ({"is_named": True, "batch_size": 4, "gpus": 3}, 3),  # which is refused elsewhere
    ],
)
def test_a_gpu_that_is_full_stops_the_runs_that_take_it(
    machine: Callable, capfd: pytest.CaptureFixture, wanted: dict, used: int
) -> None:
    machine(3, [80 * GB, 0, 0])
    each = [finding for finding in look(**wanted) if finding.subject != "GPUs"]
    assert [finding.state for finding in each] == [OK, *[PROBLEM] * (used - 1), *[NOTE] * (3 - used)]
    for finding in each[used:]:
        assert finding.found.endswith("too little (the run does not take it)") and not finding.remedy
    assert cards.gpus_used(Wanted(**wanted)) == used and look(**wanted)[-1].figures["used"] == used
    assert capfd.readouterr() == ("", "")  # that fewer are taken is said by the experiment's own examination


def test_gpus_that_the_run_does_not_take_need_no_way_to_each_other(machine: Callable) -> None:
    machine(3)
    assert look(2)[-1].state == OK and look(2)[-1].found.endswith("all reach each other's memory")
    assert look(1)[-1].found == "driver 550.54.15, CUDA 13.0, NCCL 2.27.3"


def test_an_old_card(machine: Callable) -> None:
    machine(1, capability=(7, 5))
    assert look()[0].state == OK and "no bf16: precision=auto computes in fp32" in look()[0].found
    machine(1, capability=(3, 7))
    assert look()[0].state == PROBLEM
    assert look()[0].found == f"GPU 0 (Card 0) is of sm_37, torch {torch.__version__} is built for {', '.join(WHEEL)}"
    assert look()[0].remedy.startswith("install a torch that is built for it, choose other GPUs")


def test_a_gpu_that_cannot_be_used(machine: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCUDA kernel errors might")

    machine(1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", refuse)
    assert look()[0].state == PROBLEM
    assert look()[0].found == "Card 0: CUDA error: CUDA-capable device(s) is/are busy or unavailable"


def too_old() -> None:
    raise RuntimeError(
        "The NVIDIA driver on your system is too old (found version 12040). Please update your GPU driver by "
        "downloading and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx"
    )


@pytest.mark.parametrize("visible", [2, 0])
def test_a_driver_that_is_too_old(machine: Callable, visible: int) -> None:
    machine(visible, init=too_old)
    assert look() == [
        Finding(
            PROBLEM,
            "GPUs",
            f"{visible} GPUs are visible, torch {torch.__version__} cannot use them: The NVIDIA driver on your system "
            "is too old (found version 12040) (driver 550.54.15 for CUDA 12.4, torch is built for CUDA 13.0)",
            "update the driver, install a torch that is built for it, or set NGPUS=0",
        )
    ]
    assert [finding.state for finding in look(0)] == [OK]


def test_a_torch_without_cuda(machine: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(0)
    monkeypatch.setattr(torch.version, "cuda", None)
    (found,) = look()
    assert found.state == PROBLEM and found.remedy.startswith("pip install --force-reinstall torch torchvision")
    assert found.found == (
        f"torch {torch.__version__} is built without CUDA beside an NVIDIA GPU (driver 550.54.15 for CUDA 12.4): runs "
        "train on the CPU"
    )
    (tmp_path / "dev/nvidia0").unlink()
    (found,) = look()
    assert found.state == NOTE and found.found.endswith("without CUDA, there is no NVIDIA GPU: runs train on the CPU")
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert look()[0].state == NOTE and "ROCm 6.4" in look()[0].found


def test_gpus_that_are_hidden(machine: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(0)
    assert look()[0].state == PROBLEM and "finds no GPU" in look()[0].found  # the driver starts, and shows none
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert look()[0].state == NOTE and look()[0].found.startswith("CUDA_VISIBLE_DEVICES=7 leaves none: ")
    (tmp_path / "dev/nvidia0").unlink()
    for number, (maker, kind) in enumerate((("0x10de", "0x030200"), ("0x10de", "0x040300"), ("0x1a03", "0x030000"))):
        (tmp_path / f"bus/{number}").mkdir()
        (tmp_path / f"bus/{number}/vendor").write_text(f"{maker}\n")
        (tmp_path / f"bus/{number}/class").write_text(f"{kind}\n")
    (found,) = look()  # not passed into a container, or without a driver
    assert found.state == NOTE and found.found.startswith(
        "of the machine's 1 NVIDIA GPUs none is given to this process"
    )
    assert "docker run --gpus all" in found.remedy


def test_parts_of_a_gpu(machine: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1,MIG-2")
    assert "parts of a GPU (MIG)" in look()[1].found and look()[1].state == NOTE


@pytest.mark.parametrize(
    ("kind", "version"), [("x86_64 Kernel Module", "470.82.01"), ("Open Kernel Module for x86_64", "570.86.15")]
)
def test_the_version_of_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, version: str) -> None:
    monkeypatch.setattr(driver, "PROC", tmp_path)
    assert driver.driver_version() == ""
    (tmp_path / "version").write_text(VERSION.format(kind, version))
    assert driver.driver_version() == version


def test_the_cuda_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def library(_: str) -> SimpleNamespace:
        def ask(number) -> int:
            number._obj.value = 12040
            return 0

        return SimpleNamespace(cuDriverGetVersion=ask)

    monkeypatch.setattr(driver.ctypes, "CDLL", library)
    assert driver.newest_cuda() == "12.4"

    def missing(_: str) -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(driver.ctypes, "CDLL", missing)
    assert driver.newest_cuda() == ""


def test_programs_on_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert driver.programs() == {}
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\necho 'GPU-a, 7, 4012 MiB, /usr/bin/python3'\necho 'GPU-a, 8, [N/A], a, b'\n")
    command.chmod(0o755)
    assert driver.programs() == {"GPU-a": ["python3 (process 7, 4012 MiB)", "a, b (process 8, [N/A])"]}

    def silent(*_: object, timeout: float, **__: object) -> None:
        raise subprocess.TimeoutExpired("nvidia-smi", timeout)

    monkeypatch.setattr(subprocess, "run", silent)
    assert driver.programs() == {}
