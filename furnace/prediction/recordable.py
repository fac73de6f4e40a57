"""Layers that compute what they always compute, in a form that torch can record for images of free size.

While torch records a network, it keeps the sizes of images as formulas, and two kinds of layers do not bear that.
Others are recorded as they are. Whether a graph is right is found out when it is compared with the network, not here.

In the shapes below, C is the number of channels, H and W are the size of a feature, and P and Q are that of its pooled
form.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = "timm.layers.padding"  # timm's module that computes the padding


@contextmanager
def recordable() -> Iterator[None]:
    """A context in which layers compute in a form that can be recorded."""
    with _plain_padding(), _plain_pooling():
        yield


@contextmanager
def _plain_padding() -> Iterator[None]:
    """A context in which timm's ports of TensorFlow's networks pad without formulas where that is possible.

    TensorFlow's `same` padding depends on the size. timm rounds a quotient of floats up to find it, and the formulas of
    such quotients grow with each layer until nothing comes to an end. Where the size is a multiple of the stride, the
    padding is one number.
    """
    module: Any = sys.modules.get(PADDING)
    original = getattr(module, "get_same_padding", None)
    if original is None:  # timm is not in use, or has another function
        yield
        return

    def padding(x: Any, kernel_size: int, stride: int, dilation: int) -> Any:
        """Returns by how much a side of x pixels is padded in all, as timm's own does."""
        if isinstance(stride, int) and x % stride == 0:
            return max((kernel_size - 1) * dilation + 1 - stride, 0)
        return original(x, kernel_size, stride, dilation)

    module.get_same_padding = padding
    try:
        yield
    finally:
        module.get_same_padding = original


@contextmanager
def _plain_pooling() -> Iterator[None]:
    """A context in which features of free size are pooled to a given size by products of matrices.

    As torch's own operator, that is recorded with the windows of the example's size, which others do not have.
    """
    original = F.adaptive_avg_pool2d

    def pool(feature: Tensor, output_size: Any) -> Tensor:
        sizes = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
        is_free = any(isinstance(side, torch.SymInt) for side in feature.shape[-2:])
        return (
            pooled(feature, *sizes) if is_free and None not in sizes and sizes != (1, 1) else original(feature, sizes)
        )

    functional: Any = F
    functional.adaptive_avg_pool2d = pool
    try:
        yield
    finally:
        functional.adaptive_avg_pool2d = original


def pooled(feature: Tensor, rows: int, columns: int) -> Tensor:
    """Returns what F.adaptive_avg_pool2d makes of features (..., C, H, W), which is (..., C, P, Q)."""
    height, width = feature.shape[-2:]
    return _window_means(feature, height, rows) @ feature @ _window_means(feature, width, columns).T


def _window_means(feature: Tensor, side: int, parts: int) -> Tensor:
    """Returns the matrix (P, H) that maps a side of H to the means of P windows, which may overlap by one place."""
    place = torch.arange(side, device=feature.device)  # (H,)
    part = torch.arange(parts, device=feature.device)[:, None]  # (P, 1)
    start = torch.div(part * side, parts, rounding_mode="floor")
    end = torch.div((part + 1) * side + (parts - 1), parts, rounding_mode="floor")
    inside = (place >= start) & (place < end)  # (P, H)
    return inside.to(feature.dtype) / (end - start).to(feature.dtype)
