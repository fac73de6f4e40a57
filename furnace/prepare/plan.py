"""A plan says what preparing a data set will do before anything is written: which images and masks go where."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from furnace.data.datasets import Dataset
from furnace.data.entries import FILE, columns
from furnace.errors import InputError
from furnace.prepare.sources import File, Source

NAMED = 5  # how many missing files a warning names
RATIOS = (16, 8, 4, 2)  # labelled lists that are drawn if none are asked for


class Pair(NamedTuple):
    """One image, its mask if it has one, and the paths below the data set's folder that both go to."""

    image: File
    image_to: str
    mask: File | None = None
    mask_to: str = ""


@dataclass(frozen=True)
class Plan:
    """Everything that preparing a data set will do.

    Attributes:
        indices: turns a mask file's content and name into class indices, (H, W) uint8.
        extra: the images without masks.
        warnings: what is missing or differs from the official download, one line for each.
        notes: what the source was taken for, what decides which images train, and what is left out, one line for each.
        meaning: what decides how `indices` reads masks, as text; masks that were written by another are not taken.
        declares_itself: whether the data set needs a `dataset.json`, because the program does not know it.
    """

    dataset: Dataset
    train: Sequence[Pair]
    val: Sequence[Pair]
    indices: Callable[[bytes, str], np.ndarray]
    extra: Sequence[Pair] = ()
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()
    meaning: str = ""
    declares_itself: bool = False

    @property
    def pairs(self) -> list[Pair]:
        """All images: those that train, those that validate, and those without masks."""
        return [*self.train, *self.val, *self.extra]


def require_possible(plan: Plan) -> None:
    """Checks that a plan can be carried out.

    Raises:
        InputError: there is nothing to train with, or no list can hold a name.
    """
    if not plan.train:
        raise InputError(
            "nothing to train with: expected images with masks, found none; "
            "get what the warnings say is missing, or name another source"
        )
    for pair in plan.pairs:
        name = pair.image_to
        if any(sign in name for sign in "\n\r") or not _is_utf8(name) or columns(name) != [name]:
            raise InputError(
                f"name not usable in a list: {str(pair.image).encode(errors='replace').decode()!r}: "
                "expected UTF-8 without tabs and line ends, and not the names of two files; rename the file"
            )


def usual_ratios(with_extra: bool) -> tuple[int, ...]:
    """Returns the ratios of labelled lists to draw: where there are images without masks, 1 too, all masks labelled."""
    return (1, *RATIOS) if with_extra else RATIOS


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes of another encoding, which Python carries as lone surrogates
        return False
    return True


def pictures_below(source: Source, folder: str, ending: str = "") -> Iterator[tuple[PurePosixPath, File]]:
    """Yields the images or masks below `folder`, each after its path from there without `ending` and file format.

    Files whose names do not end with `ending`, or consist of it alone, are left out.
    """
    for name in source.names(folder):
        path = PurePosixPath(name).relative_to(folder)
        stem = path.stem.removesuffix(ending)
        if FILE.fullmatch(name) and is_shown(name) and path.stem.endswith(ending) and stem:
            yield path.with_name(stem), File(source, name)


def files_by_stem(source: Source, folder: str, ending: str = "") -> dict[str, File]:
    """Returns the images or masks below `folder` by their names, without folders, `ending` and file format."""
    return {path.name: file for path, file in pictures_below(source, folder, ending)}


def is_shown(name: str) -> bool:
    """Returns False for files that other systems leave behind: `.DS_Store`, `._photo.jpg`, `__MACOSX/`."""
    return not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)


def paired(
    names: Sequence[str], images: Mapping[str, File], masks: Mapping[str, File], part: str
) -> tuple[list[tuple[str, File, File]], list[str]]:
    """Finds the image and the mask of each name.

    Args:
        part: what warnings call these names, such as `train`.

    Returns:
        Name, image and mask of every name that has both, and warnings about the names that have not.
    """
    both = [(name, images[name], masks[name]) for name in names if name in images and name in masks]
    warnings = [
        *missing([name for name in names if name not in images], f"{part}: images missing"),
        *missing([name for name in names if name in images and name not in masks], f"{part}: masks missing"),
    ]
    return both, warnings


def missing(names: Sequence[str], what: str) -> list[str]:
    """Returns one warning that counts and names what is missing, or none if nothing is."""
    if not names:
        return []
    return [f"{what}: {len(names)}: {', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''}"]


def compare_counts(train: int, val: int, official: tuple[int, int]) -> list[str]:
    """Returns warnings where the numbers of images differ from those of the official data set.

    Args:
        official: how many images train and how many validate.
    """
    counts = zip(("training", "validation"), (train, val), official, strict=True)
    return [
        f"{found:,} {part} images, the official data set has {expected:,}"
        for part, found, expected in counts
        if found != expected
    ]
