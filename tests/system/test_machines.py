"""Two machines: network namespaces of their own, joined by a cable, where the system lets us make them."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import running
from repository import REPOSITORY, copy_experiment

pytestmark = pytest.mark.xdist_group("several processes")
ADDRESSES = ("192.168.213.1", "192.168.213.2")  # above 127: of two processes, gloo's higher address calls the lower one
FIRST = (
    "furnace-first"  # the first machine's own name: for itself it stands for 127.0.1.1, as Debian and Ubuntu have it
)
Start = Callable[..., subprocess.Popen]


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def machines() -> Iterator[list[str]]:
    """The names of two network namespaces that reach each other and nothing else."""
    names = [f"furnace{os.getpid()}_{number}" for number in range(2)]
    cables = [f"fn{os.getpid()}_{number}" for number in range(2)]
    tables = [Path("/etc/netns") / name for name in names]  # what ip lays over files of /etc
    try:
        for table, address in zip(tables, ("127.0.1.1", ADDRESSES[0]), strict=True):
            table.mkdir(parents=True)
            (table / "hosts").write_text(f"127.0.0.1 localhost\n{address} {FIRST}\n")
        for name in names:
            ip(f"netns add {name}")
        ip(f"link add {cables[0]} netns {names[0]} type veth peer name {cables[1]} netns {names[1]}")
        for name, cable, address in zip(names, cables, ADDRESSES, strict=True):
            ip(f"-n {name} addr add {address}/24 dev {cable}")
            ip(f"-n {name} link set {cable} up")
            ip(f"-n {name} link set lo up")
    except (OSError, subprocess.CalledProcessError) as error:
        for name, table in zip(names, tables, strict=True):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
            shutil.rmtree(table, ignore_errors=True)
        pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', error)}")
    yield names
    for name, table in zip(names, tables, strict=True):
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        shutil.rmtree(table, ignore_errors=True)


@pytest.fixture
def start(machines: list[str], tiny: list[str], tmp_path: Path) -> Iterator[Start]:
    """Runs train_ema.sh as one machine of two, with an output folder of its own; nothing lives on after the test."""
    folder = tmp_path / "exp/ensemble teacher+cutmix"
    copy_experiment("exp.voc", folder)
    started: list[subprocess.Popen] = []

    def begin(number: int, **settings: str) -> subprocess.Popen:
        place = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "volna": str(REPOSITORY),
            "NNODES": "2",
            "NODE_RANK": str(number),
            "MASTER_ADDR": ADDRESSES[0],
            "OUTPUT_PATH": str(tmp_path / f"machine{number}"),
            "eval_epochs": "none",
            "timeout_minutes": "1",
        }
        script = ["bash", str(folder / "train_ema.sh")]
        known = dict(pair.split("=", 1) for pair in tiny)
        started.append(
            running.start("ip", "netns", "exec", machines[number], *script, **{**known, **place, **settings})
        )
        return started[-1]

    yield begin
    for name in machines:
        for pid in subprocess.check_output(["ip", "netns", "pids", name], text=True).split():
            os.kill(int(pid), signal.SIGKILL)
    for process in started:
        process.wait()


@pytest.mark.parametrize("address", [ADDRESSES[0], FIRST])
def test_two_machines_train_one_run_and_the_first_writes_it(start: Start, tmp_path: Path, address: str) -> None:
    second = start(1, MASTER_ADDR=address)  # the other order: it waits for the first
    time.sleep(1)
    first = start(0, MASTER_ADDR=address)
    for process in (first, second):
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    with open(tmp_path / "machine0/metrics.csv", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    assert (tmp_path / "machine0/ema_snapshot/ema_branch2_epoch3.pth").is_file()
    assert [path.read_text() for path in (tmp_path / "machine1").glob("*")] == []


def test_a_first_machine_that_nobody_starts(start: Start) -> None:
    output, _ = (process := start(1, timeout_minutes="0.05")).communicate(timeout=60)
    assert process.returncode == 2
    assert f"error: nobody answers at MASTER_ADDR={ADDRESSES[0]}, MASTER_PORT=29500: " in output
    assert "Traceback" not in output


def test_a_second_machine_that_nobody_starts(start: Start) -> None:
    output, _ = (process := start(0, timeout_minutes="0.05")).communicate(timeout=60)
    assert process.returncode == 2
    assert "error: the 2 machines did not find each other: " in output and "Traceback" not in output


@pytest.mark.parametrize("what", ["machine", "cable"])
def test_when_one_is_gone_the_other_ends_and_says_so(
    start: Start, machines: list[str], tmp_path: Path, what: str
) -> None:
    settings = {"nepochs": "10000", "snapshot_minutes": "0.001", "timeout_minutes": "0.2"}
    first, second = start(0, **settings), start(1, **settings)
    running.wait_for(tmp_path / "machine0/resume.pth", first)
    if what == "machine":
        for pid in subprocess.check_output(["ip", "netns", "pids", machines[1]], text=True).split():
            os.kill(int(pid), signal.SIGKILL)
    else:
        ip(f"-n {machines[1]} link set fn{os.getpid()}_1 down")
    try:
        for process in (first, second)[: 1 if what == "machine" else 2]:
            output, _ = process.communicate(timeout=60)
            assert process.returncode not in (0, 2, 75), output
            assert " has lost the others: " in output or ", or its machine does not answer: " in output
            assert "start again to go on" in output
            assert "Traceback" not in output
    finally:
        if what == "cable":
            ip(f"-n {machines[1]} link set fn{os.getpid()}_1 up")
