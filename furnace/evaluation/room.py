"""The memory that scoring an image takes, compared with what is free before it is taken.

H and W are the image's size, S the side of a window.
"""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import torch

from furnace.config.experiment import Experiment
from furnace.data.header import image_size
from furnace.engine import memory
from furnace.evaluation.sliding_window import SlidingWindow

# Bytes for each pixel of a window, more than any network here takes. Where that is free, nobody asks how many it takes.
PLENTY = 4096
SMALL = 2**22  # pixels
# What a network takes on a CPU beyond its tensors: convolutions copy what they work on, and libraries need some bytes.
WORKSPACE, LIBRARIES = 1.5, 2**26


class Room:
    """Says whether there is memory to score an image.

    Args:
        window: what scores the images.
        behind: bytes for each pixel of an image that are made of its scores, on the same device.
        beside: bytes for each pixel that the machine's own memory holds meanwhile: images, read ahead too, labels, and
            pictures that are made.
        remedy: how an error ends.
    """

    def __init__(self, experiment: Experiment, window: SlidingWindow, behind: int, beside: int, remedy: str) -> None:
        self.experiment, self.window, self.remedy = experiment, window, remedy
        self.behind, self.beside = behind, beside
        self._found = 0  # pixels of the largest image for which there was room

    def require(self, path: Path, height: int, width: int) -> None:
        """Raises InputError if there is no room for the image `path`.

        A small image is only looked at if no image as large has found room before.
        """
        if height * width > min(self._found, SMALL):
            self._require(path, height, width)
            self._found = max(self._found, height * width)

    def _require(self, path: Path, height: int, width: int) -> None:
        device, what = self.window.device, f"image too large: {path}: {height} x {width} pixels (height x width)"
        beside = self.beside * height * width
        if device.type != "cpu":
            memory.require(beside, what, self.remedy)
            beside = 0
        needed = beside + self.window.memory(height, width) + self.behind * height * width
        windows = self.window.window_batch * self.window.crop_size**2
        if needed + PLENTY * windows + LIBRARIES > memory.free(device):
            needed += self._network
        memory.require(needed, what, self.remedy, device)

    def require_largest(self, paths: Iterable[Path]) -> None:
        """Raises InputError if there is no room for the largest of the images, as far as their headers tell sizes."""
        sizes = [(size[0] * size[1], size, path) for path in paths if (size := image_size(path))]
        if sizes:
            _, size, path = max(sizes)
            self.require(path, *size)

    @cached_property
    def _network(self) -> int:
        """How many bytes one network takes for the windows that go through it at once, as far as it can be known."""
        shape = (self.window.window_batch, 3, self.window.crop_size, self.window.crop_size)
        with torch.inference_mode():
            peak = memory.peak_of(self.experiment.network, lambda network: network.eval()(torch.empty(shape)))
        return int(WORKSPACE * peak) + LIBRARIES
