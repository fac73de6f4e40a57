"""Starts the processes of a run through torchrun, on one machine or on several."""

import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import get_args_parser, run

from furnace.engine.place import environment_integer
from furnace.engine.signals import PATIENCE, end_within, heeded, say_stopped
from furnace.errors import EXIT_BAD_INPUT, EXIT_RESUBMIT, InputError, say

HERE = "127.0.0.1"  # one machine talks to itself by this address: its own name may stand for none


def launch(arguments: Sequence[str], processes_here: int, timeout_minutes: float) -> int:
    """Runs `python -m furnace` with `arguments` in `processes_here` processes on this machine, through torchrun.

    The environment variables NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT describe the other machines. With one
    machine, torchrun picks a free port by itself. A signal that asks for an end is passed on to the processes, which
    then have half a minute to save; before there are processes, it ends this one at once, SIGINT as where nobody
    listens, the others with EXIT_RESUBMIT.

    Returns:
        The exit status of the process that failed first, 0 if none did, or EXIT_RESUBMIT after such a signal.

    Raises:
        InputError: the other machines are not described, or do not come within `timeout_minutes`.
    """
    nodes = environment_integer("NNODES", 1, low=1)
    options = [f"--nproc-per-node={processes_here}", f"--nnodes={nodes}"]
    options += alone() if nodes == 1 else _rendezvous(nodes, timeout_minutes)
    options += ["-m", "furnace", *arguments]
    _silence()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torchrun would set the same, with a warning
    try:
        with _obeying_signals():
            run(get_args_parser().parse_args(options))  # type: ignore[no-untyped-call]  # torch does not annotate it
    except ChildFailedError as error:
        failures = error.failures.items()
        return _status([(failure.timestamp, rank, failure.exitcode) for rank, failure in failures])
    except SignalException:
        return EXIT_RESUBMIT
    except dist.DistError as error:
        raise InputError(
            f"the {nodes} machines did not find each other: {str(error).splitlines()[0].rstrip('.')}; start the script "
            f"on each of them, with NODE_RANK 0 to {nodes - 1}, or set timeout_minutes above {timeout_minutes:g}"
        ) from None
    return 0


def _silence() -> None:
    """Silences torchrun, because each process itself says what happened.

    Some of its loggers have levels of their own. One of them tells with a traceback that the first machine was done
    before the others.
    """
    for name in ("torch.distributed.elastic", *logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _status(ends: Sequence[tuple[float, int, int]]) -> int:
    """Returns one exit status for all processes, and says it if one of them was killed.

    Bad input of any process comes first. A process that somebody killed comes next, because the other failures follow
    from it: torchrun ends the remaining processes with SIGTERM, and after PATIENCE with SIGKILL, and NCCL ends those
    that wait for another with SIGABRT.

    Args:
        ends: for each process that failed, the time in seconds, its rank and its exit code.
    """
    first = min(ends)[0]
    if any(code == EXIT_BAD_INPUT for _, _, code in ends):
        return EXIT_BAD_INPUT
    failed = next((code for _, _, code in sorted(ends) if code > 0), None)
    for moment, rank, code in sorted(ends, key=lambda end: (end[2] == -signal.SIGABRT, end)):
        by_torchrun = code == -signal.SIGTERM or (code == -signal.SIGKILL and moment > first + PATIENCE)
        by_nccl = code == -signal.SIGABRT and failed is not None
        if code < 0 and not by_torchrun and not by_nccl:
            say(
                f"process {rank} was ended by {signal.Signals(-code).name}{', perhaps for its memory' * (code == -9)}; "
                "what was saved stays, start again to go on"
            )
            return 128 - code  # the exit status that shells give it
    return 128 + signal.SIGTERM if failed is None else failed


@contextmanager
def _obeying_signals() -> Iterator[None]:
    """Lets signals end this process also while torchrun waits within a library, where no handler of Python's runs."""
    ignored = [] if signal.SIGHUP in heeded() else [signal.SIGHUP]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ignored)  # torchrun would listen to it again
    # Until torchrun has handlers: it has none for SIGUSR1.
    before = {number: signal.signal(number, _leave_to_thread) for number in heeded()}
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    heard, told = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(heard, True)
    left = threading.Event()
    wakeup = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    threading.Thread(target=_pass_on, args=[heard, left], daemon=True).start()
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(wakeup)
        os.close(told)  # which ends the thread
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _leave_to_thread(*_: object) -> None:
    """Does nothing: what hears of signals by the wakeup descriptor answers them."""


def _pass_on(heard: int, left: threading.Event) -> None:
    """Makes SIGTERM of SIGUSR1, because torchrun passes that on; ends this process if torchrun does not.

    While torchrun has no handlers, there are no processes that it could pass anything on to.
    """
    with open(heard, "rb", buffering=0) as signals:
        while number := signals.read(1):
            if number[0] == signal.SIGUSR1:
                os.kill(os.getpid(), signal.SIGTERM)
            elif signal.getsignal(number[0]) is _leave_to_thread:
                say_stopped(number[0])
                os._exit(EXIT_RESUBMIT)
            elif number[0] in heeded():
                end_within(2 * PATIENCE, EXIT_RESUBMIT, unless=left)


def alone() -> list[str]:
    """Returns torchrun's options for one machine, those of its --standalone but for the address."""
    return ["--rdzv-backend=c10d", f"--rdzv-endpoint={HERE}:0", f"--rdzv-id={uuid.uuid4()}", f"--local-addr={HERE}"]


def _rendezvous(nodes: int, timeout_minutes: float) -> list[str]:
    """Waits until the first machine is there, and returns torchrun's options for several machines."""
    for name, meaning in (("MASTER_ADDR", "the first machine's address"), ("NODE_RANK", "0 on it, then 1, 2, ...")):
        if not os.environ.get(name):
            raise InputError(f"{name}: not set, but NNODES is {nodes}; set it to {meaning}")
    rank, address, port = (
        environment_integer("NODE_RANK", 0),
        os.environ["MASTER_ADDR"],
        environment_integer("MASTER_PORT", 29500),
    )
    if rank >= nodes:
        raise InputError(f"NODE_RANK: expected 0 to {nodes - 1}, because NNODES is {nodes}, found {rank}; set it")
    if rank > 0:
        _wait_for(address, port, timeout_minutes)
    seconds = max(1, round(60 * timeout_minutes))
    return [
        f"--node-rank={rank}",
        f"--master-addr={address}",
        f"--master-port={port}",
        f"--rdzv-conf=timeout={seconds}",
    ]


def _wait_for(address: str, port: int, timeout_minutes: float) -> None:
    """Waits until the first machine listens; an error of torchrun about it would be longer and less clear."""
    limit = time.monotonic() + 60 * timeout_minutes
    while True:
        try:
            socket.create_connection((address, port), timeout=5).close()
            return
        except OSError as error:
            reason = error.strerror or error
        if time.monotonic() > limit:
            raise InputError(
                f"nobody answers at MASTER_ADDR={address}, MASTER_PORT={port}: {reason}; start the script with "
                f"NODE_RANK=0 there, open the port, or set timeout_minutes above {timeout_minutes:g}"
            )
        time.sleep(0.5)
