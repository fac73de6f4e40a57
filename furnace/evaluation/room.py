"""The memory that scoring an image takes, compared with what is free before it is taken.

H and W are the image's size, S the side of a window.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import torch

from furnace.config.experiment import Experiment
from furnace.data.header import image_size
from furnace.engine import memory
from furnace.evaluation.sliding_window import Size, SlidingWindow
from furnace.network.fit import without_values

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
        self._found = 0  # pixels of the most that there was room for at once

    def require(self, path: Path, height: int, width: int) -> None:
        """Raises InputError if there is no room for the image `path`.

        A small image is only looked at if nothing as large has found room before.
        """
        sizes = [(height, width)]
        if self._is_new(sizes):
            what = f"image too large: {path}: {height} x {width} pixels (height x width)"
            for device, needed in self._needed(sizes):
                memory.require(needed, what, self.remedy, device)
            self._note(sizes)

    def holds(self, sizes: Sequence[Size]) -> bool:
        """Returns whether there is room for images of these sizes at once; small ones are looked at as by `require`."""
        if self._is_new(sizes):
            if any(needed > memory.free(device) for device, needed in self._needed(sizes)):
                return False
            self._note(sizes)
        return True

    def _is_new(self, sizes: Sequence[Size]) -> bool:
        return self._pixels(sizes) > min(self._found, SMALL)

    def _note(self, sizes: Sequence[Size]) -> None:
        self._found = max(self._found, self._pixels(sizes))

    def _pixels(self, sizes: Sequence[Size]) -> int:
        """Returns how many pixels the images have once they are padded to the size of a window."""
        least = self.window.crop_size
        return sum(max(height, least) * max(width, least) for height, width in sizes)

    def _needed(self, sizes: Sequence[Size]) -> Iterator[tuple[torch.device, float]]:
        """Yields how many bytes images of these sizes take when they are scored at once, for each device's memory."""
        device, pixels = self.window.device, sum(height * width for height, width in sizes)
        beside, needed = self.beside * pixels, self.window.memory(sizes) + self.behind * pixels
        if device.type == "cpu":
            needed += beside
        else:
            yield memory.CPU, beside
        windows = self.window.window_batch * self.window.crop_size**2
        if needed + PLENTY * windows + LIBRARIES > memory.free(device):
            needed += self._network
        yield device, needed

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
        with torch.no_grad():
            peak = memory.peak_of(
                lambda: without_values(self.experiment.network), lambda network: network.eval()(torch.empty(shape))
            )
        return int(WORKSPACE * peak) + LIBRARIES
