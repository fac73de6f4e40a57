"""Decides which images of a training set are labelled, and checks that two lists share none."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from furnace.data.entries import Split, columns


def draw_labeled(count: int, ratio: int, seed: int, first: Sequence[int] = ()) -> np.ndarray:
    """Draws uniformly which of `count` images are labelled: count // ratio of them, one at least.

    With the same seed, the images of a larger ratio are among those of a smaller one.

    Args:
        first: numbers of images that are labelled before any other is drawn.

    Returns:
        (count,) bool, True where an image is labelled.
    """
    order = np.random.default_rng(seed).permutation(count)
    if len(first):
        order = np.concatenate([first, order[~np.isin(order, first)]])
    chosen = np.zeros(count, dtype=bool)
    chosen[order[: max(1, count // ratio)]] = True
    return chosen


def cover_classes(classes_shown: Sequence[set[int]], order: Iterable[int]) -> list[int]:
    """Chooses a few images that together show every class that any image shows.

    Each image that it chooses adds the most classes that are still missing. Of several that add equally many, it
    chooses the first in `order`.

    Args:
        classes_shown: the classes that each image shows.
        order: numbers of images.

    Returns:
        The numbers of the chosen images, in the order of their choice.
    """
    order, missing, first = list(order), set().union(*classes_shown), []
    while missing:
        first.append(max(order, key=lambda index: len(missing & classes_shown[index])))
        missing -= classes_shown[first[-1]]
    return first


def may_be_empty(role: str, ratio: int | str) -> bool:
    """Returns whether a list may name no image: only the unlabelled one may, where all images are labelled.

    Args:
        role: `labeled`, `unlabeled` or another.
        ratio: the N of 1/N images that are labelled, as a number or as it stands in a list's name.
    """
    return role == "unlabeled" and str(ratio) == "1"


def first_in_both(labeled: Split, unlabeled: Split) -> Path | None:
    """Returns the first image of the unlabelled list that is in the labelled list too, or None if there is none.

    The lists may have millions of entries: they are compared by file names first, and by whole paths only where names
    are equal.
    """
    names = {_name(entry) for entry in labeled.files}
    suspects = {index: _name(entry) for index, entry in enumerate(unlabeled.files) if _name(entry) in names}
    if not suspects:
        return None
    shared = set(suspects.values())
    paths = {labeled.image_path(index) for index, entry in enumerate(labeled.files) if _name(entry) in shared}
    return next((path for index in suspects if (path := unlabeled.image_path(index)) in paths), None)


def _name(entry: str) -> str:
    """Returns the name of an entry's image, without folders and ending."""
    return columns(entry)[0].rsplit("/", 1)[-1].partition(".")[0]
