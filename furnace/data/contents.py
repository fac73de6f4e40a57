"""A file's bytes: those of a compressed file are read, those that are pixels already are mapped into memory.

Of a mapped file the system reads what is looked at, a crop's rows for instance, and keeps it for all processes.
"""

import mmap
import os
import re
from pathlib import Path

import numpy as np

from furnace.data.reading import note_file, note_mapped
from furnace.errors import InputError

MAPPED = re.compile(rb"P[56][ \t\n\v\f\r#]")  # PGM and PPM of bytes


def file_content(path: Path, what: str) -> np.ndarray:
    """Returns a file's bytes, uint8.

    Writing into them changes no file. The bytes of a mapped file stand in it, so that they must not be looked at after
    it has become shorter: the system would end this process by the signal SIGBUS.

    Args:
        path: the file.
        what: what an error calls its content, `image` or `label`.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    note_file(path)
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            if MAPPED.match(os.pread(descriptor, 3, 0)) and (content := _mapped(descriptor, path)) is not None:
                return content
            return _read(descriptor)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:  # ValueError: the path holds a zero byte, which no path may
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{what} not readable: {path}: {reason}; add the file or take it out of its list") from None


def is_mapped(content: np.ndarray) -> bool:
    """Whether these bytes are those of a mapped file."""
    return isinstance(getattr(content.base, "obj", None), mmap.mmap)


def _mapped(descriptor: int, path: Path) -> np.ndarray | None:
    """Maps an open file, which may be closed then; returns None where its file system cannot do that."""
    try:
        mapping = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
    except OSError:
        return None
    note_mapped(path)
    return np.frombuffer(mapping, dtype=np.uint8)


def _read(descriptor: int) -> np.ndarray:
    content, read = np.empty(os.fstat(descriptor).st_size, dtype=np.uint8), 0
    # The system reads 2 GiB at once at most; it reads nothing where the file has become shorter meanwhile.
    while read < len(content) and (count := os.readv(descriptor, [content[read:].data])):
        read += count
    return content[:read]
