"""An image at one scale, ready to be cut into windows.

H and W are an image's size, h and w those of a resized and padded view of it.
"""

from typing import NamedTuple

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor


class View(NamedTuple):
    """The image at one scale, ready for windows."""

    pixels: Tensor  # (1, 3, h, w) normalised, channels last
    inside: tuple[slice, slice]  # rows and columns that are image, not padding


def view_of(image: Tensor, scale: float, crop_size: int, mean: Tensor, std: Tensor) -> View:
    """Resizes an image, normalises it, and pads it to at least the size of a window.

    Args:
        image: (H, W, 3) uint8 RGB, on the CPU.
        scale: the factor that it is resized by.
        crop_size: the side of a window.
        mean: of each channel, (3, 1, 1), subtracted from pixels between 0 and 1. The view is made on its device, in
            its type.
        std: of each channel, (3, 1, 1), which divides the difference.
    """
    if scale != 1:
        height, width = (round(length * scale) for length in image.shape[:2])
        size = None if height and width else (max(1, width), max(1, height))  # the factor rules unless nothing is left
        image = torch.from_numpy(cv2.resize(image.numpy(), size, fx=scale, fy=scale))
    height, width = image.shape[:2]
    top, bottom = _centred_padding(height, crop_size)
    left, right = _centred_padding(width, crop_size)
    pixels = image.to(mean.device, non_blocking=True).permute(2, 0, 1)[None].to(mean.dtype)  # (1, 3, h, w)
    border = (left, right, top, bottom)
    if max(height, width) > crop_size:  # a side that is too short is filled with black
        pixels = _normalize(F.pad(pixels, border) if any(border) else pixels, mean, std)
    else:
        pixels = F.pad(_normalize(pixels, mean, std), border)  # a normalised 0 is the mean colour
    return View(pixels, (slice(top, top + height), slice(left, left + width)))


def _normalize(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return pixels.div_(255).sub_(mean).div_(std)


def _centred_padding(length: int, target: int) -> tuple[int, int]:
    """Returns how many pixels to add before and after; an odd one goes after."""
    missing = max(0, target - length)
    return missing // 2, missing - missing // 2
