"""Batch norm over all processes on CPUs, for which PyTorch's own has no kernel."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class CpuSyncBatchNorm(nn.BatchNorm2d):
    """Normalises with the statistics of all processes. Its state has the names of `nn.BatchNorm2d`."""

    # nn.BatchNorm2d has these unless it is built to do without, which no network here does.
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, feature: Tensor) -> Tensor:
        """Normalises (B, C, H, W); in training mode with the statistics of the images of all processes together."""
        if not self.training:
            return super().forward(feature)
        dtype = feature.dtype
        if dtype in (torch.float16, torch.bfloat16):
            feature = feature.float()
        # Both moments travel in one exchange. They are taken about the running mean, because the difference of large
        # moments (variance = square - offset^2) would lose digits.
        shifted = feature - self.running_mean[:, None, None]
        channels = feature.shape[1]
        sums = (shifted.sum(dim=(0, 2, 3)), shifted.square().sum(dim=(0, 2, 3)))
        total: Tensor = _AllSum.apply(torch.cat([*sums, feature.new_tensor([feature.numel() / channels])]))  # (2C + 1,)
        count = total[-1].detach()
        offset, square = total[:-1].div(count).chunk(2)  # (C,) each
        mean, variance = self.running_mean + offset, square - offset.square()
        centred = shifted - offset[:, None, None]
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(dtype)


class _AllSum(torch.autograd.Function):
    """The sum over processes. Its gradient is the sum of the processes' gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        dist.all_reduce(tensor)
        return tensor

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


def with_cpu_sync(network: nn.Module) -> nn.Module:
    """Turns every batch norm of the network into a CpuSyncBatchNorm, in place, and returns the network."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = CpuSyncBatchNorm
    return network
