"""The disk of results and that of temporary files: how much is free, and whether they can be written."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from furnace.doctor.finding import NOTE, OK, PROBLEM, Finding
from furnace.doctor.wanted import Wanted, existing, try_to_write
from furnace.engine.memory import said
from furnace.errors import because

FULL = 100e6  # bytes; with less, no run ends well
LITTLE = 10e9  # bytes that several runs of a recipe keep as snapshots
LONGEST_SOCKET = 107  # bytes of a socket's path
NAME_OF_SOCKET = len("/pymp-12345678/listener-12345678")  # as loading workers have one below the temporary folder


def disk(wanted: Wanted) -> Iterator[Finding]:
    """The disk that runs write to."""
    yield _disk(existing(wanted.results))


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
    try:
        try_to_write(folder)
    except OSError as error:
        return Finding(PROBLEM, "disk", f"{folder} cannot be written: {because(error).partition('; ')[0]}", elsewhere)
    system = os.statvfs(folder)
    free, size = system.f_bavail * system.f_frsize, system.f_blocks * system.f_frsize
    words = f"{said(free)} of {said(size)} are free where {folder} lies"
    figures = {"folder": str(folder), "free": free, "size": size}
    if size and free < FULL:  # some file systems tell nothing, and say 0 of 0
        return Finding(PROBLEM, "disk", f"{words}: it is full", f"free space, or {elsewhere}", figures)
    if system.f_files and not system.f_favail:
        return Finding(
            PROBLEM, "disk", f"{words}, but it holds as many files as it can", f"remove files, or {elsewhere}", figures
        )
    if size and free < LITTLE:
        words += ": few runs of a recipe with ResNet-50 fit, whose snapshots take some 3 GB"
        return Finding(NOTE, "disk", words, f"free space, or lower keep_snapshots, or {elsewhere}", figures)
    return Finding(OK, "disk", words, figures=figures)


def _free(folder: Path) -> int:
    system = os.statvfs(folder)
    return system.f_bavail * system.f_frsize
