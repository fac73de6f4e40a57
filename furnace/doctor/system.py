"""What the system lets a process use: cores, memory, shared memory and open files."""

import os
import re
import resource
from collections.abc import Iterator

import torch

from furnace.data.loaders import FILES_OF_WORKER
from furnace.doctor.cards import gpus_used
from furnace.doctor.finding import NOTE, OK, PROBLEM, Finding, of_error
from furnace.doctor.wanted import Wanted
from furnace.engine import memory
from furnace.engine import shared_memory as shared
from furnace.engine.backend import loader_workers
from furnace.engine.machine import cores
from furnace.engine.memory import said
from furnace.errors import InputError

FEW_CORES = 4  # for each GPU; with fewer, decoding images is likely to take longer than a step
LIBRARIES = 1e9  # bytes that a process holds without a network
LITTLE = 4e9  # bytes that a small run takes with its workers
OWN_FILES = 24  # that a process has open besides those of its workers
STREAMS = 2  # of batches, and of a validation's images meanwhile; each has its own workers
PLANES = 17  # bytes of a pixel in a batch: five images of three colours, a label and a mask


def cores_allowed(wanted: Wanted) -> Iterator[Finding]:
    """The cores that this process may use."""
    allowed, gpus = cores(), gpus_used(wanted)
    words = f"{allowed} of the machine's {os.cpu_count()} may be used"
    figures = {"allowed": allowed, "machine": os.cpu_count()}
    if gpus and allowed < FEW_CORES * gpus:
        yield Finding(
            NOTE,
            "cores",
            f"{words}, {allowed / gpus:g} for each GPU: reading images may take longer than a step",
            "allow more (srun --cpus-per-task, docker run --cpus), or prepare the data set with --files decoded",
            figures,
        )
    else:
        yield Finding(OK, "cores", words, figures=figures)


def memory_free(_: Wanted) -> Iterator[Finding]:
    """The memory that this process can take: of the machine, its control groups, and `ulimit -v`."""
    left, swap = memory.free(), _swap()
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    words = f"{said(left)} of {said(size)} are free{f', with {said(swap)} of swap' if swap else ', without swap'}"
    figures = {"free": left, "machine": size, "swap": swap}
    if left < LIBRARIES:
        remedy = "close other programs, or allow more (the job's limit, docker run --memory, ulimit -v)"
        yield Finding(PROBLEM, "memory", f"{words}: too little for any run", remedy, figures)
    elif left < LITTLE:
        yield Finding(NOTE, "memory", f"{words}: enough for small runs alone", "close other programs", figures)
    else:
        yield Finding(OK, "memory", words, figures=figures)
    limit, _hard = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield Finding(
            NOTE,
            "address space",
            f"is limited to {said(limit)}, of which libraries (CUDA first) reserve much more than they use",
            "ulimit -v unlimited",
        )


def shared_memory(wanted: Wanted) -> Iterator[Finding]:
    """Room in /dev/shm, through which loading workers hand over batches."""
    workers = _workers(wanted)
    try:
        free = shared.free_bytes()
        shared.require_shared_memory([PLANES * wanted.pixels], workers)
    except InputError as error:
        yield of_error(PROBLEM if workers else NOTE, "/dev/shm", error)
    else:
        yield Finding(OK, "/dev/shm", f"{said(free)} are free", figures={"free": free})


def open_files(wanted: Wanted) -> Iterator[Finding]:
    """The number of files that a process may have open at once, of which every loading worker takes some."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    workers = _workers(wanted)
    least, needed = (OWN_FILES + streams * FILES_OF_WORKER * workers for streams in (1, STREAMS))
    if limit == resource.RLIM_INFINITY or limit >= needed:
        yield Finding(OK, "open files", f"{_number(limit)} may be open at once", figures={"limit": limit})
        return
    may_be_raised = most == resource.RLIM_INFINITY or most >= needed
    yield Finding(
        PROBLEM if limit < least else NOTE,  # with fewer, no stream of batches starts
        "open files",
        f"{limit} may be open at once, a process with {workers} loading worker{'s' if workers > 1 else ''} needs "
        f"{least} to {needed}",
        f"ulimit -n {_rounded(needed)}{'' if may_be_raised else ' (its hard limit must be raised first)'}, or lower "
        "num_workers",
        {"limit": limit, "least": least, "needed": needed},
    )


def _workers(wanted: Wanted) -> int:
    """Returns how many loading workers a process of the run has.

    Without an experiment one is assumed on a CPU, where num_workers=auto takes none: many runs set another number.
    """
    if isinstance(wanted.num_workers, int):
        return wanted.num_workers
    if gpus := gpus_used(wanted):
        return loader_workers(wanted.num_workers, torch.device("cuda"), gpus)
    return 0 if wanted.is_named else 1


def _swap() -> int:
    """Returns how many bytes of the machine's swap are free."""
    found = re.search(r"^SwapFree:\s+(\d+)", memory.MACHINE.read_text(encoding="utf-8"), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def _number(limit: int) -> str:
    return "any number" if limit == resource.RLIM_INFINITY else str(limit)


def _rounded(needed: int) -> int:
    """Returns the next power of two, and 1024 at least, as limits usually are."""
    return max(1024, 1 << (needed - 1).bit_length())
