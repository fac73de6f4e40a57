"""Signals that ask a run to end: they are noticed at once, and obeyed in every wait and between two iterations.

Every wait of the program ends by a time limit, by the failure of what it waits for, or by such a signal. What a signal
cannot reach, because it waits within a library or the system, is ended by `end_within` with the whole process.
"""

import _thread  # threading's own start takes a lock that the code which a signal interrupts may hold
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

from furnace.engine.place import speaks_for_machine
from furnace.errors import EXIT_FAILED, EXIT_RESUBMIT, say

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

# Schedulers send SIGUSR1 before they take a machine away, and a terminal SIGHUP when it is closed.
ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
PATIENCE = 25.0  # seconds; torchrun kills processes that do not end within 30
LEAVING = 10.0  # seconds that a process may take to end once its work is done or given up
INSISTING = 3.0  # seconds after which a wait that a request has not ended is ended again
AGAIN = signal.SIGURG  # the signal that ends it then; a process that does not listen ignores it
EXIT_INTERRUPTED = 128 + signal.SIGINT
GO_ON = "start again to go on"
STARTER = "FURNACE_STARTER"  # in the environment: the process number of the parent that a command is to end with
Item = TypeVar("Item")


class Stopped(BaseException):
    """A request to stop has ended a wait. It is no Exception, so that nobody takes it for a failure of the wait."""


class StopRequest:
    """Is true once this process was asked to stop.

    It listens within a `with` block; after the block, signals do what they did before. The first signal only makes it
    true, unless it comes within `ending_waits`. A second SIGINT comes from somebody who will not wait, and raises
    KeyboardInterrupt.

    Args:
        alone: whether this process is the only one of its run. One of several does not leave a wait, because the
            others would wait for it; they agree on the end after an iteration. If they do not within PATIENCE, the
            process is ended.

    Attributes:
        signal: the last signal that asked, None before there was one.
    """

    def __init__(self, alone: bool = True) -> None:
        self.signal: signal.Signals | None = None
        self._alone = alone
        self._in_wait = False
        self._before: dict[signal.Signals, Any] = {}  # the handlers outside of the block
        self._left = threading.Event()

    def __bool__(self) -> bool:
        return self.signal is not None

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._notice) for number in heeded()}
        self._before[AGAIN] = signal.signal(AGAIN, lambda *_: self._end_wait())
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def ending_waits(self) -> Iterator[None]:
        """Within this context a request raises Stopped, at once if there was one before.

        It is for waits, and for work that a later start does again.
        """
        self._in_wait = self._alone
        try:
            if self and self._in_wait:
                raise Stopped
            yield
        finally:
            self._in_wait = False

    def end_soon(self) -> None:
        """Ends this process if it does not leave the block soon: all is saved, and what it uses may not let it go."""
        end_within(LEAVING, EXIT_RESUBMIT, unless=self._left)

    def until_asked(self, items: Iterable[Item], count: int) -> Iterator[Item]:
        """Yields `count` items; a request also ends the wait for the next one, by raising Stopped."""
        iterator = iter(items)
        try:
            for _ in range(count):
                with self.ending_waits():
                    item = next(iterator)
                yield item
        finally:
            end_helpers()  # what they read ahead is of no use any more, and some may wait for a disk

    def _notice(self, number: int, _: FrameType | None) -> None:
        if self and number == signal.SIGINT:
            end_within(LEAVING, EXIT_INTERRUPTED, unless=self._left)
            end_helpers()
            raise KeyboardInterrupt
        if not self and not self._alone:
            words = f"asked to stop ({signal.Signals(number).name}), but the processes have not come to the end of an "
            words += f"iteration within {PATIENCE:g} s; what was saved before stays, start again to go on"
            end_within(PATIENCE, EXIT_RESUBMIT, words, self._left)
        self.signal = signal.Signals(number)
        self._end_wait()

    def _end_wait(self) -> None:
        """Raises Stopped within a wait, again and again: Python drops it in finalizers and while the process forks."""
        if not (self and self._in_wait):
            return
        waiting = threading.get_ident()

        def insist() -> None:
            time.sleep(INSISTING)
            if self._in_wait:
                signal.pthread_kill(waiting, AGAIN)

        _thread.start_new_thread(insist, ())
        raise Stopped


def heeded() -> list[signal.Signals]:
    """Returns the signals that ask this process to stop; SIGHUP is not one of them where it is ignored (nohup)."""
    return [each for each in ASKING if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]


def say_stopped(number: int, remedy: str = GO_ON) -> None:
    """Prints which signal has ended a command that had nothing to save."""
    print(f"stopped ({signal.Signals(number).name}); {remedy}", flush=True)


@contextmanager
def resubmit_on_signal(remedy: str = GO_ON) -> Iterator[None]:
    """Within this context, a request to stop ends the process with the exit status that asks to start it again.

    It is for work that has nothing to save, and for whole commands, as a decorator: while they import what they need,
    and read lists. SIGINT is left to Python.

    Args:
        remedy: what is said of a new start.
    """
    left = threading.Event()

    def leave(number: int, _: FrameType | None) -> None:
        if speaks_for_machine():
            say_stopped(number, remedy)
        end_within(LEAVING, EXIT_RESUBMIT, unless=left)
        end_helpers()
        raise SystemExit(EXIT_RESUBMIT)

    before = {number: signal.signal(number, leave) for number in heeded() if number != signal.SIGINT}
    try:
        yield
    finally:
        left.set()
        for number, handler in before.items():
            signal.signal(number, handler)


def end_surely(command: Callable[[], int]) -> NoReturn:
    """Runs a command and ends this process with its status, soon after it is done or interrupted.

    What would keep the process alive then, such as threads and helper processes, is not waited for longer than LEAVING.
    No signal changes the status any more once the command is done.
    """
    if starter := os.environ.pop(STARTER, ""):  # taken out, because it is not meant for what this process starts
        stop_with_parent(int(starter))

    def interrupt(_: int, __: FrameType | None) -> None:
        end_within(LEAVING, EXIT_INTERRUPTED)
        end_helpers()
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
        signal.signal(signal.SIGINT, interrupt)
    status: object = EXIT_FAILED
    try:
        status = command()
    except SystemExit as end:
        status = end.code
    finally:
        for number in ASKING:
            signal.signal(number, signal.SIG_IGN)
        end_within(LEAVING, status if isinstance(status, int) else EXIT_FAILED)
    sys.exit(status)


def end_within(seconds: float, status: int, last_words: str = "", unless: threading.Event | None = None) -> None:
    """Ends this process after some seconds, whatever it waits for then, such as threads, children, or a library.

    Args:
        last_words: an error to say then.
        unless: keeps the process alive if it is set by then.
    """
    kept_alive = unless or threading.Event()
    begun = _thread.allocate_lock()
    begun.acquire()

    def end() -> None:
        begun.release()
        if not kept_alive.wait(seconds):
            if last_words:
                say(last_words)
            for helper in _helpers():
                helper.kill()
            os._exit(status)

    _thread.start_new_thread(end, ())
    # The interpreter may be about to end. It frees what a thread needs to begin, and one that begins later crashes it.
    begun.acquire()


def end_helpers() -> None:
    """Kills the processes that work for this one, such as loading workers: some may not listen, or wait for a disk."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a DataLoader's handler would take the ends for crashes
    helpers = _helpers()
    for helper in helpers:
        helper.kill()
    for helper in helpers:
        helper.join(1)
        for path in Path("/dev/shm").glob(f"torch_{helper.pid}_*"):  # it was about to hand this over
            path.unlink(missing_ok=True)
    if before is not None:  # while the interpreter ends, there are no handlers any more
        signal.signal(signal.SIGCHLD, before)


def _helpers() -> "list[BaseProcess]":
    import multiprocessing  # here, because showing help must stay quick

    return multiprocessing.active_children()


def end_at_once() -> None:
    """Lets a request to stop end this process also while it waits within a library, where no handler of Python's runs.

    It is for processes of torchrun, which answers for them. SIGINT is left to Python.
    """
    for number in heeded():
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)


def stop_with_parent(parent: int | None = None) -> None:
    """Sends this process SIGTERM when its parent ends, and ends it if it does not stop.

    It is for processes of torchrun, and for the runs of a sweep: neither can end them if it is killed itself.

    Args:
        parent: the parent's process number, where it may have ended already; by default that of today's parent.
    """

    def watch(parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        end_within(PATIENCE + LEAVING, EXIT_RESUBMIT)
        main = threading.main_thread().ident
        assert main is not None
        # By os.kill, this thread might receive it, and the wait of the main thread would go on.
        signal.pthread_kill(main, signal.SIGTERM)

    threading.Thread(target=watch, args=[parent or os.getppid()], daemon=True).start()


def leave_to_parent() -> None:
    """Lets the parent alone end this process: signals that are sent to all processes of a run do not stop it.

    It is for helper processes, such as loading workers.
    """
    for number in ASKING:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    threading.Thread(target=_end_with_parent, args=[os.getppid()], daemon=True).start()


def _end_with_parent(parent: int) -> None:
    """Waits for a SIGTERM of the parent, which sends it to its helpers also when an error ends it, or for its end."""
    while os.getppid() == parent:
        asked = signal.sigtimedwait([signal.SIGTERM], 1)
        if asked and asked.si_pid == parent:
            break
    os._exit(0)
