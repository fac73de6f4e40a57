"""Loading workers hand over what they read through /dev/shm, which containers make small (Docker: 64 MB)."""

import os
from pathlib import Path

from furnace.engine.memory import said
from furnace.engine.place import find_place
from furnace.errors import InputError

FOLDER = Path("/dev/shm")
AHEAD = 2  # items that each worker has ready at most: the default of torch's DataLoader


def require_shared_memory(sizes: list[int], workers: int) -> None:
    """Raises InputError if /dev/shm cannot hold what loading workers have ready at most.

    Args:
        sizes: the bytes of an item, for each stream that is read at the same time.
        workers: how many workers each stream has in each process.
    """
    needed = bytes_ahead(sizes, workers, find_place().local_size)
    if not needed:
        return
    free = free_bytes()
    if needed > free:
        raise InputError(
            f"{FOLDER} has {said(free)} free, the loading workers need about {said(needed)}; enlarge it (docker run "
            f"--shm-size={-(-needed // 2**30)}g), or lower num_workers to {workers * free // needed} (it is {workers})"
        )


def bytes_ahead(sizes: list[int], workers: int, processes: int) -> int:
    """Returns how many bytes loading workers have ready at most.

    Args:
        sizes: the bytes of an item, for each stream that is read at the same time.
        workers: how many workers each stream has in each process.
        processes: on this machine.
    """
    return AHEAD * workers * sum(sizes) * processes


def free_bytes() -> int:
    """Returns how many bytes are free; raises InputError if there is no shared memory."""
    try:
        system = os.statvfs(FOLDER)
    except OSError as error:
        raise InputError(f"loading workers need {FOLDER}: {error.strerror}; mount it, or set num_workers=0") from None
    return system.f_bavail * system.f_frsize
