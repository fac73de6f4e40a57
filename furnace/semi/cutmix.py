"""CutMix: random masks of rectangles, and the mix of two images or label maps by such a mask.

French et al., "Semi-supervised semantic segmentation needs strong, varied perturbations" (2020).
In the shapes below, n is the number of masks, B the number of images, H and W are their height and width.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

BOXES = 3
# The lowest and the highest share of the image that the rectangles of a mask cover together, before overlaps.
PROPORTION = (0.25, 0.5)


class UniformSource(Protocol):
    """What the masks are drawn from: a `numpy.random.Generator` or an older `numpy.random.RandomState`."""

    def uniform(self, low: float, high: float, size: tuple[int, ...]) -> np.ndarray:
        """Draws an array of `size` numbers, each uniform between `low` and `high`."""


def cutmix_masks(n: int, size: tuple[int, int], random: UniformSource, boxes: int = BOXES) -> np.ndarray:
    """Draws n masks of 0 and 1.

    Each mask starts at 0, and `boxes` rectangles are flipped in it one after the other. Where two overlap, the flips
    cancel. The draws come in the published order, so that the same generator gives the published masks.

    Args:
        size: H and W, in pixels.
        boxes: the number of rectangles; without any, the masks are 0 everywhere.

    Returns:
        (n, 1, H, W) uint8.
    """
    area = random.uniform(*PROPORTION, (n, boxes))
    height = np.exp(random.uniform(0.0, 1.0, (n, boxes)) * np.log(area))  # log-uniform between area and 1
    share = np.stack([height, area / height], axis=2) * np.sqrt(1 / max(boxes, 1))  # (n, boxes, 2): of H and of W
    extent = np.round(share * np.array(size))
    start = np.round((np.array(size) - extent) * random.uniform(0.0, 1.0, (n, boxes, 2)))
    corners = np.concatenate([start, start + extent], axis=2).astype(int)  # (n, boxes, 4): y0, x0, y1, x1
    masks = np.zeros((n, 1, *size), dtype=np.uint8)
    for mask, rectangles in zip(masks, corners, strict=True):
        for y0, x0, y1, x1 in rectangles:
            mask[0, y0:y1, x0:x1] ^= 1
    return masks


def mix(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """Returns `first` where the mask is 0 and `second` where it is 1.

    Args:
        first: images (B, 3, H, W), soft labels (B, N, H, W) or label maps (B, H, W).
        second: the same shape.
        mask: (B, 1, H, W) of 0 and 1.
    """
    mask = mask.bool()
    return torch.where(mask if first.ndim == 4 else mask[:, 0], second, first)
