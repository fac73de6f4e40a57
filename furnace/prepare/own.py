"""Own data: a folder of images, a folder of masks of the same names, and a file that names the classes."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from furnace.data.datasets import FILE, Dataset
from furnace.data.declaration import LISTS
from furnace.data.splits import draw_split
from furnace.errors import InputError
from furnace.prepare.classes import read_classes
from furnace.prepare.plan import Pair, Plan, is_shown, missing, require
from furnace.prepare.sources import File, Unpack, locate


@dataclass(frozen=True)
class OwnData:
    """How own data lies.

    Attributes:
        mask_ending: what a mask's name has behind its image's: `_mask` for `a_mask.png` of `a.jpg`.
        ignored: values of masks that are no class.
        val: one of so many images with masks validates, where there are no folders `train` and `val`.
    """

    images: str
    masks: str
    classes: Path
    mask_ending: str
    ignored: tuple[int, ...]
    val: int
    seed: int


def plan_folder(place: Path, name: str, own: OwnData, unpack: Unpack) -> Plan:
    """Images and masks of the same names, at any depth; images without a mask are unlabelled."""
    classes, palette, code = read_classes(own.classes, own.ignored)
    masks = _files(place, _folder(own.masks, "masks"), own.mask_ending, unpack)
    files = _files(place, _folder(own.images, "images"), "", unpack)
    are_masks = {str(mask) for mask in masks.values()}  # in one folder with the images
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
            **{f"{role}_list": pattern for role, pattern in LISTS.items()},
        ),
        train=[_pair(key, images, masks) for key in both if key not in val],
        val=[_pair(key, images, masks) for key in both if key in val],
        extra=[_pair(key, images, {}) for key in images if key not in masks],
        indices=code.indices,
        warnings=missing([key for key in masks if key not in images], "masks without an image"),
        declares_itself=True,
    )


def _folder(name: str, option: str) -> str:
    """A folder of the source as `locate` wants it: the source itself, `.`, is nothing."""
    folder = PurePosixPath(name)
    if folder.is_absolute() or ".." in folder.parts:
        raise InputError(f"--{option}: expected a folder in SOURCE, found {name}; give its path from there")
    return "/".join(folder.parts)


def _files(place: Path, folder: str, ending: str, unpack: Unpack) -> dict[str, File]:
    """Files by their path below `folder` without endings; letters composed of two signs count as one (NFC)."""
    source = require(locate(place, folder, unpack), place, folder)
    found: dict[str, File] = {}
    for name in source.names(folder):
        path = PurePosixPath(name).relative_to(folder)
        if not FILE.fullmatch(name) or not is_shown(name) or not path.stem.endswith(ending):
            continue
        key = unicodedata.normalize("NFC", path.with_name(path.stem.removesuffix(ending)).as_posix())
        if key in found:
            raise InputError(f"two files of one name: {found[key]} and {File(source, name)}; rename one")
        found[key] = File(source, name)
    return found


def _pair(key: str, images: dict[str, File], masks: dict[str, File]) -> Pair:
    image_to = f"images/{key}{PurePosixPath(images[key].name).suffix}"
    return Pair(images[key], image_to, masks[key], f"labels/{key}.png") if key in masks else Pair(images[key], image_to)


def _validating(keys: list[str], own: OwnData) -> set[str]:
    """Those in the folder `val` if all lie in `train` and `val`, else one of `own.val`, drawn."""
    tops = {key.split("/")[0] for key in keys if "/" in key}
    if tops == {"train", "val"} and all("/" in key for key in keys):
        return {key for key in keys if key.startswith("val/")}
    return set(draw_split(sorted(keys), own.val, own.seed)[0])
