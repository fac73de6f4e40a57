"""Work for a thread of its own, so that who has it done need not wait for compression and disk."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

WAITING = 4  # pieces of work that may be undone


class Background:
    """Does work in order. A context: all is done, or the first error raised, when it is left."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._undone: deque[Future] = deque()

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._thread.shutdown(cancel_futures=kind is not None)
        while kind is None and self._undone:
            self._undone.popleft().result()

    def do(self, work: Callable[..., object], *arguments: object) -> None:
        """Takes `work(*arguments)`, and waits while too much is undone; raises what earlier work raised."""
        if len(self._undone) == WAITING:
            self._undone.popleft().result()
        self._undone.append(self._thread.submit(work, *arguments))
