"""Which file each process is reading: what a worker crashes on is known to the process that started it."""

import mmap
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from furnace.errors import InputError

SLOTS, SLOT = 1024, 4096  # processes at once, bytes for each
_board = mmap.mmap(-1, SLOTS * SLOT)  # shared with forked processes; pages that nobody writes to take no memory


def note(path: Path) -> None:
    """Says what this process is about to read."""
    pid = os.getpid()
    text = f"{pid} {path}".encode(errors="surrogateescape")[: SLOT - 1] + b"\0"
    start = pid % SLOTS * SLOT
    _board[start : start + len(text)] = text


def noted(pid: int) -> str | None:
    """The file that a process read last."""
    start = pid % SLOTS * SLOT
    text = _board[start : start + SLOT].split(b"\0", 1)[0].decode(errors="surrogateescape")
    owner, _, path = text.partition(" ")
    return path if owner == str(pid) else None


@contextmanager
def crashes_named() -> Iterator[None]:
    """Turns the end of a loading worker into an InputError with the file that it was reading.

    A DataLoader raises RuntimeError for it, in whatever the main thread is doing.
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
