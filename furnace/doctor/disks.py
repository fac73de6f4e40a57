"""The disks that a run writes to: how much is free, and whether they can be written."""

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from furnace.doctor.finding import NOTE, OK, PROBLEM, Finding
from furnace.doctor.wanted import Wanted, existing
from furnace.engine.memory import said
from furnace.errors import because

FULL = 100e6  # bytes; with less, no run ends well
LITTLE = 10e9  # bytes that several runs of a recipe keep as snapshots
LONGEST_SOCKET = 107  # bytes of a socket's path
NAME_OF_SOCKET = len("/pymp-12345678/listener-12345678")  # as loading workers have one below the temporary folder


def disks(wanted: Wanted) -> Iterator[Finding]:
    """Every disk that a run writes to."""
    seen = set()
    for folder in wanted.results:
        place = existing(folder)
        if (disk := place.stat().st_dev) not in seen:
            seen.add(disk)
            yield _disk(place)


def temporary_files(_: Wanted) -> Iterator[Finding]:
    """The folder of temporary files, in which loading workers meet."""
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError:
        yield Finding(NOTE, "temporary files", "no folder takes them", "free space in /tmp, or set TMPDIR")
        return
    free = _free(folder)
    words, figures = f"{said(free)} are free in {folder}", {"folder": str(folder), "free": free}
    if len(os.fsencode(folder)) + NAME_OF_SOCKET > LONGEST_SOCKET:
        yield Finding(
            NOTE, "temporary files", f"{folder} is too long a path for sockets of workers", "set TMPDIR=/tmp", figures
        )
    elif free < FULL:
        yield Finding(NOTE, "temporary files", words, "free space there, or set TMPDIR", figures)
    else:
        yield Finding(OK, "temporary files", words, figures=figures)


def _disk(folder: Path) -> Finding:
    elsewhere = "choose another folder (OUTPUT_PATH)"
    if error := _why_not_written(folder):
        return Finding(PROBLEM, "disk", f"{folder} cannot be written: {because(error).partition('; ')[0]}", elsewhere)
    system = os.statvfs(folder)
    free, size = system.f_bavail * system.f_frsize, system.f_blocks * system.f_frsize
    words = f"{said(free)} of {said(size)} are free where {folder} lies"
    figures = {"folder": str(folder), "free": free, "size": size}
    if free < FULL:
        return Finding(PROBLEM, "disk", f"{words}: it is full", f"free space, or {elsewhere}", figures)
    if system.f_files and not system.f_favail:
        return Finding(
            PROBLEM, "disk", f"{words}, but it holds as many files as it can", f"remove files, or {elsewhere}", figures
        )
    if free < LITTLE:
        words += ": few runs of a recipe with ResNet-50 fit, whose snapshots take some 3 GB"
        return Finding(NOTE, "disk", words, f"free space, or lower keep_snapshots, or {elsewhere}", figures)
    return Finding(OK, "disk", words, figures=figures)


def _why_not_written(folder: Path) -> OSError | None:
    """Returns the error of writing into a folder; None if it can be written. The file has no name, so none is left."""
    try:
        descriptor = os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600)
        try:
            os.write(descriptor, b"\n")
        finally:
            os.close(descriptor)
    except OSError as error:
        denied = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
        # Many network file systems have no files without names; then the folder's mode has to tell.
        return error if denied or not os.access(folder, os.W_OK | os.X_OK) else None
    return None


def _free(folder: Path) -> int:
    system = os.statvfs(folder)
    return system.f_bavail * system.f_frsize
