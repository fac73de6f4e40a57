"""Exchanges between processes as operators of torch, which torch.compile leaves whole within its graphs.

A graph holds numbers and names, but no process group. So a group is registered, and then goes by its name.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_GROUPS: dict[str, dist.ProcessGroup | None] = {}


def register(group: dist.ProcessGroup | None) -> str:
    """Makes a group known to the operators of this file, None being all processes, and returns its name."""
    name = "" if group is None else group.group_name
    _GROUPS[name] = group
    return name


def gathered(own: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """Returns the tensors of all processes in the order of their ranks, with a new first dimension, by one exchange."""
    every = own.new_zeros(dist.get_world_size(group), *own.shape)
    every[dist.get_rank(group)] = own
    dist.all_reduce(every, group=group)
    return every


@torch.library.custom_op("furnace::from_all", mutates_args=())
def from_all(own: Tensor, group_name: str, processes: int) -> Tensor:
    """Does what `gathered` does, within a graph, which must know how many `processes` there are."""
    return gathered(own, _GROUPS[group_name])


@from_all.register_fake
def _(own: Tensor, group_name: str, processes: int) -> Tensor:
    return own.new_empty(processes, *own.shape)


@torch.library.custom_op("furnace::to_each", mutates_args=())
def to_each(every: Tensor, group_name: str) -> Tensor:
    """Returns what all processes together hold for this one: the sum of their `every[rank]`."""
    group = _GROUPS[group_name]
    sums = every.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(sums, group=group)
    return sums[dist.get_rank(group)].clone()


@to_each.register_fake
def _(every: Tensor, group_name: str) -> Tensor:
    return every.new_empty(every.shape[1:])


def _remember_group(ctx: Any, inputs: tuple[Tensor, str, int], output: Tensor) -> None:
    ctx.group_name = inputs[1]


def _gradient(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
    return to_each(gradient, ctx.group_name), None, None


# What a process sent went into every process's result. So its gradient is the sum of all processes' gradients.
from_all.register_autograd(_gradient, setup_context=_remember_group)
