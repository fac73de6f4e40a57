"""Files that appear whole or not at all."""

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


def write_atomically(path: Path, write: Callable[[BinaryIO], None]) -> None:
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
        with suppress(OSError):  # where a file stands in the folder's place there is nothing to remove
            temporary.unlink()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system says against writing `path`, as an InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}; free space, or choose another OUTPUT_PATH or folder"
        ) from None


def remove_leftovers(folder: Path, names: str) -> None:
    """Removes what killed processes left of files called `names`, a pattern: half of each, under another name."""
    for path in folder.glob(f".{names}.*.tmp"):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    write_atomically(path, lambda file: file.write(text.encode("utf-8")))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Writes lines of UTF-8 text atomically."""
    write_atomically(path, lambda file: file.writelines(f"{line}\n".encode() for line in lines))


def json_text(record: Any) -> str:
    """JSON that people can read too; escaped is only what is no text, such as file names in other encodings."""
    return json.dumps(record, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace").decode() + "\n"


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_writable(folder: Path) -> None:
    """Makes `folder` and tries to write in it; InputError if that fails."""
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
    """Locks `path`, which is made where it is missing, against other processes on any machine, until this one ends.

    Raises:
        InputError: another one holds it, or it cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock's, forked loading workers do not hold it
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise InputError(
                f"another process uses {path.parent}: {file.read().strip() or 'unknown'}; "
                "wait for its end, or choose another OUTPUT_PATH"
            ) from None
        except OSError:
            return file  # a file system without locks
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
    return file
