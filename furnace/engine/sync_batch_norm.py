"""Batch norm with the statistics of all processes' images, by one exchange each way, on CPUs and GPUs.

PyTorch's own has no kernel for CPUs. On GPUs it lets processes hold different numbers of pixels, for which it waits for
the device three times in every forward pass of a layer. Nor can torch.compile keep it in one graph.

In the shapes below, B is the number of images and C is the number of channels. A feature is (B, C, H, W), or (B, C),
(B, C, L) or (B, C, D, H, W) where the network has batch norms of other dimensions.
"""

import sys
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.lazy import LazyModuleMixin

from furnace.engine.exchange import from_all, gathered, register
from furnace.errors import CommonInputError

Running = tuple[Tensor, Tensor, float | Tensor]  # running mean and variance, (C,) each, and how far a batch moves them


class SyncBatchNorm(_BatchNorm):
    """Normalises with the statistics of all processes, each of which must hold equally many pixels.

    A batch norm becomes one by taking a class that stands on this one and on its own, see `synchronized`. So its state
    keeps its names, and in eval mode it does what it did before.

    Attributes:
        group: the processes, None for all of the default group.
        group_name: what `furnace.engine.exchange` knows them by.
        processes: how many they are.
    """

    group: dist.ProcessGroup | None = None
    group_name: str
    processes: int

    def forward(self, feature: Tensor) -> Tensor:
        """Normalises a feature; in training mode with the statistics of the images of all processes together."""
        if not self.training:
            output: Tensor = super().forward(feature)
            return output
        self._check_input_dim(feature)  # type: ignore[no-untyped-call]  # torch does not annotate it
        running = self._running()
        if torch.compiler.is_compiling():
            return self._written_out(feature, running)
        output = _Normalize.apply(feature, self.weight, self.bias, running, self.eps, self.group)
        return output

    def _running(self) -> Running | None:
        """Counts the batch and returns what it moves, or None where no statistics are kept."""
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return None
        momentum: float | Tensor | None = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if momentum is None:  # the mean of all batches, which the device divides so that nothing waits for it
                momentum = self.num_batches_tracked.to(self.running_mean.dtype).reciprocal()
        return self.running_mean, self.running_var, 0.0 if momentum is None else momentum

    def _written_out(self, feature: Tensor, running: Running | None) -> Tensor:
        """The same in plain operations, which torch.compile joins with each other and with those before and after."""
        wide = feature.float() if feature.dtype in (torch.float16, torch.bfloat16) else feature
        variance, mean = torch.var_mean(wide, _over(feature), correction=0)
        every = from_all(torch.stack((mean, variance)), self.group_name, self.processes)  # (W, 2, C) of W processes
        mean, variance = _joined(every)  # (C,) each
        _move(running, mean.detach(), variance.detach(), self.processes * feature.numel() // len(mean))
        scale = torch.rsqrt(variance + self.eps)  # (C,)
        if self.weight is not None:
            scale = self.weight * scale
        normalized = (wide - _spread(mean, feature)) * _spread(scale, feature)
        if self.bias is not None:
            normalized = normalized + _spread(self.bias, feature)
        return normalized.to(feature.dtype)


class SyncBatchNormAct(SyncBatchNorm):
    """The same for timm's BatchNormAct2d, which is followed by a layer that drops and by an activation of its own."""

    drop: nn.Module
    act: nn.Module

    def forward(self, feature: Tensor) -> Tensor:
        """Normalises a feature as above, drops and activates."""
        output = super().forward(feature)
        if self.training:  # else it was timm's own forward, which does all three
            output = self.act(self.drop(output))
        return output


class _Normalize(torch.autograd.Function):
    """The function of batch norm: it moves the running statistics, too."""

    @staticmethod
    def forward(
        ctx: Any,
        feature: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running: Running | None,
        eps: float,
        group: dist.ProcessGroup | None,
    ) -> Tensor:
        if feature.is_cuda:  # whose kernels want features without gaps; one that has none stays as it is
            feature = feature.contiguous(memory_format=_layout(feature))
        every = gathered(torch.stack(_moments(feature, eps)), group)  # (W, 2, C): mean and variance of W processes
        mean, variance = _joined(every)
        count = len(every) * feature.numel() // len(mean)
        _move(running, mean, variance, count)
        ctx.save_for_backward(feature, weight, mean, torch.rsqrt(variance + eps))
        ctx.count, ctx.group, ctx.has_bias = count, group, bias is not None
        return F.batch_norm(feature, mean, variance, weight, bias, eps=eps)  # with these statistics as they are

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        feature, weight, mean, inverse = ctx.saved_tensors
        # With x the feature and m its mean, over the pixels of this process: sum of dL/dy, and of dL/dy (x - m).
        if feature.is_cuda:
            gradient = gradient.contiguous(memory_format=_layout(feature))
            own = torch.batch_norm_backward_reduce(gradient, feature, mean, inverse, weight, True, False, False)[:2]
        else:
            centred = feature - _spread(mean, feature)
            own = (gradient.sum(_over(feature), dtype=mean.dtype), (gradient * centred).sum(_over(feature)))
        sums = torch.stack(own)  # (2, C)
        # Of this process; DDP averages them.
        of_weight = None if weight is None else sums[1] * inverse
        of_bias = sums[0].clone() if ctx.has_bias else None
        dist.all_reduce(sums, group=ctx.group)
        if feature.is_cuda:
            count = torch.full((1,), ctx.count, dtype=torch.int32, device=feature.device)
            of_feature = torch.batch_norm_backward_elemt(
                gradient, feature, mean, inverse, weight, sums[0], sums[1], count
            )
        else:
            # dL/dx = weight / std (dL/dy - mean of dL/dy - (x - m) / variance * mean of dL/dy (x - m))
            offset, slope = (_spread(each, feature) for each in sums / ctx.count)
            change = gradient - offset - centred * slope * _spread(inverse.square(), feature)
            scale = inverse if weight is None else weight * inverse
            of_feature = (change * _spread(scale, feature)).to(feature.dtype)
        return of_feature, of_weight, of_bias, None, None, None


def _over(feature: Tensor) -> list[int]:
    """Returns the dimensions that statistics are taken over, which are all but that of the channels."""
    return [dimension for dimension in range(feature.ndim) if dimension != 1]


def _spread(values: Tensor, feature: Tensor) -> Tensor:
    """Returns one value for each channel, (C,), in the shape that lies over a feature: (C, 1, 1) over (B, C, H, W)."""
    return values.reshape(-1, *[1] * (feature.ndim - 2))


def _moments(feature: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Returns mean and variance of every channel over the images of this process, (C,) each, in fp32 at least."""
    if feature.is_cuda:
        mean, inverse = torch.batch_norm_stats(feature, eps)
        return mean, inverse.pow(-2) - eps
    wide = feature.float() if feature.dtype in (torch.float16, torch.bfloat16) else feature
    variance, mean = torch.var_mean(wide, _over(feature), correction=0)
    return mean, variance


def _joined(every: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and variance, (C,) each, over all images, from those of W processes, (W, 2, C)."""
    means, variances = every.unbind(dim=1)
    return means.mean(dim=0), variances.mean(dim=0) + means.var(dim=0, correction=0)


def _move(running: Running | None, mean: Tensor, variance: Tensor, count: int) -> None:
    """Moves running statistics towards those of a batch, (C,) each, whose channels have `count` numbers each."""
    if running is None:
        return
    running_mean, running_var, momentum = running
    running_mean.lerp_(mean, momentum)
    # A single number has no variance around its mean; PyTorch's batch norm refuses it.
    running_var.lerp_(variance * (count / max(1, count - 1)), momentum)


def _layout(feature: Tensor) -> torch.memory_format:
    """Returns the order in memory that a feature has, so that CUDA's kernels find its gradient in the same."""
    for last, dimensions in ((torch.channels_last, 4), (torch.channels_last_3d, 5)):
        if feature.ndim == dimensions and feature.is_contiguous(memory_format=last):
            return last
    return torch.contiguous_format


def synchronized(network: nn.Module, group: dist.ProcessGroup | None) -> nn.Module:
    """Turns every batch norm of the network into a SyncBatchNorm over `group`, in place, and returns the network.

    Norms that take their statistics from one image alone (layer, group and instance norms) are the same in any number
    of processes and stay as they are.

    Raises:
        CommonInputError: the network has a batch norm whose forward is its own, so that nobody here can synchronise it.
    """
    group_name, processes = register(group), dist.get_world_size(group)
    for name, module in network.named_modules():
        if not isinstance(module, _BatchNorm) or isinstance(module, SyncBatchNorm):
            continue
        kind = type(module)
        synchronizing = _synchronizing(kind)  # type: ignore[arg-type]  # a class can be a key, although mypy doubts it
        if synchronizing is None:
            raise CommonInputError(
                "several processes: expected the network's batch norms to be nn.BatchNorm1d, 2d or 3d, or timm's "
                f"BatchNormAct2d, found {kind.__name__} at {name}, which computes in its own way; "
                "put one of these there, or train in one process (NGPUS=1)"
            )
        module.__class__ = synchronizing
        assert isinstance(module, SyncBatchNorm)
        module.group, module.group_name, module.processes = group, group_name, processes
    return network


@cache
def _synchronizing(kind: type[Any]) -> type[SyncBatchNorm] | None:
    """Returns the class that batch norms of a kind take, which stands on that kind; None if it cannot be.

    What decides is the function that computes: classes that only build or name their layers in another way share it.
    """
    if issubclass(kind, LazyModuleMixin):  # which takes another class when it first computes
        return None
    ours: type[SyncBatchNorm] | None = None
    if kind.forward in (_BatchNorm.forward, nn.SyncBatchNorm.forward):
        ours = SyncBatchNorm
    timm = sys.modules.get("timm.layers.norm_act")  # there only if the network is made of it
    if timm is not None and kind.forward is timm.BatchNormAct2d.forward:
        ours = SyncBatchNormAct
    return None if ours is None else type(f"Synchronized{kind.__name__}", (ours, kind), {})
