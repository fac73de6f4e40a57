"""Work on many files at once, shared out over processes. The results come back in the order of the files."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any, Protocol, TypeVar

import cv2

from furnace.engine.signals import end_helpers
from furnace.errors import InputError, in_short, say_note

Result = TypeVar("Result")
CHUNK = 32  # files that a process takes at once
_function: Callable[[int], Any]  # set in each forked process, which inherits it: nothing that it holds is pickled


class Progress(Protocol):
    """A progress bar: it passes on every result that it is given, and shows how many of `total` have come."""

    def __call__(self, steps: Iterable[Result], /, total: int) -> Iterable[Result]:
        """Returns `steps` unchanged, to be gone through once."""


def map_numbers(function: Callable[[int], Result], count: int, processes: int) -> Iterator[Result]:
    """Yields function(0), ..., function(count - 1), computed in forked processes.

    Args:
        processes: with 1, or where `count` is too small to share out, this process does all of it.

    Raises:
        InputError: the function raised it (then it is the error of the first such number), or a process was killed.
    """
    processes = min(processes, -(-count // CHUNK))  # the pool forks all of them at once, also those without work
    pool = _start(function, processes) if processes > 1 else None
    if pool is None:
        yield from map(function, range(count))
        return
    chunks = (range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))
    try:
        waiting: deque[Future[list[Result]]] = deque()
        for chunk in chunks:
            waiting.append(pool.submit(_work, chunk))
            if len(waiting) >= 4 * processes:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool:
        raise InputError(
            "a process was killed while reading files, perhaps for its memory; run it again with --workers 1"
        ) from None
    except KeyboardInterrupt:
        end_helpers()  # one may wait for a disk
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start(function: Callable[[int], Any], processes: int) -> ProcessPoolExecutor | None:
    """Starts the processes. Where that is impossible, as where a system has no semaphores, it says so: None."""
    context, pool = multiprocessing.get_context("fork"), None
    try:
        pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(function,))
        pool.submit(_work, range(0))  # the first work starts all processes
        return pool
    except OSError as error:
        say_note(f"this process reads all files by itself, because others cannot be started: {in_short(error)}")
        if pool:
            pool.shutdown(wait=False)
        return None


def _begin(function: Callable[[int], Any]) -> None:
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent decides what it means
    cv2.setNumThreads(0)  # there is one process for each core already
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when its parent ends; without it, a killed parent would leave it waiting for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # only forked processes come here
    connection.wait([parent.sentinel])
    os._exit(1)


def _work(numbers: range) -> list[Any]:
    return [_function(number) for number in numbers]
