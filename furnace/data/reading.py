"""Keeps which file each process reads, so that when a worker crashes, its parent can name the file.

Each process writes the path into its slot of a board in shared memory, because a worker that has crashed cannot say
anything any more.
"""

import mmap
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from furnace.errors import InputError

SLOTS, SLOT = 1024, 4096  # how many processes may read at once, and the bytes that each has
_board = mmap.mmap(-1, SLOTS * SLOT)  # forked processes share it; pages that nobody writes to take no memory


def note(path: Path) -> None:
    """Writes down the file that this process is about to read."""
    pid = os.getpid()
    text = f"{pid} {path}".encode(errors="surrogateescape")[: SLOT - 1] + b"\0"
    start = pid % SLOTS * SLOT
    _board[start : start + len(text)] = text


def noted(pid: int) -> str | None:
    """Returns the file that the process `pid` read last; None if it wrote down none."""
    start = pid % SLOTS * SLOT
    text = _board[start : start + SLOT].split(b"\0", 1)[0].decode(errors="surrogateescape")
    owner, _, path = text.partition(" ")
    return path if owner == str(pid) else None


@contextmanager
def crashes_named() -> Iterator[None]:
    """Turns the crash of a worker that loads data into an InputError that names the file it was reading.

    A DataLoader reports a crash as a RuntimeError, which it raises in the midst of whatever the main thread is doing.
    """
    try:
        yield
    except RuntimeError as error:
        crash = re.match(r"DataLoader worker \(pid(?:\(s\))? (\d+).*?\) (.*)", str(error))
        if crash is None:
            raise
        file = noted(int(crash[1])) or "its first file"
        raise InputError(
            f"a worker that loads data {crash[2].rstrip('. ')}, while at {file}; "
            "if it was killed for its memory, lower num_workers, else leave the file out of its list"
        ) from error
