"""Pixels in the form that networks take: shifted and scaled by the mean and deviation of ImageNet's images.

B images, H and W their size in pixels.
"""

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize(image: Tensor, mean: Tensor, std: Tensor, box: Tensor | None = None) -> Tensor:
    """Computes (image / 255 - mean) / std, and 0 outside of `box`.

    Args:
        image: (B, H, W, 3) uint8 RGB.
        mean: (3,), of pixels in 0..1; its dtype is that of the result.
        std: (3,).
        box: (B, 4): top, bottom, left and right of the part that each image fills; None if it fills everything.

    Returns:
        (B, 3, H, W) of `mean`'s dtype, in channels-last memory.
    """
    pixels = image.permute(0, 3, 1, 2).to(mean.dtype).div_(255)  # (B, 3, H, W), channels last in memory
    pixels = pixels.sub_(mean[:, None, None]).div_(std[:, None, None])
    if box is None:
        return pixels
    top, bottom, left, right = box.unbind(dim=1)  # each (B,)
    row, column = (torch.arange(length, device=image.device) for length in pixels.shape[2:])
    inside_rows = (row >= top[:, None]) & (row < bottom[:, None])  # (B, H)
    inside_columns = (column >= left[:, None]) & (column < right[:, None])  # (B, W)
    return pixels.mul_(inside_rows[:, None, :, None]).mul_(inside_columns[:, None, None, :])
