"""A request to stop ends every wait; what does not listen ends with the process."""

import _thread
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from repository import REPOSITORY

from furnace.data.loaders import _stream
from furnace.engine import signals
from furnace.engine.background import Background
from furnace.engine.signals import Stopped, StopRequest, end_helpers, heeded, resubmit_on_signal
from furnace.prediction.predict import _ahead

pytestmark = pytest.mark.usefixtures("signals_heard")
FOREVER = 3600


class StandingStill:
    """Samples of which the first comes; the second one is read from a disk that stands still."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        if index:
            time.sleep(FOREVER)
        return index + 1


def wait_for_a_batch(_: Path) -> None:
    list(_stream(StandingStill(), None, workers=2, pin_memory=False))


def read_a_batch(_: Path) -> None:
    list(_stream(StandingStill(), None, workers=0, pin_memory=False))


def wait_for_a_stopped_worker(_: Path) -> None:
    items = _stream(StandingStill(), None, workers=1, pin_memory=False)
    next(items)
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGSTOP)
    next(items)


def wait_for_a_picture_to_be_written(folder: Path) -> None:
    with Background() as background:
        background.do(RELEASE.wait)


def wait_for_a_picture_to_be_taken_on(folder: Path) -> None:
    with Background() as background:
        for _ in range(9):
            background.do(RELEASE.wait)


def wait_for_what_is_read_ahead(folder: Path) -> None:
    list(_ahead(iter(RELEASE.wait, None)))


def wait_for_a_lock(folder: Path) -> None:
    with open(folder / "lock", "w") as held, open(folder / "lock", "w") as wanted:
        fcntl.flock(held, fcntl.LOCK_EX)
        fcntl.flock(wanted, fcntl.LOCK_EX)


def open_what_nobody_writes(folder: Path) -> None:
    os.mkfifo(folder / "image.png")
    (folder / "image.png").read_bytes()


def wait_for_a_command(folder: Path) -> None:
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(["sleep", str(FOREVER)], timeout=FOREVER, check=False)


RELEASE = threading.Event()  # lets threads end that a request has left behind
WAITS = [
    wait_for_a_batch,
    read_a_batch,
    wait_for_a_stopped_worker,
    wait_for_a_picture_to_be_written,
    wait_for_a_picture_to_be_taken_on,
    wait_for_what_is_read_ahead,
    wait_for_a_lock,
    open_what_nobody_writes,
    wait_for_a_command,
]


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    RELEASE.clear()
    yield
    RELEASE.set()
    end_helpers()


def soon(number: int) -> None:
    threading.Timer(0.3, os.kill, [os.getpid(), number]).start()


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("in_training", [True, False])
def test_a_request_ends_the_wait(wait: Callable[[Path], None], in_training: bool, tmp_path: Path) -> None:
    """In training it raises Stopped, so that the run is saved; where there is nothing to save, the command ends."""
    begun = time.monotonic()
    soon(signal.SIGHUP)
    if in_training:
        with StopRequest() as stop:
            try:
                with stop.ending_waits():
                    wait(tmp_path)
                pytest.fail("nothing ended the wait")
            except Stopped:
                end_helpers()  # as the trainer does
    else:
        with pytest.raises(SystemExit) as left, resubmit_on_signal():
            wait(tmp_path)
        assert left.value.code == 75
    end_helpers()
    assert time.monotonic() - begun < 30 and not multiprocessing.active_children()


class AskedWhileFreed:
    """A signal comes within its finalizer, where Python drops what is raised."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_request_that_python_drops_ends_the_wait_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "INSISTING", 0.1)
    with StopRequest() as stop:
        with pytest.raises(Stopped), stop.ending_waits():
            AskedWhileFreed()
            assert stop.signal == signal.SIGINT
            RELEASE.wait(60)
        assert not RELEASE.is_set()
        time.sleep(0.3)  # between two waits nothing is raised, and what insisted was no second SIGINT


def test_items_come_until_a_request(tmp_path: Path) -> None:
    with StopRequest() as stop:
        assert list(stop.until_asked(range(9), 3)) == [0, 1, 2]
        items = stop.until_asked(range(3), 3)
        assert next(items) == 0
        os.kill(os.getpid(), signal.SIGTERM)  # between two waits it is only noticed
        assert stop.signal == signal.SIGTERM
        with pytest.raises(Stopped):
            next(items)


def test_one_of_several_processes_stays_with_the_others_for_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[tuple] = []
    monkeypatch.setattr(signals, "end_within", lambda *arguments: ends.append(arguments))
    with StopRequest(alone=False) as stop:
        for _ in range(2):
            with stop.ending_waits():
                os.kill(os.getpid(), signal.SIGTERM)
        assert stop
        ((seconds, status, words, left),) = ends
        assert seconds < 30 and status == 75  # torchrun would kill it then
        assert "asked to stop (SIGTERM), but" in words and not left.is_set()
    assert left.is_set()


@pytest.mark.parametrize("listening", [lambda: StopRequest(), resubmit_on_signal])
def test_an_ignored_hangup_stays_ignored(listening: Callable) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with listening():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN and signal.SIGHUP not in heeded()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert set(heeded()) == {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP}


@pytest.mark.parametrize("reaction", [signal.SIG_DFL, None])
def test_helpers_that_do_not_listen_are_killed_and_not_taken_for_crashed(reaction: signal.Handlers | None) -> None:
    helper = multiprocessing.get_context("fork").Process(target=time.sleep, args=[FOREVER], daemon=True)
    helper.start()

    def crash(*_: object) -> None:  # it is also called when the helper stops, and says nothing then
        if os.waitid(os.P_PID, helper.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            raise RuntimeError("DataLoader worker is killed by signal: Killed")

    before = signal.signal(signal.SIGCHLD, crash if reaction is None else reaction)
    try:
        os.kill(helper.pid, signal.SIGSTOP)
        end_helpers()
        assert helper.exitcode == -signal.SIGKILL
        assert signal.getsignal(signal.SIGCHLD) == (crash if reaction is None else reaction)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_helpers_end_while_the_interpreter_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to = []
    monkeypatch.setattr(signal, "signal", lambda _, handler: set_to.append(handler))  # returns None, as it does then
    end_helpers()
    assert set_to == [signal.SIG_DFL]


def python(code: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


THREAD = """
import concurrent.futures, os, signal, time
from furnace.engine import signals
signals.LEAVING = 0.3
pool = concurrent.futures.ThreadPoolExecutor()
def command():
    pool.submit(time.sleep, 3600)
    {end}
signals.end_surely(command)
"""


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("return 0", 0),
        ("raise SystemExit(2)", 2),
        ("raise ValueError", 1),
        ("os.kill(os.getpid(), signal.SIGINT); pool.shutdown()", 130),
    ],
)
def test_a_thread_that_stands_still_keeps_no_process_alive(end: str, status: int) -> None:
    process = python(THREAD.format(end=end))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_once_a_command_is_done_no_signal_changes_its_status(name: str) -> None:
    """It comes while the interpreter ends."""
    code = f"""
import atexit, os, signal
from furnace.engine.signals import end_surely
atexit.register(lambda: os.kill(os.getpid(), signal.{name}))
end_surely(lambda: 75)
"""
    output, errors = (process := python(code)).communicate(timeout=60)
    assert (process.returncode, output, errors) == (75, "", "")


def test_the_last_words_are_said_and_helpers_end() -> None:
    code = """
import multiprocessing, time
from furnace.engine.signals import end_within
helper = multiprocessing.get_context("fork").Process(target=time.sleep, args=[3600], daemon=True)
helper.start()
end_within(0.3, 75, "asked to stop")
time.sleep(3600)
"""
    output, errors = (process := python(code)).communicate(timeout=60)  # at the end of all that write there
    assert (process.returncode, output, errors) == (75, "", "error: asked to stop\n")


def test_the_thread_that_ends_the_process_has_begun_before_the_interpreter_may_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread that begins while the interpreter ends crashes it: status -11 in place of the command's own."""
    start, begun, left = _thread.start_new_thread, threading.Event(), threading.Event()

    def start_late(function: Callable[[], None], arguments: tuple) -> int:
        def late() -> None:
            time.sleep(0.2)  # other processes have the cores
            begun.set()
            function()

        return start(late, arguments)

    monkeypatch.setattr(_thread, "start_new_thread", start_late)
    signals.end_within(FOREVER, 1, unless=left)
    assert begun.is_set()
    left.set()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_helper_ends_with_its_parent(how: signal.Signals) -> None:
    code = """
import os, time
from furnace.engine.signals import leave_to_parent
if os.fork() == 0:
    leave_to_parent()
    print("ready", flush=True)
time.sleep(3600)
"""
    with python(code) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(how)
        assert process.communicate(timeout=60) == ("", "")  # the helper has let go of the pipe, too
