"""Plans for own data: images, masks whose names tell which image they belong to, and what names the classes."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from furnace.data.datasets import Dataset
from furnace.data.declaration import LISTS
from furnace.data.decoding import decode_mask
from furnace.data.entries import FILE
from furnace.data.file_list import spread
from furnace.data.images import values_in, without_channels
from furnace.errors import InputError
from furnace.labels import IGNORE
from furnace.prepare.archives import ARCHIVE_ENDINGS
from furnace.prepare.classes import FILE_NAMES, Classes, find_classes, read_classes
from furnace.prepare.layouts import Layout
from furnace.prepare.masks import MaskCode
from furnace.prepare.pairing import OwnData, find_layout, kind_of
from furnace.prepare.parts import TRAIN, Part, listed_part, parted, parts_of
from furnace.prepare.plan import Pair, Plan, is_shown, missing
from furnace.prepare.sources import File, Folder, Unpack

LOOKED_AT = 32  # masks that are opened before anything is written


def plan_folder(place: Path, name: str, own: OwnData, unpack: Unpack) -> Plan:
    """Pairs images and masks in one of the known forms; images without a mask are unlabelled.

    Args:
        place: the source.
        name: what the data set is called.
        unpack: unpacks a compressed tar file.

    Raises:
        InputError: the classes are not named or not understood, the form is not known, two files have one name, fewer
            than two images have masks, or folders say which images test but not which validate.
    """
    layout, files = find_layout(place, own, unpack)
    classes_file = own.classes or _classes_file(files, place)
    classes = read_classes(classes_file, own.ignored)
    images, notes = _without_derived(layout)
    masks = layout.masks
    parts = parts_of(images, files)
    train, val, part_notes = parted(images, masks, parts, own.val, own.seed)
    code, code_notes = _code(classes, own, [masks[key] for key in (*train, *val)])
    extra = [key for key in images if key not in masks and parts.get(key, TRAIN)[0] == "train"]
    endings = Counter(PurePosixPath(images[key].name).suffix for key in (*train, *val, *extra))
    return Plan(
        dataset=Dataset(
            name=name,
            folder=name,
            classes=classes.names,
            palette=classes.palette,
            train_list=LISTS["train"],
            labeled_list=LISTS["labeled"],
            unlabeled_list=LISTS["unlabeled"],
            extra_list=LISTS["extra"],
            val_list=LISTS["val"],
            name_image=f"images/{{name}}{max(endings, key=endings.__getitem__, default='')}",
            name_label="labels/{name}.png",
        ),
        train=[_pair(key, images, masks) for key in train],
        val=[_pair(key, images, masks) for key in val],
        extra=[_pair(key, images, {}) for key in extra],
        indices=code.indices,
        warnings=missing([key for key in masks if key not in layout.images], "masks without an image"),
        notes=[
            layout.meaning,
            classes.meaning,
            *code_notes,
            *part_notes,
            *notes,
            *_left_out(files, layout, classes_file, parts),
        ],
        meaning=repr((classes.names, sorted(code.values.items()), sorted(code.colours.items()), code.by_palette)),
        declares_itself=True,
    )


def state_of(place: Path) -> dict[str, Any]:
    """Returns what tells whether own data is as it was: how many files may be read of it, and a digest of them.

    These are images, masks, archives, and lists that part them; an archive is not opened. The digest is one of their
    names, sizes and times.
    """

    def may_be_read(name: str) -> bool:
        is_file = FILE.fullmatch(name) or name.lower().endswith(ARCHIVE_ENDINGS)
        return bool((is_file and is_shown(name)) or listed_part(name))

    names = filter(may_be_read, Folder(place).names("")) if place.is_dir() else [""]
    digest, count = hashlib.sha256(), 0
    for count, name in enumerate(names, 1):  # noqa: B007  read behind the loop
        found = None
        with suppress(OSError):  # a link that leads nowhere
            found = (place / name).stat()
        digest.update(repr((name, found and (found.st_size, found.st_mtime_ns))).encode())
    return {"files": count, "sha256": digest.hexdigest()}


def _classes_file(files: Sequence[File], place: Path) -> File:
    """Returns the classes file among `files`, as those of an archive; raises InputError if there is none."""
    found = find_classes(file.name for file in files if file.name.count("/") < 3)
    if found is None:
        raise InputError(
            f"classes not named: expected one of {', '.join(FILE_NAMES)} in {place}, found none; "
            "name a file with --classes, or the classes themselves: --classes ground,plant"
        )
    return next(file for file in files if file.name == found)


def classes_in(place: Path) -> Path | None:
    """Returns the classes file of a folder, None if it holds none or is an archive; see FILE_NAMES."""
    paths = [path for name in FILE_NAMES for where in (name, f"*/{name}", f"*/*/{name}") for path in place.glob(where)]
    found = find_classes(path.relative_to(place).as_posix() for path in paths)
    return place / found if found else None


def _without_derived(layout: Layout) -> tuple[dict[str, File], list[str]]:
    """Returns the images without pictures that are made of them, such as ISIC's `a_superpixels.png` of `a.jpg`.

    Such pictures have no masks, and most images that have one are accompanied by one of the same ending.
    """
    labelled = layout.images.keys() & layout.masks.keys()
    derived: dict[str, list[str]] = {}
    for key in layout.images.keys() - labelled:
        for sign in re.finditer(r"[_.\- ]", key):
            ending = key[sign.start() :]
            if key[: sign.start()] in labelled and any(letter.isalpha() for letter in ending):
                derived.setdefault(ending, []).append(key)
    left = {ending: keys for ending, keys in derived.items() if len(keys) > 1 and 2 * len(keys) > len(labelled)}
    gone = {key for keys in left.values() for key in keys}
    notes = [f"left out: {len(keys)} pictures *{ending} of images that have masks" for ending, keys in left.items()]
    return {key: file for key, file in layout.images.items() if key not in gone}, notes


def _code(classes: Classes, own: OwnData, masks: Sequence[File]) -> tuple[MaskCode, list[str]]:
    """Returns what the values of masks stand for: what the classes file says, unless some masks show that it differs.

    With two names and no values, masks of 0 and 255 alone show the second class as 255.
    """
    code, values, coloured = classes.code, set[int](), ""
    for number in spread(len(masks), LOOKED_AT):
        content = np.frombuffer(masks[number].read(), dtype=np.uint8)
        try:
            mask = without_channels(decode_mask(content, str(masks[number]), code.by_palette))
        except InputError:  # said when all masks are read
            continue
        if mask.ndim == 2:
            values.update(values_in(mask))
        else:
            coloured = str(masks[number])
    if own.ignored is not None and coloured and not values:
        raise InputError(
            f"--ignore: expected masks of values, found colours in {coloured}; "
            "give the colour a line in the classes file, with the name `ignored`"
        )
    if classes.only_names and len(classes.names) == 2 and own.ignored is None and values in ({0, IGNORE}, {IGNORE}):
        return MaskCode({0: 0, IGNORE: 1}), [f"masks hold 0 and {IGNORE} alone: {IGNORE} is {classes.names[1]!r}"]
    return code, []


def _pair(key: str, images: Mapping[str, File], masks: Mapping[str, File]) -> Pair:
    image_to = f"images/{key}{PurePosixPath(images[key].name).suffix}"
    return Pair(images[key], image_to, masks[key], f"labels/{key}.png") if key in masks else Pair(images[key], image_to)


def _left_out(
    files: Iterable[File], layout: Layout, classes_file: Path | File | tuple[str, ...], parts: Mapping[str, Part]
) -> list[str]:
    """Returns a line that counts the files that are neither image nor mask nor classes file nor list, by kind."""
    known = {str(file) for found in (layout.images, layout.masks) for file in found.values()}
    known.add(str(classes_file.absolute() if isinstance(classes_file, Path) else classes_file))
    said = {name for _, name in parts.values()}
    others = (file for file in files if str(file) not in known and PurePosixPath(file.name).name not in said)
    kinds = Counter(kind_of(file.name) for file in others)
    return [f"left out: {', '.join(f'{count:,} {kind}' for kind, count in kinds.most_common())}"] if kinds else []
