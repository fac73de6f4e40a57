"""The weak view: mirrored, scaled and cropped.

H and W are an image's size, S the side of the square crop, all in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from furnace.labels import IGNORE

MIRROR_PROBABILITY = 0.5


@dataclass(frozen=True)
class WeakView:
    """Which part of an image is seen, and how large.

    The part is cut out before it is resized, so the work does not grow with the scaled image; the published code
    resized first, which gives the same view up to the rounding of the cut.
    """

    top: int
    left: int
    height: int
    width: int
    scaled_height: int  # at most S
    scaled_width: int
    mirrored: bool

    def image(self, image: np.ndarray) -> np.ndarray:
        """Cuts and resizes (H, W, 3) uint8 to (scaled_height, scaled_width, 3), bilinear."""
        return self._take(image, cv2.INTER_LINEAR)

    def label(self, label: np.ndarray) -> np.ndarray:
        """Cuts and resizes (H, W) uint8 to (scaled_height, scaled_width), nearest."""
        return self._take(label, cv2.INTER_NEAREST)

    def _take(self, pixels: np.ndarray, interpolation: int) -> np.ndarray:
        part = pixels[self.top : self.top + self.height, self.left : self.left + self.width]
        if part.shape[:2] != (self.scaled_height, self.scaled_width):
            part = cv2.resize(part, (self.scaled_width, self.scaled_height), interpolation=interpolation)
        return cv2.flip(part, 1) if self.mirrored else part


def draw_weak_view(random: np.random.Generator, size: tuple[int, int], crop: int, scales: Sequence[float]) -> WeakView:
    """Draws a view of an image of `size` (H, W): mirrored half of the time, one of `scales`, anywhere."""
    mirrored = bool(random.random() < MIRROR_PROBABILITY)
    scale = scales[random.integers(len(scales))]
    top, height, scaled_height = _interval(random, size[0], crop, scale)
    left, width, scaled_width = _interval(random, size[1], crop, scale)
    return WeakView(top, left, height, width, scaled_height, scaled_width, mirrored)


def _interval(random: np.random.Generator, length: int, crop: int, scale: float) -> tuple[int, int, int]:
    """Along one axis: start and length of the cut, and its length after scaling."""
    scaled = int(length * scale)
    if scaled <= crop:
        return 0, length, max(1, scaled)
    cut = min(length, max(1, round(crop / scale)))
    return int(random.integers(length - cut + 1)), cut, crop


def pad_image(image: np.ndarray, crop: int) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Centres (h, w, 3) in (S, S, 3); also the box (top, bottom, left, right) that the image fills.

    What lies outside the box becomes 0 after normalisation, as published.
    """
    top, left = (crop - image.shape[0]) // 2, (crop - image.shape[1]) // 2
    box = (top, top + image.shape[0], left, left + image.shape[1])
    if image.shape[:2] == (crop, crop):
        return image, box
    canvas = np.zeros((crop, crop, 3), dtype=image.dtype)
    canvas[box[0] : box[1], box[2] : box[3]] = image
    return canvas, box


def pad_label(label: np.ndarray, crop: int) -> np.ndarray:
    """Centres (h, w) in (S, S), ignored around."""
    if label.shape == (crop, crop):
        return label
    canvas = np.full((crop, crop), IGNORE, dtype=label.dtype)
    top, left = (crop - label.shape[0]) // 2, (crop - label.shape[1]) // 2
    canvas[top : top + label.shape[0], left : left + label.shape[1]] = label
    return canvas
