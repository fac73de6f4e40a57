"""The forms in which labelling programs and public data sets lay out images and masks, in one table.

A form says which folders hold images and which hold masks, as regular expressions. Where images and masks lie in
folders of several parts (`train/images`, `images/train`, `train_labels`), the part goes into the keys by which images
find their masks, so that `train/images/a.jpg` and `train/masks/a.png` both are `train/a`.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from furnace.data.entries import FILE
from furnace.errors import InputError
from furnace.prepare.parts import BEHIND_PART, PART, PART_NAMES, part_of
from furnace.prepare.plan import NAMED, is_shown
from furnace.prepare.sources import DEEPEST, File

ANY_PART = rf"(?P<part>{'|'.join(PART_NAMES.values())})"
ANY_IMAGES = "images?|imgs?|img_dir|photos?|photographs?|pictures?"
ANY_MASKS = "masks?|labels?|ann_dir|annotations?|gt|ground_?truth"
MASK_ENDINGS = (
    "",
    "_mask",
    "_masks",
    "-mask",
    "_label",
    "_labels",
    "_segmentation",
    "_seg",
    "_gt",
    "_L",
    ".jpg",
    ".jpeg",
    ".png",
)


class Form(NamedTuple):
    """One way to lay out images and masks.

    Attributes:
        name: what the user is told.
        images: the folder of images, a regular expression; "" stands for the source itself.
        masks: the folder of masks.
        image_ending: what the names of images have behind what they share with their masks.
        mask_endings: what the names of masks may have behind it; the ending that gives the most pairs is taken.
    """

    name: str
    images: str
    masks: str
    image_ending: str = ""
    mask_endings: tuple[str, ...] = MASK_ENDINGS


FORMS = (  # the first that gives a pair is taken
    Form("folders images and masks", "images", "masks"),
    Form("Supervisely's export of masks", "img", "masks_machine"),
    Form("VOC's folders, as of labelme2voc and CVAT", "JPEGImages", "SegmentationClassPNG|SegmentationClass"),
    Form("folders of images and masks", ANY_IMAGES, ANY_MASKS),
    Form(
        "ISIC's folders",
        rf"[^/]*[_-]{ANY_PART}[_-](?:[^/]*[_-])?(?:Input|Data)",
        rf"[^/]*[_-]{ANY_PART}[_-](?:[^/]*[_-])?GroundTruth",
    ),
    Form(
        "folders as train and train_labels",
        rf"{ANY_PART}{BEHIND_PART}",
        rf"{ANY_PART}\d*[_-]?(?:labels?|masks?|annot(?:ations?)?)",
    ),
    Form("DeepGlobe's images, a_sat beside a_mask", "", "", "_sat", ("_mask",)),
    Form("masks beside their images, as of Roboflow", "", "", "", MASK_ENDINGS[1:]),
)
REFUSED = (  # what no mask can be made of here: a pattern of names, what it is, what to do; the first that fits is said
    (r".*task-\d+-annotation-\d+-.*\.png", "Label Studio's masks, a file for each label", "merge those of each image"),
    (
        r".*SegmentationClass/.*\.png",
        "masks without their images, as CVAT exports them",
        "export with `Save images`, or put the images into JPEGImages",
    ),
    (
        r".*_gtFine_[a-zA-Z]+\.(?:png|json)",
        "files of Cityscapes",
        "`python -m furnace prepare city` reads *_gtFine_labelIds.png; for other masks, set both endings",
    ),
    (r".*/ann/.*\.json", "Supervisely's drawings", "export with its app `Export as masks`"),
    (
        r".*(?:coco|instances_|stuff_|panoptic_)[^/]*\.json|(?:.*/)?annotations?/[^/]*\.json",
        "COCO's drawings",
        "export as masks (CVAT: `Segmentation mask 1.1`, Roboflow: `Semantic Segmentation Masks`), or draw them with "
        "`COCO.annToMask` of pycocotools",
    ),
    (
        r".*\.json",
        "drawings in JSON, as labelme saves them",
        "labelme2voc.py FOLDER OUT --labels labels.txt makes masks",
    ),
    (r".*\.xml", "boxes in XML, as LabelImg saves them", "masks must be drawn: boxes say nothing of single pixels"),
    (r".*labels/.*\.txt", "YOLO's drawings", "export as masks, as CVAT's `Segmentation mask 1.1`"),
    (r".*\.(?:nii(?:\.gz)?|dcm|mha|mhd|nrrd)", "medical volumes", "save each slice as PNG, masks as whole numbers"),
    (r".*\.(?:npy|npz|mat|h5|hdf5)", "arrays", "save them as PNG, one channel of whole numbers"),
)


@dataclass(frozen=True)
class Layout:
    """Images and masks by their keys, found in one form.

    Attributes:
        meaning: what the files were taken for, in words.
        images: the images, with those that are masks left out.
        masks: the masks, also those that belong to no image.
    """

    meaning: str
    images: Mapping[str, File]
    masks: Mapping[str, File]


class Place(NamedTuple):
    """A file that lies as a form wants it.

    Attributes:
        before: the folders around the one that was looked for, "" or with `/` behind them.
        folder: the one that was looked for.
        key: the path below it, after the part that its name says, without file format and ending.
    """

    file: File
    before: str
    folder: str
    key: str


def lies_in(files: Iterable[File], folder: str, ending: str = "") -> list[Place]:
    """Returns the images or masks that lie in `folder`, where that is least deep.

    Args:
        folder: a regular expression; "" stands for the source itself.
        ending: names that do not end with it, or consist of it alone, are left out.
    """
    pattern = re.compile(rf"((?:[^/]+/){{0,{DEEPEST}}}?)({folder})/(.+)" if folder else "()()(.+)", re.I | re.S)
    found = list(_places(files, pattern, ending))
    least = min((place.before.count("/") for place in found), default=0)
    return [place for place in found if place.before.count("/") == least]


def _places(files: Iterable[File], pattern: re.Pattern[str], ending: str) -> Iterator[Place]:
    for file in files:
        match = pattern.fullmatch(file.name)
        if match is None or not FILE.fullmatch(file.name) or not is_shown(file.name):
            continue
        path = PurePosixPath(match[match.lastindex or 0])
        key = without_ending(path.with_name(path.stem).as_posix(), ending)
        if key is not None:
            part = match.groupdict().get("part")
            yield Place(file, match[1], match[2], f"{part}/{key}" if part else key)


def lay_out(form: Form, images: Sequence[Place], masks: Sequence[Place]) -> Layout | None:
    """Pairs images and masks; returns None if no mask belongs to an image.

    Raises:
        InputError: two images or two masks have one key.
    """
    if not images or not masks:
        return None
    around = {place.before for place in images} & {place.before for place in masks}
    images_cut, masks_cut = map(_wrapper, [[*images, *masks]] * 2 if around else [images, masks])
    files = _by_key((_key(place, images_cut), place.file) for place in images)
    keys = [(_key(place, masks_cut), place.file) for place in masks]
    ending = _best_ending((key for key, _ in keys), files, form.mask_endings)
    if ending is None:
        return None
    found = _by_key((stem, file) for key, file in keys if (stem := without_ending(key, ending)) is not None)
    are_masks = {str(file) for file in found.values()}  # they may lie in one folder with the images
    meaning = f"taken for {form.name}: images in {_named(images)}, masks in {_named(masks)}"
    return Layout(
        f"{meaning}, masks named *{ending}" if ending else meaning,
        {key: file for key, file in files.items() if str(file) not in are_masks},
        found,
    )


def without_ending(key: str, ending: str) -> str | None:
    """Returns a key without an ending, in either case; None if it does not have it, or its name is nothing else."""
    has_it = key.lower().endswith(ending.lower()) and len(key.rpartition("/")[2]) > len(ending)
    return key[: len(key) - len(ending)] if has_it else None


def _wrapper(places: Sequence[Place]) -> int:
    """Returns how many letters of `before` are the folders that all places share, up to one that names a part."""
    letters = 0
    for level in zip(*(place.before.split("/")[:-1] for place in places), strict=False):
        if len(set(level)) > 1 or PART.fullmatch(level[0]):
            break
        letters += len(level[0]) + 1
    return letters


def _key(place: Place, cut: int) -> str:
    """Returns the whole key: with the folders around, and the part called as in PART_NAMES (`val` if it is `valid`).

    Systems write a letter such as an umlaut as one character or as two. Here both are the same name (Unicode's NFC).
    """
    key = unicodedata.normalize("NFC", place.before[cut:] + place.key)
    if found := part_of(key):
        folders = key.split("/")
        folders[folders.index(found[1])] = found[0]
        return "/".join(folders)
    return key


def _by_key(files: Iterable[tuple[str, File]]) -> dict[str, File]:
    found: dict[str, File] = {}
    for key, file in files:
        if key in found:
            raise InputError(
                f"two files of one name: {found[key]} and {file}; rename one (a mask beside its image: a_mask.png)"
            )
        found[key] = file
    return found


def _best_ending(keys: Iterable[str], images: Mapping[str, File], endings: Iterable[str]) -> str | None:
    """Returns the ending without which the most keys of masks are those of images; None if there is no such key."""
    counts: Counter[str] = Counter()
    for key in keys:
        counts.update(ending for ending in endings if without_ending(key, ending) in images)
    return max(counts, key=lambda ending: (counts[ending], len(ending))) if counts else None


def _named(places: Sequence[Place]) -> str:
    folders = sorted({f"{place.before}{place.folder}" for place in places})
    return f"{', '.join(folders[:NAMED])}{', ...' if len(folders) > NAMED else ''}" or "the source itself"
