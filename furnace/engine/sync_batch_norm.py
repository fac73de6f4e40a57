"""Batch norm over all processes on CPUs, for which PyTorch's own has no kernel."""

import torch
import torch.distributed as dist
from torch import Tensor, nn


class CpuSyncBatchNorm(nn.BatchNorm2d):
    """The same state names as nn.BatchNorm2d."""

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


def with_cpu_sync(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = CpuSyncBatchNorm
    return network
