"""What preparing a data set will do, known before anything is written: which images, which masks, and where they go."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from furnace.data.datasets import FILE, Dataset, columns
from furnace.errors import InputError
from furnace.prepare.sources import File, Source

NAMED = 5  # missing files that a warning names


class Pair(NamedTuple):
    """One image, with its mask where it has one, and where both go below the data set's folder."""

    image: File
    image_to: str
    mask: File | None = None
    mask_to: str = ""


@dataclass(frozen=True)
class Plan:
    """Everything that preparing a data set will do.

    Attributes:
        indices: a mask file's content and name to class indices (H, W) uint8.
        extra: images without masks.
        warnings: what differs from the official download, a line each.
        declares_itself: whether the data set needs a `dataset.json`.
    """

    dataset: Dataset
    train: Sequence[Pair]
    val: Sequence[Pair]
    indices: Callable[[bytes, str], np.ndarray]
    extra: Sequence[Pair] = ()
    warnings: Sequence[str] = ()
    declares_itself: bool = False

    @property
    def pairs(self) -> list[Pair]:
        return [*self.train, *self.val, *self.extra]


def require_possible(plan: Plan, ratios: Sequence[int]) -> None:
    """InputError if there is nothing to train with, nothing left unlabelled, or a name that no list can hold."""
    if not plan.train:
        raise InputError(
            "nothing to train with: expected images with masks, found none; "
            "get what the warnings say is missing, or name another source"
        )
    if 1 in ratios and not plan.extra:
        raise InputError("ratios: 1 leaves no image unlabelled, and every image here has a mask; leave it out")
    for pair in plan.pairs:
        name = pair.image_to
        if any(sign in name for sign in "\n\r") or not _is_utf8(name) or columns(name) != [name]:
            raise InputError(
                f"name not usable in a list: {str(pair.image).encode(errors='replace').decode()!r}: "
                "expected UTF-8 without tabs and line ends, and not the names of two files; rename the file"
            )


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes of another encoding, which Python carries as lone surrogates
        return False
    return True


def require(source: Source | None, place: Path, expected: str) -> Source:
    """`source` itself, InputError if nothing was found."""
    if source is None:
        raise InputError(f"not found in {place}: expected {expected} in a folder or an archive; name the download")
    return source


def files_by_stem(source: Source, folder: str, ending: str = "") -> dict[str, File]:
    """The images or masks below `folder` by their names without `ending` and without the file format's."""
    files = (File(source, name) for name in source.names(folder) if is_shown(name))
    stems = ((PurePosixPath(file.name).stem, file) for file in files if FILE.fullmatch(file.name))
    return {stem.removesuffix(ending): file for stem, file in stems if stem.endswith(ending)}


def is_shown(name: str) -> bool:
    """False for the files that other systems leave behind: `.DS_Store`, `._photo.jpg`, `__MACOSX/`."""
    return not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)


def paired(
    names: Sequence[str], images: Mapping[str, File], masks: Mapping[str, File], part: str
) -> tuple[list[tuple[str, File, File]], list[str]]:
    """Name, image and mask of every name that has both, and warnings of the names that have not."""
    both = [(name, images[name], masks[name]) for name in names if name in images and name in masks]
    warnings = [
        *missing([name for name in names if name not in images], f"{part}: images missing"),
        *missing([name for name in names if name in images and name not in masks], f"{part}: masks missing"),
    ]
    return both, warnings


def missing(names: Sequence[str], what: str) -> list[str]:
    """A warning that counts and names what is missing; none if nothing is."""
    if not names:
        return []
    return [f"{what}: {len(names)}: {', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''}"]


def compare_counts(train: int, val: int, official: tuple[int, int]) -> list[str]:
    """Warnings where the numbers of images differ from those of the official data set."""
    counts = zip(("training", "validation"), (train, val), official, strict=True)
    return [
        f"{found:,} {part} images, the official data set has {expected:,}"
        for part, found, expected in counts
        if found != expected
    ]
