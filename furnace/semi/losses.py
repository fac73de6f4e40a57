"""Pixel losses as a sum and a count, so that processes can share one normalisation.

B images, N classes, H and W their size. Pixels labelled IGNORE count nowhere.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from furnace.labels import IGNORE


class LossSum(NamedTuple):
    """The loss summed over the pixels that count, and how many these are (both scalars, on the logits' device)."""

    total: Tensor
    count: Tensor

    def mean(self, average: Callable[[Tensor], Tensor] = lambda count: count) -> Tensor:
        """total / count, 0 where nothing counts (the published code gave NaN there).

        `average` takes the mean of a scalar over all processes. Dividing by the mean count makes the mean of the
        processes' gradients the gradient of (sum of totals) / (sum of counts): W processes step as one would.
        """
        return self.total / average(self.count).clamp(min=1e-12)


PixelLoss = Callable[[Tensor, Tensor], LossSum]


def pixel_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of every pixel, (B, H, W); 0 where ignored. At least fp32, whatever the logits are."""
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    return F.cross_entropy(logits, labels.long(), ignore_index=IGNORE, reduction="none")


def cross_entropy(logits: Tensor, labels: Tensor) -> LossSum:
    """CE over labelled pixels. `logits` (B, N, H, W) float, `labels` (B, H, W) any integer type."""
    total = pixel_cross_entropy(logits, labels).sum()
    return LossSum(total, (labels != IGNORE).sum().to(total.dtype))


def ohem_cross_entropy(logits: Tensor, labels: Tensor, threshold: float, min_kept: int) -> LossSum:
    """Cross-entropy over hard pixels: those whose true class has a probability of at most max(threshold, p_k).

    p_k is the `min_kept`-th smallest probability over ALL pixels, ignored ones counting as 1; with fewer than
    `min_kept` labelled pixels, or `min_kept` 0, every labelled pixel counts: both as published. The selection is made
    within the process and carries no gradient. Shrivastava et al., "Online Hard Example Mining" (2016).
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
