"""Work on many files at once, in processes; the results come back in order."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any, TypeVar

import cv2

from furnace.errors import InputError

Result = TypeVar("Result")
CHUNK = 32  # files a process takes at once
_function: Callable[[int], Any] | None = None  # inherited by the processes, so that nothing it holds is copied


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def map_numbers(function: Callable[[int], Result], count: int, processes: int) -> Iterator[Result]:
    """function(0), ..., function(count - 1), computed in forked processes; here, if `processes` is 1.

    Raises:
        InputError: that of the first number whose function raised it, or if a process was killed.
    """
    processes = min(processes, -(-count // CHUNK))  # all are forked at once
    if processes <= 1:
        yield from map(function, range(count))
        return
    chunks = (range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))
    pool = ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("fork"), initializer=_begin, initargs=(function,)
    )
    try:
        waiting: deque[Future] = deque()
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
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(function: Callable[[int], Any]) -> None:
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who started this decides
    cv2.setNumThreads(0)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Without it a process whose parent is killed would wait for work for ever."""
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _work(numbers: range) -> list[Any]:
    return [_function(number) for number in numbers]
