"""What the processes of a run do together: sums, errors that all must know, batch norms and gradients.

Everything here also works in one process without a process group.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from inspect import signature
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import GradBucket  # type: ignore[attr-defined]  # public by its pages
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from furnace.engine.sync_batch_norm import synchronized
from furnace.errors import CommonInputError, InputError

Result = TypeVar("Result")

# Buffers need no broadcast: synchronised batch norms give every process the same statistics. torch 2.14 has renamed it.
_NAMES = ("forward_sync_buffers", "broadcast_buffers")
NO_BROADCAST: dict[str, Any] = {
    next(name for name in _NAMES if name in signature(DistributedDataParallel).parameters): False
}


@dataclass(frozen=True)
class World:
    """This process among all processes.

    It holds groups if there are others. `join.group_of_one` gives them to a process that is alone, so that it takes the
    way of many.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")
    host_group: dist.ProcessGroup | None = None  # for exchanges that do not wait for the GPUs
    norm_group: dist.ProcessGroup | None = None  # for batch norm's, which else would queue behind those of gradients

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and speaks for all."""
        return self.rank == 0

    def mean(self, tensor: Tensor) -> Tensor:
        """Returns the mean over all processes, or the tensor itself if there is only one."""
        return self.sum(tensor) / self.size if self.size > 1 else tensor

    def sum(self, tensor: Tensor) -> Tensor:
        """Returns the sum over all processes in a new tensor, or the tensor itself if there is only one."""
        if self.size == 1:
            return tensor
        tensor = tensor.clone()
        dist.all_reduce(tensor)
        return tensor

    def highest(self, value: int) -> int:
        """Returns the largest of all processes' values, without waiting for GPUs."""
        if self.size == 1:
            return value
        values = torch.tensor(value)
        dist.all_reduce(values, dist.ReduceOp.MAX, group=self.host_group)
        return int(values)

    def by_main(self, work: Callable[[], Result]) -> Result:
        """Runs `work` on rank 0 alone, while the other ranks wait for it, and returns on all what it returned there.

        Args:
            work: what it returns can be pickled.

        Raises:
            InputError: on rank 0, the one that `work` raised.
            CommonInputError: the same on the other ranks, of which one for each other machine says it.
        """
        if self.size == 1:
            return work()
        told: list[Any] = [None, None]  # the result, or the error in its place
        if self.is_main:
            try:
                told[0] = work()
            except InputError as error:
                told[1] = error
        dist.broadcast_object_list(told)
        result, failure = told
        if failure is not None:
            raise failure if self.is_main else CommonInputError(str(failure))
        return result

    def require_same(self, value: object, meaning: str) -> None:
        """Raises CommonInputError on every rank if `value` is not the same on all.

        Args:
            value: anything that can be pickled and compared.
            meaning: what `value` is, for the message.
        """
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        if any(other != value for other in values):
            raise CommonInputError(f"processes differ in {meaning}; found {', '.join(map(str, values))}")

    def synchronized(self, network: nn.Module) -> nn.Module:
        """Returns the network with batch norms that take their statistics over all processes."""
        return network if self.norm_group is None else synchronized(network, self.norm_group)

    def data_parallel(self, network: nn.Module) -> nn.Module:
        """Returns the network, wrapped so that backward averages gradients over all processes."""
        if self.norm_group is None:
            return network
        devices = [self.device] if self.device.type == "cuda" else None
        parallel = DistributedDataParallel(network, device_ids=devices, gradient_as_bucket_view=True, **NO_BROADCAST)
        if self.size > 2 and (self.device.type == "cpu" or torch.are_deterministic_algorithms_enabled()):
            parallel.register_comm_hook(None, _mean_in_order)
        return parallel


def _mean_in_order(_: object, bucket: GradBucket) -> Future[Tensor]:
    """Averages gradients over all processes, adding them up in the order of ranks.

    DistributedDataParallel puts gradients into other places of its buckets after its first step. Where three or more
    processes add up, the place decides the order, and the order decides the last bits. So a run that goes on would have
    other bits than one that was never stopped.
    """
    own: Tensor = bucket.buffer()
    every = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(every, own)
    done: Future[Tensor] = Future(devices=[own.device] if own.is_cuda else [])
    done.set_result(reduce(torch.add, every).div_(len(every)))
    return done
