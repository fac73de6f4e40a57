"""The weak view of an image: mirrored, scaled and cropped, and painted into the middle of a square.

H and W are an image's size, S the side of the square crop, all in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from furnace.data.images import LabelMap
from furnace.labels import IGNORE

Box = tuple[int, int, int, int]  # top, bottom, left, right

MIRROR_PROBABILITY = 0.5


@dataclass(frozen=True)
class WeakView:
    """Which part of an image is shown, and at which size; all in pixels.

    The part is cut out before it is resized, so that the work does not grow with the scaled image. The published code
    resizes the whole image first, which gives the same view up to the rounding of the cut.
    """

    top: int
    left: int
    height: int
    width: int
    scaled_height: int  # at most S
    scaled_width: int  # at most S
    mirrored: bool

    @property
    def part(self) -> tuple[slice, slice]:
        """The rows and columns of the image that are shown."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def paint_image(self, image: np.ndarray, canvas: np.ndarray) -> Box:
        """Paints the view of `image` (H, W, 3) uint8 into the middle of `canvas` (S, S, 3), resized bilinearly.

        Returns:
            The box that the view fills. The canvas is 0 around it; `normalize` sets those pixels to 0 again, so that
            they are 0 after normalisation too, as in the published code.
        """
        return self._paint(image[self.part], canvas, 0, cv2.INTER_LINEAR)

    def paint_label(self, label: np.ndarray | LabelMap, canvas: np.ndarray) -> Box:
        """Paints the view of `label` (H, W) uint8 into the middle of `canvas` (S, S), resized to nearest neighbours.

        A LabelMap raises InputError if its values there are no classes.

        Returns:
            The box that the view fills. Pixels around it are ignored.
        """
        return self._paint(label[self.part], canvas, IGNORE, cv2.INTER_NEAREST)

    def _paint(self, part: np.ndarray, canvas: np.ndarray, around: int, interpolation: int) -> Box:
        top, left = (canvas.shape[0] - self.scaled_height) // 2, (canvas.shape[1] - self.scaled_width) // 2
        box = (top, top + self.scaled_height, left, left + self.scaled_width)
        inside = canvas[inside_of(box)]
        if inside.shape != canvas.shape:
            canvas[:] = around
        if self.mirrored:
            part = cv2.flip(part, 1)
        # With `dst`, OpenCV writes the view where it belongs; it only copies a part that needs no resizing.
        cv2.resize(part, (self.scaled_width, self.scaled_height), dst=inside, interpolation=interpolation)
        return box


def inside_of(box: Box) -> tuple[slice, slice]:
    """Returns the slices of rows and of columns that a box covers."""
    top, bottom, left, right = box
    return slice(top, bottom), slice(left, right)


def draw_weak_view(random: np.random.Generator, size: tuple[int, int], crop: int, scales: Sequence[float]) -> WeakView:
    """Draws a view of an image of `size` (H, W): mirrored half of the time, at one of `scales`, and cropped anywhere.

    Args:
        crop: S, the side of the square that the view is painted into.
    """
    mirrored = bool(random.random() < MIRROR_PROBABILITY)
    scale = scales[int(random.integers(len(scales)))]
    top, height, scaled_height = _interval(random, size[0], crop, scale)
    left, width, scaled_width = _interval(random, size[1], crop, scale)
    return WeakView(top, left, height, width, scaled_height, scaled_width, mirrored)


def _interval(random: np.random.Generator, length: int, crop: int, scale: float) -> tuple[int, int, int]:
    """Draws the cut along one axis; returns its start, its length, and its length after scaling."""
    scaled = int(length * scale)
    if scaled <= crop:
        return 0, length, max(1, scaled)
    cut = min(length, max(1, round(crop / scale)))
    return int(random.integers(length - cut + 1)), cut, crop
