"""Reads the pictures of a few validation images that an evaluation wrote.

furnace/evaluation/gallery.py says which files these are and what they hold.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from furnace.errors import InputError
from furnace.evaluation.gallery import FOLDER, ShownImage
from furnace.report.embedded import Picture, file_picture
from furnace.report.runs import Run

EPOCH_FOLDER = re.compile(r"epoch(\d{1,9})")


@dataclass(frozen=True)
class GalleryImage:
    """One validation image of the gallery."""

    name: str
    disagreement: float  # the share of its pixels on which the networks disagree, from 0 to 1
    pictures: list[tuple[str, Picture]]  # each with its caption


def read_gallery(run: Run, most: int) -> tuple[int, list[GalleryImage]]:
    """Reads the gallery of the last epoch that has one; what is missing or damaged is added to the run's problems.

    Returns:
        The epoch, 0 if there is no gallery, and at most `most` images in their order.
    """
    folder = run.path / FOLDER
    epochs = [int(match[1]) for path in folder.glob("epoch*") if (match := EPOCH_FOLDER.fullmatch(path.name))]
    if not epochs:
        return 0, []
    epoch = max(epochs)
    shown = list(_shown(run, folder / f"epoch{epoch}"))
    return epoch, [GalleryImage(one.name, one.disagreement, list(_pictures(run, one))) for one in shown[:most]]


def _shown(run: Run, folder: Path) -> Iterator[ShownImage]:
    for path in sorted(folder.glob("*.json"), key=lambda path: (len(path.name), path.name)):
        try:
            yield ShownImage.read(path)
        except InputError:
            run.problems.append(f"damaged file: {path.relative_to(run.path)}: evaluate again")


def _pictures(run: Run, shown: ShownImage) -> Iterator[tuple[str, Picture]]:
    """Yields the pictures of one validation image and their captions."""
    for caption, path in shown.cells:
        if picture := file_picture(path, f"{caption} of {shown.name}"):
            yield caption, picture
        else:
            run.problems.append(f"picture missing or damaged: {path.relative_to(run.path)}")
