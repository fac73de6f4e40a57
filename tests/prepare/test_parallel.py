"""Work in processes: results in order, the first error, and nobody left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from repository import REPOSITORY

from furnace.errors import InputError
from furnace.prepare import parallel
from furnace.prepare.parallel import CHUNK, map_numbers

WAITING = """
import multiprocessing, os, time
from furnace.prepare.parallel import CHUNK, map_numbers

both_work = multiprocessing.get_context("fork").Barrier(2)

def work(number):
    if number % CHUNK == 0:
        both_work.wait()
        os.write(1, b"%d\\n" % os.getpid())
        time.sleep(0 if number == 0 else 300)

for _ in map_numbers(work, 2 * CHUNK, 2):
    pass
"""


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, CHUNK, 3 * CHUNK + 1])
def test_results_come_in_order(processes: int, count: int) -> None:
    assert list(map_numbers(lambda number: number * number, count, processes)) == [n * n for n in range(count)]


@pytest.mark.parametrize("missing", ["multiprocessing.synchronize.SemLock.__init__", "os.fork"])
def test_where_no_processes_can_be_started_this_one_does_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, missing: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(missing, refuse)
    assert list(map_numbers(lambda number: number, 100, 4)) == list(range(100))
    assert capsys.readouterr().err == (
        "note: this process reads all files by itself, because others cannot be started: "
        "Resource temporarily unavailable\n"
    )


def test_the_first_error_comes_back() -> None:
    def work(number: int) -> int:
        if number in (CHUNK + 1, 2 * CHUNK):
            raise InputError(f"number {number}")
        return number

    with pytest.raises(InputError, match=f"number {CHUNK + 1}$"):
        list(map_numbers(work, 3 * CHUNK, 2))


@pytest.mark.parametrize(("count", "started"), [(CHUNK, 0), (2 * CHUNK, 2), (5 * CHUNK - 1, 5)])
def test_no_more_processes_than_work(count: int, started: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = parallel.ProcessPoolExecutor
    monkeypatch.setattr(
        parallel, "ProcessPoolExecutor", lambda processes, **more: asked.append(processes) or real(processes, **more)
    )
    assert len(list(map_numbers(lambda number: number, count, 10**6))) == count
    assert asked == ([started] if started else [])


def test_a_killed_process_is_said() -> None:
    with pytest.raises(InputError, match="a process was killed"):
        list(map_numbers(lambda _: os.kill(os.getpid(), signal.SIGKILL), 2 * CHUNK, 2))


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_processes_end_with_the_one_that_started_them(sent: int) -> None:
    """Both, the one that works and the one that waits for work."""
    started = subprocess.Popen([sys.executable, "-c", WAITING], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    children = [int(started.stdout.readline()) for _ in range(2)]
    assert len(set(children)) == 2 and all(map(is_running, children))
    started.send_signal(sent)
    started.wait()
    deadline = time.monotonic() + 20
    while any(map(is_running, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [child for child in children if is_running(child)]
    for child in left:
        os.kill(child, signal.SIGKILL)
    assert left == []
