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
    epoch = _last_epoch(run)
    if not epoch:
        return 0, []
    shown = list(_shown(run, run.path / FOLDER / f"epoch{epoch}"))
    return epoch, [GalleryImage(one.name, one.disagreement, list(_pictures(run, one))) for one in shown[:most]]


def gallery_bytes(run: Run, most: int) -> int:
    """Returns about how many bytes the files of the pictures have that `read_gallery` reads."""
    files = list((run.path / FOLDER / f"epoch{_last_epoch(run)}").glob("*"))
    images = sum(path.suffix == ".json" for path in files)
    share = min(1.0, most / max(1, images))
    return int(share * sum(path.stat().st_size for path in files if path.is_file()))


def _last_epoch(run: Run) -> int:
    """Returns the last epoch that has a gallery, 0 if none has."""
    names = (EPOCH_FOLDER.fullmatch(path.name) for path in (run.path / FOLDER).glob("epoch*"))
    return max((int(match[1]) for match in names if match), default=0)


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
