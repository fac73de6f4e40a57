"""Writes files that appear whole or not at all, and claims folders for one process."""

import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from furnace.errors import InputError


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Lets `write` fill a temporary file beside `path`, forces it to disk and renames it into place.

    Raises:
        InputError: the folder cannot be written or is full; whatever stood at `path` stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
    finally:
        with suppress(OSError):  # nothing to remove if a file stands in the place of the folder
            temporary.unlink()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an OSError within this context into an InputError that says why `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}; free space, or choose another OUTPUT_PATH or folder"
        ) from None


def remove_leftovers(folder: Path, names: str) -> None:
    """Removes the temporary files that killed processes left in `folder`.

    Args:
        folder: where to look; not below it.
        names: a pattern of the names that the whole files would have had, such as `*.pth`.
    """
    for path in folder.glob(f".{names}.*.tmp"):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    write_atomically(path, lambda file: file.write(text.encode("utf-8")))


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
    write_text(folder / ".writable", "")
    (folder / ".writable").unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def claim(path: Path) -> TextIO:
    """Locks the file `path` against other processes on any machine; it is made if it is missing.

    Returns:
        The open file. The lock lasts until it is closed or this process ends.

    Raises:
        InputError: another process holds the lock, or the file cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # forked workers do not inherit it, unlike flock's
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise InputError(
                f"another process uses {path.parent}: {file.read().strip() or 'unknown'}; "
                "wait for its end, or choose another OUTPUT_PATH"
            ) from None
        except OSError:
            return file  # this file system has no locks
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
    return file
