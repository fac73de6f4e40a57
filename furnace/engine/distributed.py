"""Processes: ranks, devices, averages over them.

Everything here works with one process and no process group.
"""

import fcntl
import os
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from furnace.engine.sync_batch_norm import with_cpu_sync
from furnace.errors import EXIT_FAILED, CommonInputError, InputError, say

ADDRESS_OF_INTERFACE = 0x8915  # SIOCGIFADDR of Linux
JOIN_LIMIT = timedelta(minutes=5)  # torchrun starts processes together; what takes longer hangs


@dataclass(frozen=True)
class World:
    """This process among all processes."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")
    host_group: dist.ProcessGroup | None = None  # for what processes agree on without waiting for their GPUs

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def mean(self, scalar: Tensor) -> Tensor:
        """The mean over all processes; the tensor itself where there is one."""
        return self.sum(scalar) / self.size if self.size > 1 else scalar

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in a new tensor; the tensor itself where there is one."""
        if self.size == 1:
            return tensor
        tensor = tensor.clone()
        dist.all_reduce(tensor)
        return tensor

    def highest(self, value: int) -> int:
        """The largest of all processes' values. GPUs are not waited for."""
        if self.size == 1:
            return value
        values = torch.tensor(value)
        dist.all_reduce(values, dist.ReduceOp.MAX, group=self.host_group)
        return int(values)

    def share_error(self, work: Callable[[], object]) -> None:
        """Runs `work` on rank 0 alone; after an InputError there the other ranks end quietly instead of waiting."""
        if self.size == 1:
            work()
            return
        failure: list[InputError | None] = [None]
        if self.is_main:
            try:
                work()
            except InputError as error:
                failure = [error]
        dist.broadcast_object_list(failure)
        if failure[0] is not None:
            raise failure[0] if self.is_main else SystemExit(2)

    def require_same(self, value: object, meaning: str) -> None:
        """Raises InputError on every rank if `value` is not the same on all."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        if any(other != value for other in values):
            raise CommonInputError(f"processes differ in {meaning}; found {', '.join(map(str, values))}")

    def synchronized(self, network: nn.Module) -> nn.Module:
        """The network with batch norms that take their statistics over all processes."""
        if self.size == 1:
            return network
        if self.device.type == "cuda":
            return nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return with_cpu_sync(network)

    def data_parallel(self, network: nn.Module) -> nn.Module:
        """The network wrapped so that backward averages gradients over processes."""
        if self.size == 1:
            return network
        devices = [self.device] if self.device.type == "cuda" else None
        # Buffers need no broadcast: synchronised batch norms give every process the same statistics.
        return DistributedDataParallel(
            network, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
        )


def join_world(gpus: int, timeout_minutes: float) -> World:
    """Joins the process group that torchrun's variables describe; `gpus` 0 means the CPU and gloo.

    Args:
        timeout_minutes: how long to wait for the others in every exchange; to join, five minutes at most.

    Raises:
        InputError: they cannot be reached.
    """
    size, rank = environment_integer("WORLD_SIZE", 1, low=1), environment_integer("RANK", 0)
    device = torch.device("cpu")
    if gpus > 0:
        device = torch.device("cuda", environment_integer("LOCAL_RANK", 0))
        torch.cuda.set_device(device)
    if size == 1:
        return World(rank, size, device)
    if interface := _interface_towards(os.environ.get("MASTER_ADDR", "")):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    timeout = timedelta(minutes=timeout_minutes)
    limit = min(timeout, JOIN_LIMIT)
    remedy = f"see what the others say, or set timeout_minutes above {timeout_minutes:g}"
    with _deadline(limit, f"process {rank} of {size} has not found all others; {remedy}"):
        try:
            backend, bound = ("nccl", device) if gpus > 0 else ("gloo", None)
            dist.init_process_group(backend, timeout=timeout, device_id=bound)
            host_group = dist.new_group(backend="gloo", timeout=timeout) if gpus > 0 else None
        except RuntimeError as error:
            raise InputError(f"process {rank} of {size} cannot reach the others: {_reason(error)}; {remedy}") from error
    return World(rank, size, device, host_group)


def _interface_towards(address: str) -> str | None:
    """The network interface with this machine's own address on the way to another; None where that is not known.

    Gloo would take the interface that the machine's name stands for, which often is one that no other can reach.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 1))  # sends nothing
            own = probe.getsockname()[0]
        except OSError:
            return None
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # an interface without an address
                answer = fcntl.ioctl(probe, ADDRESS_OF_INTERFACE, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(answer[20:24]) == own:
                    return name
    return None


@contextmanager
def _deadline(timeout: timedelta, last_words: str) -> Iterator[None]:
    """Ends the process if what is done inside takes longer: what waits within a library cannot be interrupted.

    Libraries have time-outs of their own, but gloo's do not cover all of its waiting for a connection.
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
    """Why an exchange with the other processes failed, in a few words; None for errors of another kind."""
    is_exchange = isinstance(error, dist.DistError) or (type(error) is RuntimeError and "gloo" in str(error))
    return _reason(error) if is_exchange else None


def _reason(error: Exception) -> str:
    """The first line, without the place in the library's source that stands before it."""
    reason = re.sub(r"^.*?\[\S*\.cc:\d+\] ", "", str(error).split("\n", 1)[0])
    return re.split(r"\. |, remote=", reason)[0].rstrip(". ")


def leave_world() -> None:
    """Waits for the other processes, so that none tears connections down that another still uses, and leaves."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def environment_integer(name: str, default: int, low: int = 0) -> int:
    """A variable that holds a whole number; InputError if it holds anything else."""
    value = os.environ.get(name) or str(default)
    if not value.isdecimal() or int(value) < low:
        raise InputError(
            f"{name}: expected a whole number of at least {low}, found {value!r}; set it in the environment"
        )
    return int(value)
