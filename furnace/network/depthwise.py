"""Dilated depthwise convolutions with gradients that are fast on CPUs.

For these gradients oneDNN (torch 2.14) has no kernel of its own, and takes fifty times as long as for the convolution.
EfficientNets and MobileNets have such convolutions where a decoder asks for a stride of 8 or 16.

In the shapes below, B is the number of images, C is the number of channels, h and w are the height and width of a map,
m and n those of a kernel.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def hasten(network: nn.Module) -> None:
    """Gives the network's dilated depthwise convolutions the class below, where they keep the size of a map."""
    for module in network.modules():
        if type(module) is nn.Conv2d and _fits(module):
            module.__class__ = DepthwiseConv2d


def _fits(convolution: nn.Conv2d) -> bool:
    """Says whether the class below computes what a convolution does."""
    return (
        convolution.groups == convolution.in_channels == convolution.out_channels
        and convolution.bias is None
        and convolution.padding_mode == "zeros"
        and convolution.stride == (1, 1)
        and convolution.dilation != (1, 1)
        and all(size % 2 for size in convolution.kernel_size)
        and convolution.padding == _padding(convolution.dilation, convolution.kernel_size)
    )


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution without bias or stride, padded with zeros so that a map keeps its size."""

    def forward(self, feature: Tensor) -> Tensor:
        """Convolves (B, C, h, w) as `nn.Conv2d` does."""
        ours = torch.is_grad_enabled() and feature.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        # torch.jit.is_tracing is documented, but torch neither annotates it nor lists it as exported.
        if ours and not (torch.compiler.is_compiling() or torch.jit.is_tracing()):  # type: ignore[attr-defined,no-untyped-call]
            output: Tensor = _Convolution.apply(feature, self.weight, self.dilation)
            return output
        return super().forward(feature)


class _Convolution(torch.autograd.Function):
    """The convolution of (B, C, h, w) by (C, 1, m, n)."""

    @staticmethod
    def forward(ctx: Any, feature: Tensor, weight: Tensor, dilation: Sequence[int]) -> Tensor:
        ctx.save_for_backward(feature, weight)
        ctx.dilation = dilation
        return _convolved(feature, weight, dilation)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        feature, weight = ctx.saved_tensors
        of_feature = of_weight = None
        if ctx.needs_input_grad[0]:  # a convolution too, by the kernel after half a turn
            of_feature = _convolved(gradient, weight.flip(2, 3), ctx.dilation)
        if ctx.needs_input_grad[1]:
            of_weight = _of_weight(feature, gradient, weight.shape[2:], ctx.dilation)
        return of_feature, of_weight, None


def _convolved(feature: Tensor, weight: Tensor, dilation: Sequence[int]) -> Tensor:
    return F.conv2d(feature, weight, None, 1, _padding(dilation, weight.shape[2:]), dilation, groups=len(weight))


def _padding(dilation: Sequence[int], kernel: Sequence[int]) -> tuple[int, ...]:
    """Returns by how many rows and columns of zeros a map keeps its size."""
    return tuple(rate * (size // 2) for rate, size in zip(dilation, kernel, strict=True))


def _of_weight(feature: Tensor, gradient: Tensor, kernel: Sequence[int], dilation: Sequence[int]) -> Tensor:
    """Returns the gradient of a kernel, (C, 1, m, n).

    That of a tap is the sum, over all pixels, of the gradient times the pixel of the map that the tap sees from there.
    """
    feature, gradient = (each.permute(0, 2, 3, 1).contiguous() for each in (feature, gradient))  # (B, h, w, C)
    _, height, width, channels = feature.shape
    of_weight = feature.new_empty((*kernel, channels))
    for row, column in product(*map(range, kernel)):
        seen_rows, rows = _overlap((row - kernel[0] // 2) * dilation[0], height)
        seen_columns, columns = _overlap((column - kernel[1] // 2) * dilation[1], width)
        products = feature[:, seen_rows, seen_columns] * gradient[:, rows, columns]
        torch.sum(products, dim=(0, 1, 2), out=of_weight[row, column])
    return of_weight.permute(2, 0, 1)[:, None]


def _overlap(shift: int, side: int) -> tuple[slice, slice]:
    """Returns where a side that is shifted lies over the side itself, in the shifted one's places, and in its own."""
    length = max(0, side - abs(shift))
    return slice(max(shift, 0), max(shift, 0) + length), slice(max(-shift, 0), max(-shift, 0) + length)
