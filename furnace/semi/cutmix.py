"""CutMix masks and the mix.

French et al., "Semi-supervised semantic segmentation needs strong, varied perturbations" (2020).
n masks of H x W pixels.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

BOXES = 3
PROPORTION = (0.25, 0.5)


class UniformSource(Protocol):
    """`numpy.random.Generator` or the older `RandomState`."""

    def uniform(self, low: float, high: float, size: tuple[int, ...]) -> np.ndarray: ...


def cutmix_masks(
    n: int,
    size: tuple[int, int],
    random: UniformSource,
    proportion: tuple[float, float] = PROPORTION,
    boxes: int = BOXES,
) -> np.ndarray:
    """Draws masks (n, 1, H, W) of uint8 0 and 1.

    Each mask flips `boxes` rectangles that together cover about a share in `proportion` of the image; where two
    overlap the flips cancel. The draws come in the published order, so one generator gives the published masks.
    """
    area = random.uniform(*proportion, (n, boxes))
    height = np.exp(random.uniform(0.0, 1.0, (n, boxes)) * np.log(area))  # log-uniform between area and 1
    share = np.stack([height, area / height], axis=2) * np.sqrt(1 / boxes)  # (n, boxes, 2): of H and of W
    extent = np.round(share * np.array(size))
    start = np.round((np.array(size) - extent) * random.uniform(0.0, 1.0, (n, boxes, 2)))
    corners = np.concatenate([start, start + extent], axis=2).astype(int)  # (n, boxes, 4): y0, x0, y1, x1
    masks = np.zeros((n, 1, *size), dtype=np.uint8)
    for mask, rectangles in zip(masks, corners, strict=True):
        for y0, x0, y1, x1 in rectangles:
            mask[0, y0:y1, x0:x1] ^= 1
    return masks


def mix(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """`first` where the mask is 0, `second` where it is 1.

    `mask` (B, 1, H, W) of 0 and 1; images (B, 3, H, W) or label maps (B, H, W).
    """
    mask = mask.bool()
    return torch.where(mask if first.ndim == 4 else mask[:, 0], second, first)
