"""Keeps which file each process reads, so that when a worker crashes, its parent can name the file.

Each process writes the path into its slot of a board in shared memory, because a worker that has crashed cannot say
anything any more. A second board has why a worker cannot send what it has read, a third one the file that it has mapped
into memory.
"""

import mmap
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from furnace.errors import InputError

SLOTS, SLOT = 1024, 4096  # how many processes may read at once, and the bytes that each has
FILES, FAILURES, MAPPED = range(3)  # the boards
_boards = mmap.mmap(-1, 3 * SLOTS * SLOT)  # forked processes share it; pages that nobody writes to take no memory

DYING = 1.0  # seconds within which the end of a worker that has lost its connections is reported

# What helps where workers cannot hand over what they have read, by what the error says.
SHARED_MEMORY = "enlarge /dev/shm (docker run --shm-size=8g), or lower num_workers"
OPEN_FILES = "allow more open files (ulimit -n 4096), or lower num_workers"
REMEDIES = {  # the first that fits counts
    "open files": OPEN_FILES,
    "ancdata": OPEN_FILES,
    "Pin memory thread": OPEN_FILES,
    "shared memory": SHARED_MEMORY,
    "No space left": SHARED_MEMORY,
    "AF_UNIX path too long": "set TMPDIR to a shorter path, such as /tmp",
    "new thread": "allow more processes (ulimit -u, or the container's limit), or lower num_workers",
    "temporarily unavailable": "allow more processes (ulimit -u, or the container's limit), or lower num_workers",
    "allocate memory": "lower num_workers",
}


def note_file(path: Path) -> None:
    """Writes down the file that this process is about to read."""
    _write(FILES, str(path))


def note_mapped(path: Path) -> None:
    """Writes down the file that this process has mapped into memory: it may crash when it looks at that memory."""
    _write(MAPPED, str(path))


def note_failure(error: BaseException) -> None:
    """Writes down why this process cannot send what it has read."""
    _write(FAILURES, str(error))


def noted(pid: int) -> str | None:
    """Returns the file that the process `pid` read last; None if it wrote down none."""
    return _written(FILES, pid)


def _write(board: int, text: str) -> None:
    pid = os.getpid()
    line = f"{pid} {text}".encode(errors="surrogateescape")[: SLOT - 1] + b"\0"
    start = (board * SLOTS + pid % SLOTS) * SLOT
    _boards[start : start + len(line)] = line


def _written(board: int, pid: int) -> str | None:
    start = (board * SLOTS + pid % SLOTS) * SLOT
    line = _boards[start : start + SLOT].split(b"\0", 1)[0].decode(errors="surrogateescape")
    owner, _, text = line.partition(" ")
    return text if owner == str(pid) else None


@contextmanager
def crashes_named() -> Iterator[None]:
    """Turns the crash of a worker that loads data into an InputError that names the file it was reading.

    A DataLoader reports a crash as a RuntimeError, which it raises in the midst of whatever the main thread is doing.
    """
    try:
        yield
    except RuntimeError as error:
        crash = _crash(error.__cause__) or _crash(error)  # a wait for a batch says less than what has ended it
        if crash is None:
            raise
        pids = [int(pid) for pid in crash[1].split(",")]
        if reasons := list(filter(None, (_written(FAILURES, pid) for pid in pids))):
            raise _not_handed_over(reasons[0]) from error
        if "Bus error" in crash[2]:
            raise _bus_error(_written(MAPPED, pids[0])) from error
        file = noted(pids[0]) or "its first file"
        raise InputError(
            f"a worker that loads data {crash[2]}, while at {file}; "
            "if it was killed for its memory, lower num_workers, else leave the file out of its list"
        ) from error


def _bus_error(mapped: str | None) -> InputError:
    """Returns the error for a worker that met memory with nothing behind it; `mapped` is the file it mapped last."""
    cause, remedy = "no room in /dev/shm", SHARED_MEMORY
    if mapped:
        cause += f", or a file became shorter, or its disk failed, while it was read: {mapped} or the one before it"
        remedy += ", or replace that file"
    return InputError(f"a worker that loads data is killed by a bus error: {cause}; {remedy}")


def _crash(error: BaseException | None) -> re.Match | None:
    return re.match(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) ([^.]*)", str(error))


@contextmanager
def handed_over() -> Iterator[None]:
    """Turns a failure to receive what workers have read into an InputError that says what helps.

    It is for waits for workers alone, because errors of the system may come from anywhere. A worker that crashes
    closes its connections before its end is reported; the report then takes the place of the lost connection.
    """
    try:
        yield
    except (OSError, EOFError, RuntimeError) as error:
        raised_in_worker = str(error).startswith("Caught ")  # by the code that makes a batch, and handed over well
        if raised_in_worker or (isinstance(error, RuntimeError) and not any(sign in str(error) for sign in REMEDIES)):
            raise
        time.sleep(DYING)
        raise _not_handed_over(str(error) or type(error).__name__) from error


def _not_handed_over(reason: str) -> InputError:
    remedy = next((REMEDIES[sign] for sign in REMEDIES if sign in reason), "lower num_workers; 0 does without workers")
    return InputError(f"workers cannot hand over what they have read: {reason.splitlines()[0].rstrip('. ')}; {remedy}")
