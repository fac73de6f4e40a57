"""Where images of own data lie, and their masks; and what is said where no two of them belong together."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from furnace.data.entries import FILE
from furnace.errors import InputError
from furnace.prepare.layouts import (
    ANY_IMAGES,
    ANY_MASKS,
    FORMS,
    MASK_ENDINGS,
    REFUSED,
    Form,
    Layout,
    Place,
    lay_out,
    lies_in,
    without_ending,
)
from furnace.prepare.plan import NAMED, is_shown
from furnace.prepare.sources import File, Unpack, listing


@dataclass(frozen=True)
class OwnData:
    """Where own data lies in its source, and how it is to be read. None means that the source itself shows it.

    Attributes:
        images: the folder of images in the source.
        masks: the folder of masks in the source; it may be the same.
        image_ending: what the name of an image has behind what it shares with its mask: `_sat` in `a_sat.jpg`.
        mask_ending: the same of a mask: `_mask` if `a_mask.png` belongs to `a.jpg`.
        classes: the classes file, or the names of the classes.
        ignored: values of masks that are no class.
        val: one of so many images with masks validates; None for what the folders say.
        seed: decides which images validate.
    """

    images: str | None
    masks: str | None
    image_ending: str | None
    mask_ending: str | None
    classes: Path | tuple[str, ...] | None
    ignored: tuple[int, ...] | None
    val: int | None
    seed: int


def find_layout(place: Path, own: OwnData, unpack: Unpack) -> tuple[Layout, list[File]]:
    """Returns images and masks in the first form that gives two pairs, and all files that were looked at.

    Images, masks or both may lie in archives at `place`; these are opened where the folder itself shows none.

    Raises:
        InputError: no form gives two pairs.
    """
    groups, forms = listing(place, unpack), _forms(own)
    files = next(groups)
    packed: list[File] = []
    while True:
        laid = [(form, _places(form, "images", files, packed), _places(form, "masks", files, packed)) for form in forms]
        for form, images, masks in laid:
            layout = lay_out(form, images, masks)
            if layout and len(layout.images.keys() & layout.masks.keys()) > 1:
                return layout, [*files, *packed]
        if (more := next(groups, None)) is None:
            raise _no_pairs(place, own, [*files, *packed], laid)
        packed = more


def _places(form: Form, what: str, files: Sequence[File], packed: Sequence[File]) -> list[Place]:
    where = (form.images, form.image_ending) if what == "images" else (form.masks, "")
    return lies_in(files, *where) or lies_in(packed, *where)


def _forms(own: OwnData) -> list[Form]:
    """Returns the forms that the options leave possible."""
    forms = list(FORMS)
    if own.images is not None or own.masks is not None:
        images, masks = (
            default if name is None else _folder(name, option)
            for name, option, default in ((own.images, "images", ANY_IMAGES), (own.masks, "masks", ANY_MASKS))
        )
        forms = [Form("what was asked for", images, masks, "", MASK_ENDINGS[1:] if images == masks else MASK_ENDINGS)]
    if own.image_ending is not None:
        forms = [form._replace(image_ending=own.image_ending) for form in forms]
    if own.mask_ending is not None:
        forms = [form._replace(mask_endings=(own.mask_ending,)) for form in forms]
    return forms


def _folder(name: str, option: str) -> str:
    """Returns a pattern for a folder of the source, "" for the source itself; InputError if it leads out of that."""
    folder = PurePosixPath(name)
    if folder.is_absolute() or ".." in folder.parts:
        raise InputError(f"--{option}: expected a folder in SOURCE, found {name}; give its path from there")
    return re.escape("/".join(folder.parts))


def _no_pairs(
    place: Path, own: OwnData, files: Sequence[File], laid: Sequence[tuple[Form, list[Place], list[Place]]]
) -> InputError:
    """Returns the error for a source in which no two images have masks, whatever form it is taken for."""
    layouts = [layout for found in laid if (layout := lay_out(*found))]
    single = next(
        (found for found in layouts if len(found.masks) == 1 and found.masks.keys() <= found.images.keys()), None
    )
    laid = [found for found in laid if found[0].images != found[0].masks] or laid  # the others find masks in any image
    _, images, masks = max(laid, key=lambda found: bool(found[1]) + bool(found[2]))
    shown = [file.name for file in files if is_shown(file.name)]
    stems = [PurePosixPath(name).stem for name in shown if FILE.fullmatch(name)]
    for option, ending in (("--image-ending", own.image_ending), ("--mask-ending", own.mask_ending)):
        if ending and stems and not any(without_ending(stem, ending) for stem in stems):
            return InputError(
                f"{option} {ending}: expected names that end so, as a{ending}.png, found none in {place}, "
                f"but such as {shown[0]}; mend the ending, or leave it out"
            )
    for pattern, what, remedy in REFUSED[:1] if images and masks else REFUSED:
        if found := [name for name in shown if re.fullmatch(pattern, name, re.IGNORECASE)]:
            return InputError(f"no masks in {place}: expected images of classes, found {what} ({found[0]}); {remedy}")
    asked = "".join(f" in {name}" for name in (own.images, own.masks) if name is not None)
    if single:
        ((key, mask_file),) = single.masks.items()
        return InputError(
            f"expected two images with masks or more{asked}, found 1 in {place}: {single.images[key].name} with "
            f"{mask_file.name}; draw the mask of another image, because one trains and another validates"
        )
    if not images and not masks and shown:
        kinds = Counter(map(kind_of, shown)).most_common(NAMED)
        return InputError(
            f"expected two images with masks or more{asked}, found none in a known form: in {place} are "
            f"{', '.join(f'{count:,} {kind}' for kind, count in kinds)}, such as {shown[0]}; name the folders with "
            "--images and --masks; what is neither JPEG, PNG, TIFF nor BMP must be converted, archives unpacked"
        )
    image, mask = (found[0].file.name if found else "(none)" for found in (images, masks))
    return InputError(
        f"expected two images with masks or more{asked}, found fewer: in {place} images are named like {image}, "
        f"masks like {mask}; {_remedy(images, masks)}"
    )


def _remedy(images: Sequence[Place], masks: Sequence[Place]) -> str:
    """Returns what makes names of masks those of their images."""
    names, others = ({place.key.rpartition("/")[2] for place in places} for places in (images, masks))
    if names & others:
        return "put masks into folders of the names that those of their images have"
    if {name.lower() for name in names} & {name.lower() for name in others}:
        return "call both alike, capital letters too"
    return "set --images, --masks, --image-ending or --mask-ending"


def kind_of(name: str) -> str:
    """Returns in a word what kind of file a name stands for, such as its ending."""
    path = PurePosixPath(name)
    if not is_shown(name) or path.name.lower() in ("thumbs.db", "desktop.ini"):
        return "hidden"
    return path.suffix.lower() or "without ending"
