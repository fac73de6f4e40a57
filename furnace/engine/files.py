"""Writes files that appear whole or not at all, and locks files against other processes."""

import errno
import fcntl
import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

from furnace.errors import InputError, because, say_note

# What a system answers that cannot do this at all. What only makes files safer then counts as done.
UNSUPPORTED = frozenset((errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM))
LOCK_PATIENCE = 60  # seconds; a table is locked for a moment only, so that whoever holds it longer has been stopped
LONGEST_NAME = 255  # bytes of a file's name, on all common file systems


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Lets `write` fill a temporary file beside `path`, forces it to disk and renames it into place.

    Raises:
        InputError: the folder cannot be written or is full; whatever stood at `path` stays.
    """
    temporary = path.with_name(temporary_name(path.name))
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                _sync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
    finally:
        with suppress(OSError):  # nothing to remove if a file stands in the place of the folder
            temporary.unlink()


def temporary_name(name: str, owner: str = "") -> str:
    """Returns what the file `name` is called until it is whole; where that would be too long, by a digest.

    Args:
        name: without its folder.
        owner: what stands in the name, by default the process's number.
    """
    ending = f".{owner or os.getpid()}.tmp"
    if len(os.fsencode(temporary := f".{name}{ending}")) <= LONGEST_NAME:
        return temporary
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()}{ending}"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an OSError within this context into an InputError that says why `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {path}: {because(error)}") from error


def remove_leftovers(folder: Path, names: str) -> None:
    """Removes the temporary files that killed processes left in `folder`.

    Args:
        folder: where to look; not below it.
        names: a pattern of the names that the whole files would have had, such as `*.pth`.
    """
    for path in folder.glob(f".{names}.*.tmp"):
        with suppress(OSError):  # they do no harm
            path.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically. What is no text is escaped, such as names of files in other encodings."""
    write_atomically(path, lambda file: file.write(text.encode("utf-8", "backslashreplace")))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Writes lines of UTF-8 text atomically."""
    write_atomically(path, lambda file: file.writelines(f"{line}\n".encode() for line in lines))


def json_text(record: Any) -> str:
    """Returns JSON that people can read too. Only what is no text is escaped, such as file names in other encodings."""
    return json.dumps(record, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace").decode() + "\n"


def sha256(path: Path) -> str:
    """Returns the hexadecimal digest of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_writable(folder: Path) -> None:
    """Makes `folder` and tries to write in it; raises InputError if that fails."""
    probe = folder / ".writable"
    write_text(probe, "")
    with writing(probe):
        probe.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` survive a power cut, where its file system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # a folder that may be written, but not read
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def claim(path: Path) -> FileIO | None:
    """Locks the file `path` against other processes on any machine; it is made if it is missing.

    Returns:
        The open file. The lock lasts until it is closed or this process ends. None where it cannot be locked, which is
        said: then nothing keeps another process away.

    Raises:
        InputError: another process holds the lock, or the folder cannot be made.
    """
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    file = _locked(path, patience=0)
    if isinstance(file, OSError):
        say_note(f"{path} cannot be locked ({file.strerror or file}): start nothing else that writes to {path.parent}")
        return None
    if file is None:
        raise InputError(
            f"another process uses {path.parent}: {_holder(path)}; wait for its end, or choose another OUTPUT_PATH"
        )
    with suppress(OSError):  # who holds the lock is only told to others
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return file


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock on the file `path` within this context. Where that cannot be had, this is said, and the work done.

    It is for work that takes a moment, so that whoever holds the lock for LOCK_PATIENCE is not waited for any longer.
    """
    file = _locked(path, LOCK_PATIENCE)
    if file is None or isinstance(file, OSError):
        reason = f"held by {_holder(path)}" if file is None else file.strerror or file
        say_note(f"{path} cannot be locked ({reason}): what another process writes at this moment may be lost")
        yield
        return
    with file:
        yield


def _locked(path: Path, patience: float) -> FileIO | OSError | None:
    """Returns the file `path`, open and locked; the error if this is impossible; None if another process holds it.

    The lock is one of lockf, which forked workers do not inherit, unlike those of flock. The file has no buffer: what a
    full disk does not take would stay in it, and fail again when the file is closed.
    """
    end = time.monotonic() + patience
    try:
        file = open(path, "ab+", buffering=0)
    except OSError as error:
        return error
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError as error:
            held = error.errno in (errno.EACCES, errno.EAGAIN)
            if not held or time.monotonic() >= end:
                file.close()
                return None if held else error
        time.sleep(0.02)


def _holder(path: Path) -> str:
    """Returns what the process that holds the lock `path` has written there."""
    with suppress(OSError, ValueError):
        return path.read_text(encoding="utf-8").strip() or "unknown"
    return "unknown"
