"""Pixel losses as a sum and a count, so that all processes can divide by the same count.

In the shapes below, B is the number of images, N the number of classes, H and W are height and width. Pixels whose
label is IGNORE add nothing to a sum; whether they count is said by each loss.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from furnace.labels import IGNORE


@dataclass(frozen=True)
class LossSum:
    """A loss summed over the pixels that count, and the number of these pixels."""

    total: Tensor  # a scalar, as is the count, both on the logits' device
    count: Tensor

    def mean(self, average: Callable[[Tensor], Tensor] = lambda count: count) -> Tensor:
        """Returns total / count, or 0 where no pixel counts (the published code gave NaN there).

        Each process divides by the mean of all processes' counts. Then the mean of the processes' gradients is the
        gradient of (sum of totals) / (sum of counts), and W processes take the step that one would take.

        Args:
            average: takes the mean of a scalar over all processes.
        """
        return self.total / average(self.count).clamp(min=1e-12)


PixelLoss = Callable[[Tensor, Tensor], LossSum]  # of logits (B, N, H, W) and labels, (B, H, W) if they are hard


def in_full_precision(values: Tensor) -> Tensor:
    """Returns values of half precision in fp32, and others as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def pixel_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the cross-entropy of every pixel, (B, H, W), with 0 for ignored pixels.

    It is computed in fp32 where the logits have half precision.
    """
    return F.cross_entropy(in_full_precision(logits), labels.long(), ignore_index=IGNORE, reduction="none")


def cross_entropy(logits: Tensor, labels: Tensor) -> LossSum:
    """Returns the cross-entropy over all labelled pixels.

    Args:
        logits: (B, N, H, W) float.
        labels: (B, H, W) of any integer type.
    """
    total = pixel_cross_entropy(logits, labels).sum()
    return LossSum(total, (labels != IGNORE).sum().to(total.dtype))


def cross_entropy_over_all(logits: Tensor, labels: Tensor) -> LossSum:
    """Returns the cross-entropy of the labelled pixels, whose mean is taken over ALL pixels.

    An ignored pixel adds nothing to the sum, but counts. So the mean is the smaller, the fewer pixels are labelled.

    Args:
        logits: (B, N, H, W) float.
        labels: (B, H, W) of any integer type.
    """
    total = pixel_cross_entropy(logits, labels).sum()
    return LossSum(total, total.new_full((), labels.numel()))


def soft_cross_entropy_over_all(logits: Tensor, labels: Tensor) -> LossSum:
    """Returns the cross-entropy with soft labels, -sum over classes k of P(k) log q(k), whose mean is over ALL pixels.

    A pixel whose probabilities are all 0 adds nothing to the sum, but counts.

    Args:
        logits: (B, N, H, W) float, of which q is the softmax.
        labels: (B, N, H, W) float, the probabilities P.
    """
    total = F.cross_entropy(in_full_precision(logits), labels, reduction="sum")
    return LossSum(total, total.new_full((), labels[:, 0].numel()))


def ohem_cross_entropy(logits: Tensor, labels: Tensor, threshold: float, min_kept: int) -> LossSum:
    """Returns the cross-entropy over hard pixels (online hard example mining, OHEM).

    A pixel is hard if the probability of its true class is at most max(threshold, p_k), where p_k is the `min_kept`-th
    smallest probability. Two details are as published: p_k is taken over ALL pixels, and ignored ones have probability
    1 there; every labelled pixel counts if there are fewer than `min_kept` of them, or if `min_kept` is 0. Each process
    selects among its own pixels, and no gradient flows through the selection.

    Shrivastava et al., "Training Region-based Object Detectors with Online Hard Example Mining" (2016).
    """
    if min_kept == 0:
        return cross_entropy(logits, labels)
    losses = pixel_cross_entropy(logits, labels)  # (B, H, W)
    with torch.no_grad():
        valid = labels != IGNORE
        probability = torch.exp(-losses).masked_fill(~valid, 1)
        ascending = probability.flatten().sort().values  # kthvalue has no deterministic CUDA kernel
        bound = ascending[min(min_kept, len(ascending)) - 1].clamp(min=threshold)
        keep_all = valid.sum() < min_kept
        kept = valid & (keep_all | (probability <= bound))
    return LossSum((losses * kept).sum(), kept.sum().to(losses.dtype))
