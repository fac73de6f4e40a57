"""Which images train, which validate and which are left out: what folders and lists of names say, or a draw."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress
from pathlib import PurePosixPath

from furnace.data.entries import ENDINGS, columns
from furnace.data.splits import draw_labeled
from furnace.errors import InputError
from furnace.prepare.plan import is_shown
from furnace.prepare.sources import File

Part = tuple[str, str]  # train, val or test, and the folder or list that says so, such as `valid` or `val.txt`
VAL = 5  # one of so many images with masks validates where nothing says which do
TRAIN: Part = ("train", "")  # the part of an image that nothing gives one
FILE_ENDING = re.compile(f"{ENDINGS}$", re.IGNORECASE)
PART_NAMES = {"train": "train|training", "val": "val|valid|validation|dev", "test": "test|testing"}
BEHIND_PART = r"(?:[-_ ]?(?:set|data|images?|imgs?|split|\d+))?"  # train2017, test_set
LISTS = (".txt", ".lst", ".csv")
WORDS = {  # in names of folders that are nearly those of parts, such as `roads_test`, `01_train`, `valid `
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev", "eval", "evaluation"), "val"),
    **dict.fromkeys(("test", "testing", "holdout"), "test"),
}
PART = re.compile("|".join(f"(?P<{part}>(?:{names}){BEHIND_PART})" for part, names in PART_NAMES.items()), re.I)


def part_of(key: str) -> Part | None:
    """Returns `train`, `val` or `test`, and the folder of a path that says so; None if none does."""
    for folder in key.split("/")[:-1]:
        if match := PART.fullmatch(folder):
            return str(match.lastgroup), folder
    return None


def _nearly(name: str) -> str | None:
    """Returns the part that a word of a folder's or file's name says; None if none does, or it may be two."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    parts = {WORDS[word.lower()] for word in words if word.lower() in WORDS}
    if "train" in parts:
        return "train" if len(parts) == 1 else None
    return "test" if "test" in parts else next(iter(parts), None)


def _nearly_parts(keys: Iterable[str]) -> dict[str, Part]:
    """Returns the parts that folders nearly name, without those folders that all images lie in."""
    folders = {key: key.split("/")[:-1] for key in keys}
    shared = set.intersection(*map(set, folders.values())) if folders else set()
    return {
        key: (part, folder)
        for key, names in folders.items()
        for folder in reversed(names)  # the first of those that say something counts
        if folder not in shared and (part := _nearly(folder))
    }


def parts_of(images: Mapping[str, File], files: Sequence[File]) -> dict[str, Part]:
    """Returns `train`, `val` or `test` for images, and what says so: a folder, or a list such as `val.txt`.

    Folders that nearly have the names of parts count where there are two different parts.

    Raises:
        InputError: an image is in the lists of two parts.
    """
    listed: dict[str, list[tuple[str, str, File]]] = {}  # by an image's name: with its folders, the part, the list
    stems = {key.rpartition("/")[2] for key in images}
    for part, file in _lists(files):
        for line in file.read().decode("utf-8-sig", errors="replace").splitlines():
            name = FILE_ENDING.sub("", columns(line.strip())[0])
            if name.rpartition("/")[2] not in stems:  # a name before other columns
                name = FILE_ENDING.sub("", re.split(r"[\s,;]", line.strip(), maxsplit=1)[0])
            listed.setdefault(name.rpartition("/")[2], []).append((f"/{name}", part, file))
    parts: dict[str, Part] = {}
    for key, image in images.items():
        if by_folder := part_of(key):
            parts[key] = (by_folder[0], (part_of(image.name) or by_folder)[1])
            continue
        found = [
            (part, PurePosixPath(file.name).name)
            for name, part, file in listed.get(key.rpartition("/")[2], ())
            if name.endswith(f"/{key}") or f"/{key}".endswith(name)
        ]
        if len({part for part, _ in found}) > 1:
            raise InputError(f"{image} is in {found[0][1]} and in {found[-1][1]}: expected one part; mend the lists")
        if found:
            parts[key] = found[0]
    together = {**_nearly_parts(images), **parts}
    return together if len({part for part, _ in together.values()}) > 1 else parts


def _lists(files: Iterable[File]) -> Iterator[tuple[str, File]]:
    """Yields the text files that are named as a part is, such as `ImageSets/Segmentation/val.txt`."""
    for file in files:
        if part := listed_part(file.name):
            yield part, file


def listed_part(name: str) -> str | None:
    """Returns the part of which a file lists images, by its name; None if it is no such list."""
    path = PurePosixPath(name)
    part = part_of(f"{path.stem}/") if path.suffix.lower() in LISTS and is_shown(name) else None
    return part[0] if part else None


def parted(
    images: Mapping[str, File], masks: Mapping[str, File], parts: Mapping[str, Part], val_ratio: int | None, seed: int
) -> tuple[list[str], list[str], list[str]]:
    """Returns which images with masks train and which validate, and what is to be said of it.

    What names parts decides. If nothing does, one of so many images with masks is drawn.

    Args:
        images: images by their keys.
        masks: masks by the keys of their images.
        parts: what `parts_of` returns.
        val_ratio: one of so many is drawn; None if the user has no wish.
        seed: decides which are.

    Raises:
        InputError: something says which images test, or validate without masks, and nothing which validate; or it says
            so against the user's wish to draw.
    """
    keys: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for key in images:
        keys[parts.get(key, TRAIN)[0]].append(key)
    train, val = ([key for key in keys[part] if key in masks] for part in ("train", "val"))
    says = dict(parts.values())
    notes = [f"{len(keys['test']):,} images in {says['test']} are left out"] if keys["test"] else []
    if without := len(keys["val"]) - len(val):
        notes.append(f"{without:,} images in {says['val']} have no masks and are left out")
    if val:
        if val_ratio is not None:
            raise InputError(f"--val: the {len(val)} images with masks in {says['val']} validate; leave it out")
        return train, val, [*notes, f"{len(val):,} images in {says['val']} validate, {len(train):,} with masks train"]
    if says.keys() - {"train"} and val_ratio is None:
        raise InputError(
            f"no images with masks in val, but there is {says.get('val', says.get('test'))}: expected folders that say "
            f"which images validate; name one val, or draw one of {VAL} that train with --val {VAL}"
        )
    train_sorted = sorted(train)
    drawn = set(compress(train_sorted, draw_labeled(len(train), val_ratio or VAL, seed)))
    notes.append(f"{len(drawn):,} of {len(train):,} images with masks are drawn to validate")
    named = {part for key in images if (part := _nearly(re.split(r"[^A-Za-z]", key.rpartition("/")[2])[0]))}
    if not says and len(named) > 1:
        notes.append(f"images' names begin with {', '.join(sorted(named))}: this decides nothing, only folders do")
    return [key for key in train if key not in drawn], [key for key in train if key in drawn], notes
