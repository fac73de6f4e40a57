"""How many pixels the labellers are sure enough of: counted by class in a step, told as shares of an epoch's pixels.

N is the number of classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from furnace.evaluation.metrics import confusion_matrix
from furnace.labels import IGNORE

CONFIDENT = "confident"  # a column of metrics.csv; with _ and a class's name behind it, that class's


def count_confident(pseudo_labels: Sequence[Tensor], likeliest: Sequence[Tensor], num_classes: int) -> Tensor:
    """Counts the pixels of both labellers by their likeliest class, without waiting for the device.

    Args:
        pseudo_labels: two label maps (B, H, W) uint8, with IGNORE where the labeller is not sure enough.
        likeliest: the same maps with a class at every pixel.
        num_classes: N, at least 2.

    Returns:
        (N, 2) int64: for each class, its pixels that are ignored and those that are learned from.
    """
    learned = torch.stack(list(pseudo_labels)) != IGNORE  # (2, B, H, W)
    # The matrix has a row for each class. Of its columns only those of False and True are used.
    return confusion_matrix(learned, torch.stack(list(likeliest)), num_classes)[:, :2]


def shares(counts: Sequence[float], classes: Sequence[str]) -> dict[str, float | str]:
    """Returns which share of the pixels is learned from, over all and of each class, by the names of columns.

    Args:
        counts: 2 N numbers: sums, or means over processes, of what `count_confident` returns, row after row. If there
            are none, nothing was counted, and there are no columns.
        classes: their N names.

    Returns:
        Shares from 0 to 1; an empty text where no pixel was counted.
    """
    if not counts:
        return {}
    ignored, learned = counts[::2], counts[1::2]
    by_class = {f"{CONFIDENT}_{name}": _share(*pair) for name, *pair in zip(classes, ignored, learned, strict=True)}
    return {CONFIDENT: _share(sum(ignored), sum(learned)), **by_class}


def _share(ignored: float, learned: float) -> float | str:
    return learned / (ignored + learned) if ignored + learned else ""
