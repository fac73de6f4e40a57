"""A limit of the time that Python code may compute for."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

AGAIN = 1.0  # seconds until code that has swallowed the first interruption is interrupted once more


class OutOfTime(BaseException):
    """The time was up. It is no `Exception`, so that code which catches every one of those lets it pass."""


@contextmanager
def computing_limit(seconds: float) -> Iterator[None]:
    """A context in which code is interrupted when this process has computed for some seconds.

    Time in which other programs compute does not count, so that the outcome does not depend on them. Elsewhere than in
    the main thread, which alone can be interrupted, there is no limit.

    Raises:
        OutOfTime: the time was up.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        raise OutOfTime(f"torch was not done after {seconds:g} s")

    before = signal.signal(signal.SIGVTALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds, AGAIN)
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
