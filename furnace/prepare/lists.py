"""Draws labelled and unlabelled lists from a training list, and writes them."""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from furnace.data.datasets import Dataset
from furnace.data.entries import Split, columns
from furnace.data.file_list import FileList
from furnace.data.images import values_in
from furnace.data.splits import cover_classes, draw_labeled
from furnace.engine.files import sha256, write_lines
from furnace.errors import InputError
from furnace.labels import IGNORE
from furnace.prepare.parallel import Progress, map_numbers


def write_splits(
    dataset: Dataset, folder: Path, lists: Path, ratios: Iterable[int], seed: int, first: Sequence[int], replace: bool
) -> list[tuple[Path, int, str]]:
    """Draws the labelled images from the training list, and writes a labelled and an unlabelled list for each ratio.

    Images that never had a label (`dataset.extra_list`) stand at the end of every unlabelled list. With ratio 1 they
    are all that is in it, and without any of them it is empty.

    Args:
        folder: the data set's folder.
        lists: the folder below which the lists go; it may be the data set's.
        ratios: the numbers N for which one of N images is labelled.
        first: entries of the training list, by number, that are labelled before any other is drawn.
        replace: whether lists that are there are written anew.

    Returns:
        The path of each list, its number of entries, and its SHA-256 in hexadecimal.

    Raises:
        InputError: there is no training list, or one of the splits cannot be drawn, or one of its lists is there. In
            all of these cases nothing is written.
    """
    train = _training_list(dataset, folder)
    extra = folder / dataset.extra_list
    never_labeled = FileList(extra) if extra.is_file() else ()
    draws = {ratio: draw_labeled(len(train), ratio, seed, first) for ratio in ratios}  # bool (images,)
    patterns = (dataset.labeled_list, dataset.unlabeled_list)
    paths = {ratio: [lists / pattern.format(ratio=ratio) for pattern in patterns] for ratio in draws}
    for ratio, chosen in draws.items():
        _require_possible(ratio, chosen, len(first), len(never_labeled))
        for path in paths[ratio]:
            if path.exists() and not replace:
                raise InputError(f"list exists: {path}: a split is drawn once; add --replace to write it anew")
    written = []
    for ratio, chosen in draws.items():
        labeled, unlabeled = paths[ratio]
        write_lines(labeled, (train[index] for index in np.flatnonzero(chosen).tolist()))
        images = (columns(train[index])[0] for index in np.flatnonzero(~chosen).tolist())
        write_lines(unlabeled, chain(images, never_labeled))
        count = int(chosen.sum())
        counts = (count, len(train) - count + len(never_labeled))
        written += [(path, count, sha256(path)) for path, count in zip(paths[ratio], counts, strict=True)]
    return written


def _require_possible(ratio: int, chosen: np.ndarray, first: int, never_labeled: int) -> None:
    """Raises InputError if the share is less than an image, or less than come first, or leaves none unlabelled."""
    labeled, images = chosen.sum(), len(chosen)
    if first > labeled:
        raise InputError(
            f"ratio: 1/{ratio} of {images} images are {labeled}, but it takes {first} to show every class; "
            "choose a smaller ratio, or leave --every-class out"
        )
    if labeled == images and not never_labeled and ratio > 1:
        raise InputError(
            f"ratio: 1/{ratio} of {images} images are {labeled}, which leaves none unlabelled; "
            "choose ratio 1, or get more images"
        )
    if images < ratio:
        raise InputError(
            f"ratio: 1/{ratio} of {images} images is less than one; choose {images} or less, or get more images"
        )


def images_that_show_every_class(
    dataset: Dataset, folder: Path, seed: int, processes: int, progress: Progress
) -> list[int]:
    """Returns a few entries of the training list, by number, whose masks together show every class that any mask shows.

    Args:
        folder: the data set's folder.
        seed: decides between masks that show equally many classes.
        progress: shows how many masks are read.

    Raises:
        InputError: there is no training list, or one of its masks cannot be read.
    """
    split = Split(dataset, folder, _training_list(dataset, folder), dataset.train_folder)

    def shown(index: int) -> set[int]:
        return set(values_in(split.label(index))) - {IGNORE}

    count = len(split.files)
    classes_shown = list(progress(map_numbers(shown, count, processes), total=count))
    return cover_classes(classes_shown, np.random.default_rng(seed).permutation(count).tolist())


def _training_list(dataset: Dataset, folder: Path) -> FileList:
    """Returns the list of every image that has a label; raises InputError if it is missing."""
    path = folder / dataset.train_list
    if not path.is_file():
        raise InputError(
            f"training list not found: {path}: expected every training image with its label, one a line; "
            "let `python -m furnace prepare` write it"
        )
    return FileList(path)
