"""The end of one process ends the others, also while they wait where no signal reaches them, as in CUDA.

The wait is a lock of C that is never given back: like CUDA's, it lets other threads run, and goes on after signals.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from repository import REPOSITORY

from furnace.engine import lifeline

# Machines have two processes each. The board is a folder.
PROCESS = """
import ctypes, os, signal, sys, time
from pathlib import Path
from furnace.engine import lifeline
from furnace.engine.place import Place
from furnace.errors import say

class Board:
    def set(self, key, value):
        Path(f"{key}.tmp").write_text(value)
        os.replace(f"{key}.tmp", key)

    def get(self, key):
        while not Path(key).exists():
            time.sleep(0.01)
        return Path(key).read_bytes()

def wait_as_cuda_does():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(4))
    lock = ctypes.create_string_buffer(64)
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(lock)

rank, size, what = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
lifeline.GRACE = 1.0
line = lifeline.hold_lifeline(Board(), Place(rank, size, rank % 2, 2, True), "127.0.0.1", 60)
print("joined", flush=True)
if what == "wait":
    wait_as_cuda_does()
elif what == "fail":
    say("a bad image")
    os._exit(2)
elif what == "say":  # a reason of its own, said while the end of another is known
    time.sleep(0.3)
    say("lost the others")
    os._exit(3)
elif what == "leave":
    line.leave()
    os._exit(0)
elif what == "fork" and os.fork() == 0:  # a loading worker that outlives its parent
    print("forked", os.getpid(), flush=True)
    time.sleep(60)
time.sleep(60)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., list[subprocess.Popen]]]:
    """Starts a process for each of the words that say what it does once all have met."""
    started: list[subprocess.Popen] = []

    def begin(*deeds: str) -> list[subprocess.Popen]:
        for rank, what in enumerate(deeds):
            command = [sys.executable, "-c", PROCESS, str(rank), str(len(deeds)), what]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
            started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes))
        return started

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def joined(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        assert process.stdout.readline() == "joined\n"


def has_ended(process: subprocess.Popen) -> tuple[int, str]:
    """Its status and what it said, once it has ended; that must be soon."""
    output, errors = process.communicate(timeout=20)
    assert output == ""
    return process.returncode, errors


def line_about(rank: int, size: int) -> str:
    return (
        f"error: process {rank} of {size} has ended, or its machine does not answer: see what is said of it; "
        "what was saved stays, start again to go on\n"
    )


@pytest.mark.parametrize("killed", [0, 1, 2])
def test_a_killed_process_ends_those_that_wait_in_a_library(start: Callable, killed: int) -> None:
    processes = start("wait", "wait", "wait")
    joined(processes)
    begun = time.monotonic()
    processes[killed].kill()
    ends = [has_ended(process) for process in processes]
    assert time.monotonic() - begun < 15
    assert ends.pop(killed)[0] == -signal.SIGKILL
    said = [line_about(killed, 3), "", line_about(killed, 3)]  # by one process of each machine
    assert ends == [(1, said[rank]) for rank in range(3) if rank != killed]


def test_a_signal_does_not_reach_that_wait(start: Callable) -> None:
    """Otherwise the tests above would show nothing."""
    (process,) = start("wait")
    joined([process])
    time.sleep(0.5)
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)


def test_a_process_that_fails_by_itself_says_why_and_the_others_end(start: Callable) -> None:
    processes = start("wait", "fail", "say")
    joined(processes)
    assert [has_ended(process) for process in processes] == [
        (1, line_about(1, 3)),
        (2, "error: a bad image\n"),
        (3, "error: lost the others\n"),
    ]


def test_processes_that_are_done_are_not_missed(start: Callable) -> None:
    processes = start("leave", "leave", "leave", "leave")
    joined(processes)
    assert [has_ended(process) for process in processes] == [(0, "")] * 4


def test_who_is_not_done_stays_when_another_is(start: Callable) -> None:
    processes = start("wait", "leave", "wait")
    joined(processes)
    assert has_ended(processes[1]) == (0, "")
    with pytest.raises(subprocess.TimeoutExpired):
        processes[0].wait(2)
    assert processes[2].poll() is None


def test_a_loading_worker_does_not_hide_the_end_of_its_process(start: Callable) -> None:
    processes = start("wait", "fork")
    joined(processes)
    worker = int(processes[1].stdout.readline().removeprefix("forked "))
    try:
        processes[1].kill()
        assert has_ended(processes[0]) == (1, line_about(1, 2))
        os.kill(worker, 0)
    finally:
        os.kill(worker, signal.SIGKILL)


def test_strangers_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a scanner of ports, while the first process waits for the others."""
    monkeypatch.setattr(lifeline, "GREETING_LIMIT", 0.1)
    with lifeline._server(2) as server:
        address = server.getsockname()[:2]
        clients = [socket.create_connection(address) for _ in range(4)]
        clients[0].shutdown(socket.SHUT_WR)
        clients[1].sendall(lifeline._greeting("1234 start's", 1))
        clients[3].sendall(lifeline._greeting("this start's", 1))  # after one that says nothing
        found = lifeline._gather(server, "this start's", 2)
        assert found[1].getpeername() == clients[3].getsockname()
        assert [client.recv(1) for client in clients[:3]] == [b""] * 3
        for each in (*clients, *found.values()):
            each.close()


def test_the_system_looks_after_a_machine_that_is_gone() -> None:
    """Within half the time that processes wait for each other."""
    for patience, least, most in ((600, 100, 130), (12, 4, 9)):
        with socket.socket() as connection:
            lifeline._notice_silence(connection, min(lifeline.SILENCE, patience / 2))
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            idle, interval, count = (
                connection.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
            assert least <= idle + interval * count <= most
