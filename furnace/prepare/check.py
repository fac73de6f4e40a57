"""Looks at every file that a data set's lists name: is it whole, does it fit, and which classes does it show?

N is the number of classes. Every image and mask is opened once, however many lists name it. Only pictures that seem to
train and to validate are opened a second time, to compare all of their pixels.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from furnace.data.contents import file_content
from furnace.data.datasets import CAMVID, CITYSCAPES, VOC, Dataset
from furnace.data.declaration import FILE_NAME, read_declaration
from furnace.data.decoding import decode_image
from furnace.data.entries import Split
from furnace.data.file_list import spread
from furnace.data.images import read_label_and_counts
from furnace.data.kinds import SAME_SIZE, UPRIGHT, exif_turn
from furnace.data.learnable import fault_of, never_taught
from furnace.data.remarks import Tell
from furnace.errors import InputError
from furnace.prepare.duplicates import fingerprint, same_pictures
from furnace.prepare.listed import WITH_LABELS, ListedFiles, Problem, find_lists, other_lists
from furnace.prepare.parallel import Progress, map_numbers

LOOKED_AT = 8  # masks that are compared where all of a list may be the same


@dataclass
class ListReport:
    """One list, and what its masks hold.

    Attributes:
        sha256: the hexadecimal digest of the list's file.
        pixels: how many pixels of each class its masks hold, int64 (N + 1,), where the last number counts ignored
            pixels; None for a list that needs no masks.
        is_read: whether all of its masks could be read, so that `pixels` are those of all.
    """

    path: str
    entries: int
    sha256: str
    pixels: np.ndarray | None
    is_read: bool = True


@dataclass
class Report:
    """Everything that a check found.

    Attributes:
        images: how many different images the lists name.
        masks: how many of these have a mask.
        lists: the lists by their short names, such as `labeled 1/8`.
        not_read: text files that name images, beside the lists, whose names no list has.
        turned: the images whose EXIF tag turns or mirrors them, while their masks would fit unturned, too.
    """

    dataset: Dataset
    folder: Path
    images: int
    masks: int
    lists: dict[str, ListReport] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    turned: list[str] = field(default_factory=list)
    not_read: list[str] = field(default_factory=list)


class _Finding(NamedTuple):
    """What one image and its mask gave."""

    problems: list[Problem]
    fingerprint: bytes | None  # of the image; None if it cannot be read
    pixels: np.ndarray | None  # of each class, int64 (N + 1,); None without a mask that can be read
    is_turned: bool  # by its EXIF tag, in a way that its mask's size does not tell


def dataset_of(folder: Path) -> Dataset:
    """Returns the data set that lies in `folder`: its own declaration, or VOC, Cityscapes or CamVid by its layout.

    Raises:
        InputError: `folder` is missing or must not be read, its declaration is wrong, or its layout is another.
    """
    if not os.access(folder, os.R_OK | os.X_OK) or not folder.is_dir():
        raise InputError(
            f"data set not found: {folder}: expected a folder that may be read; name the data set's, such as DATA/city"
        )
    if (folder / FILE_NAME).is_file():
        return read_declaration(folder)
    for dataset, mark in ((VOC, "train_aug"), (CITYSCAPES, "config_new"), (CAMVID, "train/labels")):
        if (folder / mark).is_dir():
            return dataset
    raise InputError(
        f"data set not recognised: {folder}: expected {FILE_NAME}, or the layout of VOC, Cityscapes or CamVid; "
        "write a declaration, or let `python -m furnace prepare` make the folder"
    )


def check(dataset: Dataset, folder: Path, lists: Path, processes: int, progress: Progress) -> Report:
    """Opens everything that the lists name, and reports what is there and what is wrong.

    Args:
        folder: the data set's folder.
        lists: the folder below which the lists lie; it may be the same.
        progress: shows how many images are done.

    Raises:
        InputError: there is no list, or one is empty.
    """
    splits = find_lists(dataset, folder, lists)
    files = ListedFiles(splits)
    report = Report(dataset, folder, len(files.images), sum(mask is not None for mask in files.masks))
    report.not_read = other_lists(lists, splits)
    report.problems += files.problems
    pixels = np.zeros((report.images, dataset.num_classes + 1), dtype=np.int64)
    fingerprints: list[bytes | None] = []

    def look(number: int) -> _Finding:
        return _look_at(dataset, files.images[number], files.masks[number])

    for number, finding in enumerate(progress(map_numbers(look, report.images, processes), total=report.images)):
        report.problems += finding.problems
        report.turned += [files.images[number]] * finding.is_turned
        fingerprints.append(finding.fingerprint)
        if finding.pixels is not None:
            pixels[number] = finding.pixels
    validating = set(files.entries.get("val", ()))
    report.problems += [
        Problem("duplicate", image, f"trains, and is the same picture as {other}, which validates")
        for image, other in same_pictures(files.images, fingerprints, validating, processes)
    ]
    for name, (role, split) in splits.items():
        path, count = str(split.files.path), len(split.files)
        if role not in WITH_LABELS:
            report.lists[name] = ListReport(path, count, split.files.sha256(), None)
            continue
        counts = pixels[files.entries[name]]  # (masks, N + 1)
        is_read = bool(counts.any(axis=1).all())  # a mask that is read has pixels
        report.lists[name] = ListReport(path, count, split.files.sha256(), counts.sum(axis=0), is_read)
        if _is_one_mask(split, counts):
            report.problems.append(Problem("list", path, "all of its masks are copies of one"))
    report.problems += files.shared_masks() + files.overlaps() + _unlearnable(report)
    return report


def _is_one_mask(split: Split, counts: np.ndarray) -> bool:
    """Whether the masks of a list are all the same, by their numbers of pixels (masks, N + 1) and a look at some."""
    if len(counts) < 4 or np.count_nonzero(counts[0, :-1]) < 2 or (counts != counts[0]).any():
        return False
    first, *others = (split.label(number) for number in spread(len(counts), LOOKED_AT))
    return all(np.array_equal(first, other) for other in others)


def _unlearnable(report: Report) -> list[Problem]:
    """Returns the lists whose masks teach or score nothing, and the classes that no mask shows, or none that trains.

    That VOC, Cityscapes or CamVid lack a class is no problem: there are toy versions of them. Nothing is said of what
    masks that could not be read may show.
    """
    classes = report.dataset.classes
    counts = {name: entry.pixels for name, entry in report.lists.items() if entry.pixels is not None}
    problems = [
        Problem("list", report.lists[name].path, fault)
        for name, pixels in counts.items()
        if report.lists[name].is_read and (fault := fault_of(pixels, classes))
    ]
    if not all(entry.is_read for entry in report.lists.values()):
        return problems
    trains = [name for name in counts if name != "val"]
    if trains and "val" in counts:
        together = np.sum([counts[name] for name in trains], axis=0)  # (N + 1,)
        if untaught := never_taught(together, counts["val"], classes):
            problems.append(Problem("list", report.lists[trains[0]].path, untaught))
    shown = np.sum(list(counts.values()), axis=0) if counts else np.zeros(0)
    absent = [name for name, count in zip(classes, shown, strict=False) if not count]
    if absent and fault_of(shown, classes) is None and report.dataset not in (VOC, CITYSCAPES, CAMVID):
        message = f"no mask shows {', '.join(absent)}: are the values of the masks those of the classes?"
        problems.append(Problem("classes", str(report.folder), message))
    return problems


def _look_at(dataset: Dataset, image_path: str, mask_path: str | None) -> _Finding:
    """Opens one image, and its mask where it has one."""
    problems, found, pixels, sizes, turn = [], None, None, [], UPRIGHT
    is_plain = False

    def remark(kind: str) -> Tell:
        return lambda name, text: problems.append(Problem(kind, str(name), text))

    try:
        content = file_content(Path(image_path), "image")
        image = decode_image(content, image_path, remark("image"))
        found, turn = fingerprint(image), exif_turn(content) if mask_path else UPRIGHT
        sizes.append(image.shape[:2])
        is_plain = all(bool((part == part[0, 0]).all()) for part in (image[::13, ::13], image))
    except InputError as error:
        problems.append(Problem("image", image_path, str(error)))
    if mask_path is not None:
        try:
            mask, pixels = read_label_and_counts(
                Path(mask_path), dataset.num_classes, dataset.ignore_value, remark("mask")
            )
            sizes.append(mask.shape)
        except InputError as error:
            problems.append(Problem("mask", mask_path, str(error)))
    if is_plain and pixels is not None and np.count_nonzero(pixels[:-1]) > 1:
        problems.append(Problem("image", image_path, "all of its pixels have one colour, but its mask shows classes"))
    fits = len(sizes) == 2 and sizes[0] == sizes[1]
    if len(sizes) == 2 and not fits:
        image_size, mask_size = ("{} x {}".format(*size) for size in sizes)
        message = f"image is {image_size}, its mask {mask_path} {mask_size} (height x width)"
        problems.append(Problem("size", image_path, message))
    may_be_askew = turn != UPRIGHT and fits and (turn in SAME_SIZE or sizes[0][0] == sizes[0][1])
    return _Finding(problems, found, pixels, may_be_askew)
