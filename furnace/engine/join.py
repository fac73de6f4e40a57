"""How the processes of a run find each other, and how they part."""

import os
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import HashStore, PrefixStore, Store  # type: ignore[attr-defined]  # public by its pages
from torch.distributed.rendezvous import rendezvous

from furnace.engine.distributed import World
from furnace.engine.gpus import take_device
from furnace.engine.interface import choose_interface
from furnace.engine.lifeline import Lifeline, hold_lifeline
from furnace.engine.place import NEEDED, find_place
from furnace.errors import EXIT_FAILED, InputError, say

STARTS = "furnace/starts"  # in torchrun's store: how often the first process has begun
JOIN_LIMIT = timedelta(minutes=5)  # torchrun starts all processes together, so one that takes longer hangs

_lifeline: Lifeline | None = None  # of this process, once it has joined others


def join_world(gpus: int, timeout_minutes: float) -> World:
    """Joins the process group that torchrun's environment variables describe, if they describe one.

    The end of one process ends the others from the moment when they have met (lifeline.py). So a device is taken after
    that: where it cannot be used, no machine waits for another.

    Args:
        gpus: how many GPUs of this machine are used. With 0, the processes use the CPU and exchange through gloo;
            otherwise each has a GPU of its own, and they exchange through NCCL.
        timeout_minutes: how long to wait for the others in every exchange; for joining, JOIN_LIMIT at most.

    Raises:
        InputError: the others cannot be reached, or the GPU cannot be used.
    """
    global _lifeline
    place = find_place()
    rank, size = place.rank, place.size
    if size == 1:
        return World(rank, size, take_device(gpus))
    timeout = timedelta(minutes=timeout_minutes)
    limit = min(timeout, JOIN_LIMIT)
    remedy = "see what the others say"
    if timeout < JOIN_LIMIT:
        remedy += f", or set timeout_minutes above {timeout_minutes:g}"
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        remedy += f"; if torchrun did not start this process, unset {', '.join(NEEDED)}"
    with _deadline(limit, f"process {rank} of {size} has not found all others; {remedy}"):
        try:
            store = _store_of_this_start(rank, size, timeout)
            _lifeline = hold_lifeline(store, place, os.environ["MASTER_ADDR"], timeout.total_seconds())
            choose_interface(store, rank, size)
            device = take_device(gpus)
            backend, bound = ("nccl", device) if gpus > 0 else ("gloo", None)
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout, device_id=bound)
            host_group = dist.new_group(backend="gloo", timeout=timeout) if gpus > 0 else None
            norm_group = dist.new_group(timeout=timeout)
            # torch gives a number to processes outside of a group; none is.
            assert not isinstance(host_group, int) and not isinstance(norm_group, int)
        except (RuntimeError, OSError) as error:
            raise InputError(f"process {rank} of {size} cannot reach the others: {_reason(error)}; {remedy}") from error
    return World(rank, size, device, host_group, norm_group)


@contextmanager
def group_of_one(device: torch.device) -> Iterator[World]:
    """Gives a World of this process alone, whose batch norms and gradients go through a process group all the same.

    It shows, without a second GPU, that the libraries for exchanges work on this one.
    """
    bound = device if device.type == "cuda" else None
    backend = "nccl" if bound else "gloo"
    dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1, device_id=bound)
    try:
        group = dist.new_group()
        assert not isinstance(group, int)  # torch gives a number to processes outside of a group; this one is inside
        yield World(device=device, norm_group=group)
    finally:
        dist.destroy_process_group()


def _store_of_this_start(rank: int, size: int, timeout: timedelta) -> Store:
    """Returns the store in which the processes of this start tell each other their addresses.

    torchrun keeps one store over all its restarts, with the addresses of processes that have ended; who reads these
    first meets nobody. So the first process counts the starts, and the others wait until it has answered them by the
    number of its own.
    """
    shared, _, _ = next(rendezvous("env://", rank, size, timeout=timeout))
    if rank == 0:
        store = PrefixStore(f"furnace/{shared.add(STARTS, 1)}", shared)
        for other in range(1, size):
            store.set(f"answer/{other}", store.get(f"call/{other}").decode())  # `get` waits for the call
        return store
    call, number, store = uuid.uuid4().hex, 0, shared
    end = time.monotonic() + timeout.total_seconds()
    while not (number and store.check([f"answer/{rank}"]) and store.get(f"answer/{rank}").decode() == call):
        if number != (newest := shared.add(STARTS, 0)):  # an older number is that of a start that has ended
            number, store = newest, PrefixStore(f"furnace/{newest}", shared)
            store.set(f"call/{rank}", call)
        if time.monotonic() > end:
            raise RuntimeError("the first process does not answer")
        time.sleep(0.02)
    return store


@contextmanager
def _deadline(timeout: timedelta, last_words: str) -> Iterator[None]:
    """Ends the process with `last_words` if the block takes longer than `timeout`.

    The whole process ends because a thread that waits within a library cannot be interrupted. Libraries have time-outs
    of their own, but those of gloo do not cover all of its waiting for a connection.
    """

    def give_up() -> None:
        say(last_words)
        os._exit(EXIT_FAILED)

    timer = threading.Timer(timeout.total_seconds(), give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def lost_contact(error: Exception) -> str | None:
    """Returns in a few words why an exchange with the other processes failed; None for errors of another kind."""
    is_exchange = isinstance(error, dist.DistError) or (type(error) is RuntimeError and "gloo" in str(error))
    return _reason(error) if is_exchange else None


def _reason(error: Exception) -> str:
    """Returns the first sentence of an error, without the place in the library's source that stands before it."""
    reason = re.sub(r"^.*?\[\S*\.cc:\d+\] ", "", str(error).split("\n", 1)[0])
    return re.split(r"\. |, remote=", reason)[0].rstrip(". ")


def leave_world() -> None:
    """Leaves the process group once all are ready, so that nobody closes a connection that another still uses."""
    if dist.is_initialized():
        dist.barrier()
        if _lifeline:
            _lifeline.leave()
        dist.destroy_process_group()
