"""Runs work in as many processes as a run has, and turns its end into an exit status."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence

import torch

from furnace.engine.backend import memory_failure
from furnace.engine.distributed import World
from furnace.engine.join import join_world, leave_world, lost_contact
from furnace.engine.place import environment_integer, find_place
from furnace.engine.signals import resubmit_on_signal, stop_with_parent
from furnace.engine.torchrun import launch
from furnace.errors import EXIT_BAD_INPUT, EXIT_FAILED, CommonInputError, InputError, say, system_errors_said

Work = Callable[[World], int]


def in_processes(work: Work, arguments: Sequence[str], gpus_wanted: int | str, timeout_minutes: float) -> int:
    """Runs `work` in this process if the run has only one; otherwise starts one process per GPU.

    Each process that it starts runs the same command and so calls this function again, now with its rank in the
    environment. It then runs `work` and ends here, without returning.

    Args:
        work: what one process does, given its World; it returns an exit status.
        arguments: the arguments of `python -m furnace` for the processes that are started.
        gpus_wanted: the setting NGPUS, a number or "all".
        timeout_minutes: how long processes wait for each other.

    Returns:
        The exit status: what `work` returned, or the status of the process that failed first.

    Raises:
        InputError: the GPUs or the other machines are not there, the only process ran out of memory, or `work`
            raised it in the only process.
    """
    gpus = gpus_to_use(gpus_wanted)
    processes = processes_in_all(gpus)
    place = find_place()
    if processes > 1 and not place.launched:
        return launch(arguments, max(1, gpus), timeout_minutes)
    if processes == 1:
        with resubmit_on_signal():
            return _with_last_words(work, join_world(gpus, timeout_minutes))
    stop_with_parent()
    try:
        world = join_world(gpus, timeout_minutes)
        status = _with_last_words(work, world)
        leave_world()
    except InputError as error:
        if not isinstance(error, CommonInputError) or place.rank == 0:
            say(error)
        status = EXIT_BAD_INPUT
    except Exception as error:
        status = EXIT_FAILED
        if not (reason := lost_contact(error)):
            traceback.print_exc()
        elif place.local_rank == 0:  # the other processes of this machine would say the same
            say(
                f"process {world.rank} of {world.size} has lost the others: {reason}; one has ended, or took longer "
                f"than timeout_minutes={timeout_minutes:g}; what was saved stays, start again to go on"
            )
    # A clean exit would wait for processes that wait for this one. Also, gloo's threads still run, and can abort the
    # interpreter while it cleans up.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


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


def gpus_to_use(wanted: int | str) -> int:
    """Returns how many GPUs of this machine to use, with one process each; 0 means the CPU.

    Args:
        wanted: the setting NGPUS, a number or "all".

    Raises:
        InputError: fewer GPUs are visible than are wanted, or than torchrun started processes for.
    """
    if wanted == 0:
        return 0
    visible = torch.cuda.device_count()
    started = find_place().local_size
    if visible and started > visible:
        raise InputError(
            f"torchrun started {started} processes, {visible} GPUs are visible; start one for each, or set NGPUS=0"
        )
    if isinstance(wanted, str):  # "all"
        return visible
    if wanted > visible:
        raise InputError(f"NGPUS: {wanted} asked for, {visible} visible; lower it, or set NGPUS=0 to use the CPU")
    return wanted


def processes_in_all(gpus: int) -> int:
    """Returns the number of processes of a run on all machines, where this one uses `gpus` GPUs."""
    if (place := find_place()).launched:
        return place.size
    return max(1, gpus) * environment_integer("NNODES", 1, low=1)


def require_share(batch_size: int, gpus_wanted: int | str) -> None:
    """Raises InputError if a batch cannot be shared out evenly over all processes."""
    processes = processes_in_all(gpus_to_use(gpus_wanted))
    if batch_size % processes:
        raise InputError(
            f"batch_size: {batch_size} cannot be shared out over {processes} processes; "
            f"expected a multiple of {processes}; change batch_size or NGPUS"
        )
