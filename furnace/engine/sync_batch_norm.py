"""Batch norm with the statistics of all processes' images, by one exchange each way, on CPUs and GPUs.

PyTorch's own has no kernel for CPUs. On GPUs it lets processes hold different numbers of pixels, for which it waits for
the device three times in every forward pass of a layer. Nor can torch.compile keep it in one graph.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from furnace.engine.exchange import from_all, gathered, register

IMAGES = (0, 2, 3)  # the dimensions of (B, C, H, W) over which statistics are taken


class SyncBatchNorm(nn.BatchNorm2d):
    """Normalises with the statistics of all processes, each of which must hold equally many pixels.

    Its state has the names of `nn.BatchNorm2d`.

    Attributes:
        group: the processes, None for all of the default group.
        group_name: what `furnace.engine.exchange` knows them by.
        processes: how many they are.
    """

    # nn.BatchNorm2d has these unless it is built to do without, which no network here does.
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    group: dist.ProcessGroup | None = None
    group_name: str
    processes: int

    def forward(self, feature: Tensor) -> Tensor:
        """Normalises (B, C, H, W); in training mode with the statistics of the images of all processes together."""
        if not self.training:
            return super().forward(feature)
        self.num_batches_tracked.add_(1)
        if torch.compiler.is_compiling():
            return self._written_out(feature)
        running = (self.running_mean, self.running_var, self.momentum)
        output: Tensor = _Normalize.apply(feature, self.weight, self.bias, running, self.eps, self.group)
        return output

    def _written_out(self, feature: Tensor) -> Tensor:
        """The same in plain operations, which torch.compile joins with each other and with those before and after."""
        wide = feature.float() if feature.dtype in (torch.float16, torch.bfloat16) else feature
        variance, mean = torch.var_mean(wide, IMAGES, correction=0)
        every = from_all(torch.stack((mean, variance)), self.group_name, self.processes)  # (W, 2, C) of W processes
        mean, variance = _joined(every)  # (C,) each
        count = self.processes * feature.numel() // len(mean)
        _move(self.running_mean, self.running_var, self.momentum, mean.detach(), variance.detach(), count)
        scale = self.weight * torch.rsqrt(variance + self.eps)  # (C,)
        normalized = (wide - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]
        return normalized.to(feature.dtype)


class _Normalize(torch.autograd.Function):
    """The function of batch norm: it moves the running statistics, too."""

    @staticmethod
    def forward(
        ctx: Any,
        feature: Tensor,
        weight: Tensor,
        bias: Tensor,
        running: tuple[Tensor, Tensor, float],
        eps: float,
        group: dist.ProcessGroup | None,
    ) -> Tensor:
        every = gathered(torch.stack(_moments(feature, eps)), group)  # (W, 2, C): mean and variance of W processes
        mean, variance = _joined(every)
        count = len(every) * feature.numel() // len(mean)
        _move(*running, mean, variance, count)
        ctx.save_for_backward(feature, weight, mean, torch.rsqrt(variance + eps))
        ctx.count, ctx.group = count, group
        return F.batch_norm(feature, mean, variance, weight, bias, eps=eps)  # with these statistics as they are

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        feature, weight, mean, inverse = ctx.saved_tensors
        # With x the feature and m its mean, over the pixels of this process: sum of dL/dy, and of dL/dy (x - m).
        if feature.is_cuda:
            gradient = gradient.contiguous(memory_format=_layout(feature))
            own = torch.batch_norm_backward_reduce(gradient, feature, mean, inverse, weight, True, False, False)[:2]
        else:
            centred = feature - mean[:, None, None]
            own = (gradient.sum(IMAGES, dtype=mean.dtype), (gradient * centred).sum(IMAGES))
        sums = torch.stack(own)  # (2, C)
        of_weight, of_bias = sums[1] * inverse, sums[0].clone()  # of this process; DDP averages them
        dist.all_reduce(sums, group=ctx.group)
        if feature.is_cuda:
            count = torch.full((1,), ctx.count, dtype=torch.int32, device=feature.device)
            of_feature = torch.batch_norm_backward_elemt(
                gradient, feature, mean, inverse, weight, sums[0], sums[1], count
            )
        else:
            # dL/dx = weight / std (dL/dy - mean of dL/dy - (x - m) / variance * mean of dL/dy (x - m))
            offset, slope = (sums / ctx.count)[:, :, None, None]
            change = gradient - offset - centred * slope * inverse.square()[:, None, None]
            of_feature = (change * (weight * inverse)[:, None, None]).to(feature.dtype)
        return of_feature, of_weight, of_bias, None, None, None


def _moments(feature: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Returns mean and variance of every channel over the images of this process, (C,) each, in fp32 at least."""
    if feature.is_cuda:
        mean, inverse = torch.batch_norm_stats(feature, eps)
        return mean, inverse.pow(-2) - eps
    wide = feature.float() if feature.dtype in (torch.float16, torch.bfloat16) else feature
    variance, mean = torch.var_mean(wide, IMAGES, correction=0)
    return mean, variance


def _joined(every: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and variance, (C,) each, over all images, from those of W processes, (W, 2, C)."""
    means, variances = every.unbind(dim=1)
    return means.mean(dim=0), variances.mean(dim=0) + means.var(dim=0, correction=0)


def _move(
    running_mean: Tensor, running_var: Tensor, momentum: float, mean: Tensor, variance: Tensor, count: int
) -> None:
    """Moves running statistics, (C,) each, towards those of a batch whose channels have `count` numbers each."""
    running_mean.lerp_(mean, momentum)
    running_var.lerp_(variance * (count / (count - 1)), momentum)


def _layout(feature: Tensor) -> torch.memory_format:
    last = feature.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def synchronized(network: nn.Module, group: dist.ProcessGroup | None) -> nn.Module:
    """Turns every batch norm of the network into a SyncBatchNorm over `group`, in place, and returns the network."""
    group_name, processes = register(group), dist.get_world_size(group)
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncBatchNorm
            assert isinstance(module, SyncBatchNorm)
            module.group, module.group_name, module.processes = group, group_name, processes
    return network
