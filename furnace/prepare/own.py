"""Plans for own data: a folder of images, a folder of masks of the same names, and a file that names the classes."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from furnace.data.datasets import Dataset
from furnace.data.declaration import LISTS
from furnace.data.splits import draw_split
from furnace.errors import InputError
from furnace.prepare.classes import read_classes
from furnace.prepare.plan import Pair, Plan, missing, pictures_below
from furnace.prepare.sources import File, Unpack, locate, require


@dataclass(frozen=True)
class OwnData:
    """Where own data lies in its source, and how it is to be read.

    Attributes:
        images: the folder of images in the source.
        masks: the folder of masks in the source; it may be the same.
        classes: the classes file.
        mask_ending: what the name of a mask has behind that of its image: `_mask` if `a_mask.png` belongs to `a.jpg`.
        ignored: values of masks that are no class.
        val: one of so many images with masks validates, unless the images lie in folders `train` and `val`.
        seed: decides which images validate.
    """

    images: str
    masks: str
    classes: Path
    mask_ending: str
    ignored: tuple[int, ...]
    val: int
    seed: int


def plan_folder(place: Path, name: str, own: OwnData, unpack: Unpack) -> Plan:
    """Pairs images and masks of the same names, at any depth; images without a mask are unlabelled.

    Args:
        place: the source.
        name: what the data set is called.
        unpack: unpacks a compressed tar file.

    Raises:
        InputError: the classes file is wrong, a folder is not found, two files have one name, or fewer than two images
            have masks.
    """
    classes, palette, code = read_classes(own.classes, own.ignored)
    masks = _files(place, _folder(own.masks, "masks"), own.mask_ending, unpack)
    files = _files(place, _folder(own.images, "images"), "", unpack)
    are_masks = {str(mask) for mask in masks.values()}  # they may lie in one folder with the images
    images = {key: file for key, file in files.items() if str(file) not in are_masks}
    both = [key for key in images if key in masks]
    if len(both) < 2:
        raise InputError(
            f"expected two images with masks or more, found {len(both)}: in {place} images are named like "
            f"{next(iter(images), '(none)')}, masks like {next(iter(masks), '(none)')}; "
            "set --images, --masks or --mask-ending"
        )
    val = _validating(both, own)
    return Plan(
        dataset=Dataset(
            name=name,
            folder=name,
            classes=classes,
            palette=palette,
            train_list=LISTS["train"],
            labeled_list=LISTS["labeled"],
            unlabeled_list=LISTS["unlabeled"],
            extra_list=LISTS["extra"],
            val_list=LISTS["val"],
        ),
        train=[_pair(key, images, masks) for key in both if key not in val],
        val=[_pair(key, images, masks) for key in both if key in val],
        extra=[_pair(key, images, {}) for key in images if key not in masks],
        indices=code.indices,
        warnings=missing([key for key in masks if key not in images], "masks without an image"),
        declares_itself=True,
    )


def _folder(name: str, option: str) -> str:
    """Returns a folder of the source as `locate` wants it, where "" stands for the source itself.

    Raises InputError if it leads out of the source; `option` is the one that named it.
    """
    folder = PurePosixPath(name)
    if folder.is_absolute() or ".." in folder.parts:
        raise InputError(f"--{option}: expected a folder in SOURCE, found {name}; give its path from there")
    return "/".join(folder.parts)


def _files(place: Path, folder: str, ending: str, unpack: Unpack) -> dict[str, File]:
    """Returns the images or masks below `folder` by their paths from there, without `ending` and file format.

    Systems write a letter such as an umlaut as one character or as two. Here both are the same name (Unicode's NFC).
    """
    source = require(locate(place, folder, unpack), place, folder)
    found: dict[str, File] = {}
    for path, file in pictures_below(source, folder, ending):
        key = unicodedata.normalize("NFC", path.as_posix())
        if key in found:
            raise InputError(f"two files of one name: {found[key]} and {file}; rename one")
        found[key] = file
    return found


def _pair(key: str, images: dict[str, File], masks: dict[str, File]) -> Pair:
    image_to = f"images/{key}{PurePosixPath(images[key].name).suffix}"
    return Pair(images[key], image_to, masks[key], f"labels/{key}.png") if key in masks else Pair(images[key], image_to)


def _validating(keys: list[str], own: OwnData) -> set[str]:
    """Returns the keys in the folder `val` if all lie in `train` or `val`; else draws one of every `own.val` keys."""
    tops = {key.split("/")[0] for key in keys if "/" in key}
    if tops == {"train", "val"} and all("/" in key for key in keys):
        return {key for key in keys if key.startswith("val/")}
    return set(draw_split(sorted(keys), own.val, own.seed)[0])
