"""Signals that ask a run to end: noticed at once, obeyed between two iterations."""

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from furnace.errors import EXIT_RESUBMIT

ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # SIGUSR1: what schedulers send before they take a machine


class StopRequest:
    """Whether this process was asked to stop. A context: it listens inside, and ignores nothing afterwards.

    The first signal only makes it true; a second SIGINT, from somebody who will not wait, is KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __bool__(self) -> bool:
        return self.signal is not None

    def __enter__(self) -> "StopRequest":
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
    """Lets SIGTERM and SIGUSR1 end what has nothing to save; the exit status says that it can be started again."""

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
    """For processes of torchrun: when it is killed, and cannot end them, they are asked to stop as by SIGTERM."""

    def watch(parent: int) -> None:
        with os.fdopen(parent) as process:
            select.select([process], [], [])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, args=[os.pidfd_open(os.getppid())], daemon=True).start()


def leave_to_parent() -> None:
    """For helper processes: whoever started them decides when they end, so that signals to all do not stop them."""
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    threading.Thread(target=_end_when_parent_asks, daemon=True).start()


def _end_when_parent_asks() -> None:
    """SIGTERM is what a parent ends its helpers with, also when an error ends the parent itself."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)
