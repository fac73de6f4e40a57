"""Work in a thread of its own, so that its caller need not wait for compression and for the disk."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

WAITING = 4  # pieces of work that may be unfinished before `do` waits


class Background:
    """Does pieces of work one after the other, in a thread, within a `with` block.

    The end of the block waits for all work and raises the first error of it. If the block itself raises, work that has
    not begun is dropped.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._undone: deque[Future] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        # A request to stop, which is no Exception, does not wait for the piece that is being worked on.
        waits = kind is None or issubclass(kind, Exception)
        self._thread.shutdown(wait=waits, cancel_futures=kind is not None)
        if kind is None:
            self.finish()

    def do(self, work: Callable[..., object], *arguments: object) -> None:
        """Takes on `work(*arguments)`.

        While too much work is unfinished, this waits for the oldest piece, and raises its error if it failed.
        """
        if len(self._undone) == WAITING:
            self._undone.popleft().result()
        self._undone.append(self._thread.submit(work, *arguments))

    def finish(self) -> None:
        """Waits for all work that was taken on, which also gives its memory back; raises the first error of it."""
        while self._undone:
            self._undone.popleft().result()
