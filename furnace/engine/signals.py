"""Signals that ask a run to end: they are noticed at once and obeyed between two iterations."""

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from furnace.errors import EXIT_RESUBMIT

ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # schedulers send SIGUSR1 before they take a machine away


class StopRequest:
    """Is true once this process was asked to stop.

    It listens within a `with` block; after the block, signals do what they did before. The first signal only makes it
    true. A second SIGINT comes from somebody who will not wait, and raises KeyboardInterrupt.

    Attributes:
        signal: the last signal that asked, None before there was one.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}  # the handlers outside of the block

    def __bool__(self) -> bool:
        return self.signal is not None

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._notice) for number in ASKING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _notice(self, number: int, _: FrameType | None) -> None:
        if self and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)


@contextmanager
def resubmit_on_signal() -> Iterator[None]:
    """Within this context, SIGTERM and SIGUSR1 end the process with the exit status that asks to start it again.

    It is for work that has nothing to save.
    """

    def leave(number: int, _: FrameType | None) -> None:
        print(f"stopped ({signal.Signals(number).name}); start again to go on", flush=True)
        raise SystemExit(EXIT_RESUBMIT)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_with_parent() -> None:
    """Sends this process SIGTERM when its parent ends.

    It is for processes of torchrun, which cannot end them if it is killed itself.
    """

    def watch(parent: int) -> None:
        with os.fdopen(parent) as process:
            select.select([process], [], [])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, args=[os.pidfd_open(os.getppid())], daemon=True).start()


def leave_to_parent() -> None:
    """Lets the parent alone end this process: signals that are sent to all processes of a run do not stop it.

    It is for helper processes, such as loading workers.
    """
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    threading.Thread(target=_end_when_parent_asks, daemon=True).start()


def _end_when_parent_asks() -> None:
    """Waits for a SIGTERM of the parent, which sends it to its helpers also when an error ends the parent itself."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)
