"""Processes: ranks, devices, averages over them, and how they are started. The only importer of torch.distributed.

Everything here works with one process and no process group.
"""

import logging
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from furnace.errors import InputError


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
            raise InputError(f"processes differ in {meaning}; found {', '.join(map(str, values))}")

    def synchronized(self, network: nn.Module) -> nn.Module:
        """The network with batch norms that take their statistics over all processes."""
        if self.size == 1:
            return network
        if self.device.type == "cuda":
            return nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return _with_cpu_sync(network)

    def data_parallel(self, network: nn.Module) -> nn.Module:
        """The network wrapped so that backward averages gradients over processes."""
        if self.size == 1:
            return network
        devices = [self.device] if self.device.type == "cuda" else None
        # Buffers need no broadcast: synchronised batch norms give every process the same statistics.
        return DistributedDataParallel(
            network, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
        )


def join_world(gpus: int) -> World:
    """Joins the process group that torchrun's variables describe; `gpus` 0 means the CPU and gloo."""
    size, rank = _environment_integer("WORLD_SIZE", 1, low=1), _environment_integer("RANK", 0)
    device = torch.device("cpu")
    if gpus > 0:
        device = torch.device("cuda", _environment_integer("LOCAL_RANK", 0))
        torch.cuda.set_device(device)
    if size == 1:
        return World(rank, size, device)
    dist.init_process_group("nccl" if gpus > 0 else "gloo", device_id=device if gpus > 0 else None)
    return World(rank, size, device, dist.new_group(backend="gloo") if gpus > 0 else None)


def leave_world() -> None:
    """Waits for the other processes, so that none tears connections down that another still uses, and leaves."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def launched_by_torchrun() -> bool:
    return "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ


def gpus_to_use(wanted: int | str) -> int:
    """How many GPUs of this machine to use, one process each; 0 means the CPU. InputError if there are fewer."""
    if wanted == 0:
        return 0
    visible = torch.cuda.device_count()
    started = _environment_integer("LOCAL_WORLD_SIZE", 1, low=1) if launched_by_torchrun() else 1
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
        return _environment_integer("WORLD_SIZE", 1, low=1)
    return max(1, gpus) * _environment_integer("NNODES", 1, low=1)


def launch(arguments: Sequence[str], processes_here: int, status_if_stopped: int) -> int:
    """Runs `python -m furnace` with `arguments` in `processes_here` processes on this machine, through torchrun.

    Returns the exit status of the process that failed first, 0 if none did, and `status_if_stopped` after a signal that
    asked for an end: it is passed on, and the processes have half a minute to save. NNODES, NODE_RANK, MASTER_ADDR and
    MASTER_PORT describe the other machines; with one machine torchrun picks a free port by itself.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    nodes = _environment_integer("NNODES", 1, low=1)
    options = [f"--nproc-per-node={processes_here}", f"--nnodes={nodes}"]
    if nodes == 1:
        options.append("--standalone")
    else:
        for name, meaning in (("MASTER_ADDR", "the first machine's address"), ("NODE_RANK", "0 on it, then 1, 2, ...")):
            if not os.environ.get(name):
                raise InputError(f"{name}: not set, but NNODES is {nodes}; set it to {meaning}")
        options += [
            f"--node-rank={_environment_integer('NODE_RANK', 0)}",
            f"--master-addr={os.environ['MASTER_ADDR']}",
            f"--master-port={_environment_integer('MASTER_PORT', 29500)}",
        ]
    options += ["-m", "furnace", *arguments]
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the process itself says what happened
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torchrun's own default, without its warning
    signal.signal(signal.SIGUSR1, lambda *_: os.kill(os.getpid(), signal.SIGTERM))  # torchrun passes on that one
    try:
        run(get_args_parser().parse_args(options))
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        return 2 if 2 in codes else error.get_first_failure()[1].exitcode  # the others fail because one did
    except SignalException:
        return status_if_stopped
    return 0


def _environment_integer(name: str, default: int, low: int = 0) -> int:
    value = os.environ.get(name) or str(default)
    if not value.isdecimal() or int(value) < low:
        raise InputError(
            f"{name}: expected a whole number of at least {low}, found {value!r}; set it in the environment"
        )
    return int(value)


class CpuSyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over all processes on CPUs, for which PyTorch's own has no kernel. Same state names."""

    def forward(self, feature: Tensor) -> Tensor:
        """Normalises (B, C, H, W) in training mode with the statistics of every process's images together."""
        if not self.training:
            return super().forward(feature)
        dtype = feature.dtype
        if dtype in (torch.float16, torch.bfloat16):
            feature = feature.float()
        # One exchange for both moments; taken about the running mean, their difference loses no digits.
        shifted = feature - self.running_mean[:, None, None]
        channels = feature.shape[1]
        sums = (shifted.sum(dim=(0, 2, 3)), shifted.square().sum(dim=(0, 2, 3)))
        total = _all_sum(torch.cat([*sums, feature.new_tensor([feature.numel() / channels])]))
        count = total[-1].detach()
        offset, square = total[:-1].div(count).split(channels)
        mean, variance = self.running_mean + offset, square - offset.square()
        centred = shifted - offset[:, None, None]
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(dtype)


class _AllSum(torch.autograd.Function):
    """The sum over processes; its gradient is the sum of the processes' gradients."""

    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        dist.all_reduce(tensor)
        return tensor

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


def _all_sum(tensor: Tensor) -> Tensor:
    return _AllSum.apply(tensor)


def _with_cpu_sync(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = CpuSyncBatchNorm
    return network
