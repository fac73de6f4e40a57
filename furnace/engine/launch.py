"""Runs work in as many processes as a run has, and turns its end into an exit status."""

import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from furnace.engine.backend import memory_failure
from furnace.engine.distributed import World
from furnace.engine.gpus import processes_in_all
from furnace.engine.join import join_world, leave_world, lost_contact
from furnace.engine.place import find_place
from furnace.engine.signals import end_at_once, end_helpers, stop_with_parent
from furnace.engine.torchrun import launch
from furnace.errors import EXIT_BAD_INPUT, EXIT_FAILED, CommonInputError, InputError, say, system_errors_said

Work = Callable[[World], int]
SILENT = 1.0  # seconds; torchrun ends the process that speaks for this one as soon as it sees the end of this one


def in_processes(work: Work, arguments: Sequence[str], gpus: int, timeout_minutes: float) -> int:
    """Runs `work` in this process if the run has only one; otherwise starts one process per GPU.

    Each process that it starts runs the same command and so calls this function again, now with its rank in the
    environment. It then runs `work` and ends here, without returning.

    Args:
        work: what one process does, given its World; it returns an exit status.
        arguments: the arguments of `python -m furnace` for the processes that are started.
        gpus: how many GPUs of this machine to use, as one of the functions of gpus.py says; 0 means the CPU.
        timeout_minutes: how long processes wait for each other.

    Returns:
        The exit status: what `work` returned, or the status of the process that failed first.

    Raises:
        InputError: the other machines are not there, the only process cannot use its GPU or ran out of memory, or
            `work` raised it in the only process.
    """
    processes = processes_in_all(gpus)
    place = find_place()
    if processes > 1 and not place.launched:
        return launch(arguments, max(1, gpus), timeout_minutes)
    if processes == 1:
        return _with_last_words(work, join_world(gpus, timeout_minutes))
    end_at_once()
    stop_with_parent()
    speaks = True
    try:
        world = join_world(gpus, timeout_minutes)
        status = _with_last_words(work, world)
        leave_world()
    except InputError as error:
        status = EXIT_BAD_INPUT
        if speaks := not isinstance(error, CommonInputError) or place.local_rank == 0:  # it may be of one machine
            if place.local_rank > 0:  # often all have found the same, and torchrun ends this process meanwhile
                time.sleep(SILENT)
            say(error)
    except Exception as error:
        status = EXIT_FAILED
        if not (reason := lost_contact(error)):
            traceback.print_exc()
        elif speaks := place.local_rank == 0:  # the other processes of this machine would say the same
            say(
                f"process {world.rank} of {world.size} has lost the others: {reason}; one has ended, or took longer "
                f"than timeout_minutes={timeout_minutes:g}; what was saved stays, start again to go on"
            )
    if not speaks:
        time.sleep(SILENT)
    # A clean exit would wait for processes that wait for this one. Also, gloo's threads still run, and can abort the
    # interpreter while it cleans up.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def go_on_with(arguments: Sequence[str]) -> NoReturn:
    """Lets `python -m furnace` with `arguments` take this program's place in this process.

    Whoever sends signals to the process, or waits for it, then need not know that one command follows another, and
    nothing is left of the memory that this one has taken.
    """
    end_helpers()
    sys.stdout.flush()
    sys.stderr.flush()
    for entry in Path("/proc/self/fd").iterdir():
        if (descriptor := int(entry.name)) > 2:  # a GPU's memory is free once its device is closed
            with suppress(OSError):  # that of the listing is closed already
                os.set_inheritable(descriptor, False)
    os.execv(sys.executable, [sys.executable, "-m", "furnace", *arguments])


def _with_last_words(work: Work, world: World) -> int:
    """Runs `work`, and turns errors of the system, and one about too little memory, into an InputError."""
    try:
        with system_errors_said():
            return work(world)
    except (MemoryError, RuntimeError) as error:
        if (reason := memory_failure(error)) is None:
            raise
    raise InputError(
        f"out of memory on {world.device}: {reason}; "
        "lower image_size or batch_size, or share the batch out over more GPUs"
    )
