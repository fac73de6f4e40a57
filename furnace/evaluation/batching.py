"""Puts images together whose windows fill one batch of a network.

H and W are an image's size.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from torch import Tensor

from furnace.evaluation.room import Room
from furnace.evaluation.sliding_window import Size

# An image's number, the image (H, W, 3) uint8, its label (H, W) uint8.
Entry = tuple[int, Tensor, Tensor]


def in_groups(entries: Iterable[Entry], room: Room, path_of: Callable[[int], Path]) -> Iterator[list[Entry]]:
    """Yields the entries in their order, in lists of those that are scored at once.

    A list ends before the image whose windows would not fit into one batch any more, or for which there is no room
    beside the others. Where a batch is one window, as on a CPU, every image is alone, and is yielded before the next
    one is read.

    Args:
        entries: images with their numbers and labels.
        room: says whether there is memory, and has the sliding window that scores the images.
        path_of: maps an image's number to its file, which an error names.

    Raises:
        InputError: there is no room for an image even alone.
    """
    most = room.window.window_batch
    group: list[Entry] = []
    sizes: list[Size] = []
    windows = 0
    for entry in entries:
        number, image, _ = entry
        size = (image.shape[0], image.shape[1])
        room.require(path_of(number), *size)
        more = room.window.windows_of(size)
        if group and (windows + more > most or not room.holds([*sizes, size])):
            yield group
            group, sizes, windows = [], [], 0
        group.append(entry)
        sizes.append(size)
        windows += more
        if windows >= most:
            yield group
            group, sizes, windows = [], [], 0
    if group:
        yield group
