"""How the processes of a run start, and what is said when they end."""

import logging
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence

import torch

from furnace.engine.backend import memory_failure
from furnace.engine.distributed import World, environment_integer, join_world, leave_world, lost_contact
from furnace.engine.signals import resubmit_on_signal, stop_with_parent
from furnace.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_RESUBMIT, CommonInputError, InputError, say

Work = Callable[[World], int]
PATIENCE = 25  # seconds; torchrun kills what does not end within 30


def in_processes(work: Work, arguments: Sequence[str], gpus_wanted: int | str, timeout_minutes: float) -> int:
    """Runs `work` in this process, or starts one process per GPU that comes back here with its rank.

    Args:
        arguments: those of `python -m furnace`, for the processes to start.
        timeout_minutes: how long processes wait for each other.

    Returns:
        The exit status: what `work` returned, or that of the process that failed first.
    """
    gpus = gpus_to_use(gpus_wanted)
    processes = processes_in_all(gpus)
    if processes > 1 and not launched_by_torchrun():
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
        if not isinstance(error, CommonInputError) or os.environ.get("RANK") == "0":
            say(error)
        status = EXIT_BAD_INPUT
    except Exception as error:
        status = EXIT_FAILED
        if not (reason := lost_contact(error)):
            traceback.print_exc()
        elif os.environ.get("LOCAL_RANK") == "0":  # the others of this machine have the same to say
            say(
                f"process {world.rank} of {world.size} has lost the others: {reason}; one has ended, or took longer "
                f"than timeout_minutes={timeout_minutes:g}; what was saved stays, start again to go on"
            )
    # A clean exit would wait for processes that wait for this one, and gloo's threads can abort an interpreter that
    # tidies up behind them.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _with_last_words(work: Work, world: World) -> int:
    """Runs `work`; too little memory becomes an InputError."""
    try:
        return work(world)
    except (MemoryError, RuntimeError) as error:
        if (reason := memory_failure(error)) is None:
            raise
    raise InputError(
        f"out of memory on {world.device}: {reason}; "
        "lower image_size or batch_size, or share the batch out over more GPUs"
    )


def launched_by_torchrun() -> bool:
    return "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ


def gpus_to_use(wanted: int | str) -> int:
    """How many GPUs of this machine to use, one process each; 0 means the CPU. InputError if there are fewer."""
    if wanted == 0:
        return 0
    visible = torch.cuda.device_count()
    started = environment_integer("LOCAL_WORLD_SIZE", 1, low=1) if launched_by_torchrun() else 1
    if visible and started > visible:
        raise InputError(
            f"torchrun started {started} processes, {visible} GPUs are visible; start one for each, or set NGPUS=0"
        )
    if wanted == "all":
        return visible
    if wanted > visible:
        raise InputError(f"NGPUS: {wanted} asked for, {visible} visible; lower it, or set NGPUS=0 to use the CPU")
    return wanted


def processes_in_all(gpus: int) -> int:
    """The number of processes that training runs in, over all machines."""
    if launched_by_torchrun():
        return environment_integer("WORLD_SIZE", 1, low=1)
    return max(1, gpus) * environment_integer("NNODES", 1, low=1)


def require_share(batch_size: int, gpus_wanted: int | str) -> None:
    """Raises InputError if a batch cannot be shared out evenly over all processes."""
    processes = processes_in_all(gpus_to_use(gpus_wanted))
    if batch_size % processes:
        raise InputError(
            f"batch_size: {batch_size} cannot be shared out over {processes} processes; "
            f"expected a multiple of {processes}; change batch_size or NGPUS"
        )


def launch(arguments: Sequence[str], processes_here: int, timeout_minutes: float) -> int:
    """Runs `python -m furnace` with `arguments` in `processes_here` processes on this machine, through torchrun.

    Returns the exit status of the process that failed first, 0 if none did, and EXIT_RESUBMIT after a signal that asked
    for an end: it is passed on, and the processes have half a minute to save. NNODES, NODE_RANK, MASTER_ADDR and
    MASTER_PORT describe the other machines; with one machine torchrun picks a free port by itself.

    Raises:
        InputError: the other machines are not described, or do not come within `timeout_minutes`.
    """
    import torch.distributed as dist
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    nodes = environment_integer("NNODES", 1, low=1)
    options = [f"--nproc-per-node={processes_here}", f"--nnodes={nodes}"]
    options += ["--standalone"] if nodes == 1 else _rendezvous(nodes, timeout_minutes)
    options += ["-m", "furnace", *arguments]
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the process itself says what happened
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torchrun's own default, without its warning
    signal.signal(signal.SIGUSR1, lambda *_: os.kill(os.getpid(), signal.SIGTERM))  # torchrun passes on that one
    try:
        run(get_args_parser().parse_args(options))
    except ChildFailedError as error:
        failures = error.failures.items()
        return _status([(failure.timestamp, rank, failure.exitcode) for rank, failure in failures])
    except SignalException:
        return EXIT_RESUBMIT
    except dist.DistError as error:
        raise InputError(
            f"the {nodes} machines did not find each other: {str(error).splitlines()[0].rstrip('.')}; start the script "
            f"on each of them, with NODE_RANK 0 to {nodes - 1}, or set timeout_minutes above {timeout_minutes:g}"
        ) from None
    return 0


def _status(ends: Sequence[tuple[float, int, int]]) -> int:
    """One exit status for all, from each failed process's time, rank and exit code.

    Bad input comes before a kill, and that before what follows from it: torchrun ends the others with SIGTERM, and with
    SIGKILL after PATIENCE.
    """
    first = min(ends)[0]
    if any(code == EXIT_BAD_INPUT for _, _, code in ends):
        return EXIT_BAD_INPUT
    for moment, rank, code in sorted(ends):
        by_torchrun = code == -signal.SIGTERM or (code == -signal.SIGKILL and moment > first + PATIENCE)
        if code < 0 and not by_torchrun:
            say(
                f"process {rank} was ended by {signal.Signals(-code).name}{', perhaps for its memory' * (code == -9)}; "
                "what was saved stays, start again to go on"
            )
            return 128 - code  # as shells have it
    return next((code for _, _, code in sorted(ends) if code > 0), 128 + signal.SIGTERM)


def _rendezvous(nodes: int, timeout_minutes: float) -> list[str]:
    """torchrun's options for several machines, once the first one is there."""
    for name, meaning in (("MASTER_ADDR", "the first machine's address"), ("NODE_RANK", "0 on it, then 1, 2, ...")):
        if not os.environ.get(name):
            raise InputError(f"{name}: not set, but NNODES is {nodes}; set it to {meaning}")
    rank, address, port = (
        environment_integer("NODE_RANK", 0),
        os.environ["MASTER_ADDR"],
        environment_integer("MASTER_PORT", 29500),
    )
    if rank >= nodes:
        raise InputError(f"NODE_RANK: expected 0 to {nodes - 1}, because NNODES is {nodes}, found {rank}; set it")
    if rank > 0:
        _wait_for(address, port, timeout_minutes)
    seconds = max(1, round(60 * timeout_minutes))
    return [
        f"--node-rank={rank}",
        f"--master-addr={address}",
        f"--master-port={port}",
        f"--rdzv-conf=timeout={seconds}",
    ]


def _wait_for(address: str, port: int, timeout_minutes: float) -> None:
    """Returns when the first machine listens; torchrun would say more, and less clearly."""
    limit = time.monotonic() + 60 * timeout_minutes
    while True:
        try:
            socket.create_connection((address, port), timeout=5).close()
            return
        except OSError as error:
            reason = error.strerror or error
        if time.monotonic() > limit:
            raise InputError(
                f"nobody answers at MASTER_ADDR={address}, MASTER_PORT={port}: {reason}; start the script with "
                f"NODE_RANK=0 there, open the port, or set timeout_minutes above {timeout_minutes:g}"
            )
        time.sleep(0.5)
