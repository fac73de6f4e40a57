"""How processes end, and what is said then."""

import logging
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from repository import REPOSITORY
from running import IN_TWO_PROCESSES, start

from furnace.engine import launch, torchrun

pytestmark = pytest.mark.xdist_group("several processes")


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        ([(0.0, 0, -15), (1.0, 1, -9)], 137),
        ([(0.0, 1, 1), (30.1, 0, -9)], 1),  # torchrun's own kill
        ([(0.0, 1, 1), (0.1, 0, -15)], 1),
        ([(0.0, 1, 1), (0.2, 0, 2)], 2),
        ([(0.0, 1, -11), (0.1, 0, 1)], 139),
        ([(0.0, 0, -15)], 143),
        ([(0.0, 0, -6), (0.1, 1, 1)], 1),  # NCCL has ended the first one, because the other had failed elsewhere
        ([(0.0, 0, -6), (0.1, 1, -9)], 137),
        ([(0.0, 0, -6), (0.1, 1, -15)], 134),
    ],
)
def test_one_status_for_all_processes(ends: list, status: int, capsys: pytest.CaptureFixture) -> None:
    assert torchrun._status(ends) == status
    assert ("was ended by SIG" in capsys.readouterr().err) == (status in (134, 137, 139))


def test_the_command_that_follows_holds_no_device_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library may have opened it for every program that takes this one's place."""
    device = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(device, True)
    begun: list[list[str]] = []
    monkeypatch.setattr(Path, "iterdir", lambda _: map(Path, ["0", "1", "2", str(device), "4000"]))
    monkeypatch.setattr(launch.os, "execv", lambda _, words: begun.append(words[1:]))
    launch.go_on_with(["eval", "."])
    assert begun == [["-m", "furnace", "eval", "."]] and not os.get_inheritable(device)
    assert all(map(os.get_inheritable, (1, 2)))
    os.close(device)


def test_torchrun_says_nothing_of_its_own(capfd: pytest.CaptureFixture) -> None:
    torchrun._silence()
    for name in ("agent.server.api", "multiprocessing.api", "rendezvous.dynamic_rendezvous"):
        logging.getLogger(f"torch.distributed.elastic.{name}").error("waiting on exit barrier")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("job", [0, 1, 19_999, 20_000, 49_999, 123_456_789])
def test_the_port_of_a_slurm_job_is_not_one_of_outgoing_connections(job: int) -> None:
    """Those are 32768 and above; below 1024, only the administrator's programs may listen."""
    script = (REPOSITORY / "scripts/train.slurm").read_text()
    (line,) = [line for line in script.splitlines() if line.startswith("MASTER_PORT=")]
    command = ["bash", "-c", f"{line}\necho $MASTER_PORT"]
    environment = {**os.environ, "SLURM_JOB_ID": str(job)}
    assert 1024 <= int(subprocess.check_output(command, env=environment, text=True)) < 32768


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def wait_until_somebody_listens(port: int) -> None:
    limit = time.monotonic() + 120
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < limit
            time.sleep(0.1)


def test_a_signal_ends_the_wait_for_other_machines() -> None:
    """Within a library, where Python's handlers do not run."""
    others = {"NNODES": "2", "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    waiting = {}
    for number in (signal.SIGUSR1, signal.SIGINT, signal.SIGTERM):
        port = free_port()
        waiting[number] = port, start(*IN_TWO_PROCESSES, "train", "exp", **others, MASTER_PORT=str(port))
    for number, (port, process) in waiting.items():
        wait_until_somebody_listens(port)
        os.kill(process.pid, number)
        output, _ = process.communicate(timeout=60)
        if number == signal.SIGINT:
            assert process.returncode == -number and not output
        else:  # SIGUSR1 becomes SIGTERM, which torchrun listens to once it has processes
            assert (process.returncode, output) == (75, "stopped (SIGTERM); start again to go on\n")
