"""Looks at every file that a data set's lists name: is it whole, does it fit, and what is in it.

N classes. Every image and mask is opened once, however many lists name it; a picture that seems to train and to
validate twice.
"""

import glob
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from furnace.data.datasets import CAMVID, CITYSCAPES, VOC, Dataset, Split
from furnace.data.declaration import FILE_NAME, read_declaration
from furnace.data.file_list import FileList
from furnace.data.images import read_image, read_label_and_counts
from furnace.errors import InputError
from furnace.prepare.duplicates import fingerprint, same_pictures
from furnace.prepare.parallel import map_numbers

Progress = Callable[..., Iterable]
WITH_LABELS = ("train", "labeled", "val")


class Problem(NamedTuple):
    """Something that is wrong with an `image`, a `mask`, their `size`, a `duplicate` or a `list`."""

    kind: str
    file: str
    message: str


@dataclass
class ListReport:
    """One list, and how many pixels of each class its masks hold: int64 (N + 1,), the last one ignored."""

    path: str
    entries: int
    sha256: str
    pixels: np.ndarray | None  # None where a list needs no masks


@dataclass
class Report:
    """What was found."""

    dataset: Dataset
    folder: Path
    images: int
    masks: int
    lists: dict[str, ListReport] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


class Finding(NamedTuple):
    """What one image and its mask gave."""

    problems: list[Problem]
    fingerprint: bytes | None  # of the image
    pixels: np.ndarray | None  # int64 (N + 1,)


def dataset_of(folder: Path) -> Dataset:
    """The data set that lies in `folder`: its own declaration, or VOC, Cityscapes or CamVid by its layout."""
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
    """Opens everything that the lists below `lists` name.

    Raises:
        InputError: there is no list, or one is empty.
    """
    splits = _splits(dataset, folder, lists)
    files = _Files(splits)
    report = Report(dataset, folder, len(files.images), sum(mask is not None for mask in files.masks))
    report.problems += files.problems
    pixels = np.zeros((report.images, dataset.num_classes + 1), dtype=np.int64)
    fingerprints: list[bytes | None] = []

    def look(number: int) -> Finding:
        return look_at(dataset, files.images[number], files.masks[number])

    for number, finding in enumerate(progress(map_numbers(look, report.images, processes), total=report.images)):
        report.problems += finding.problems
        fingerprints.append(finding.fingerprint)
        if finding.pixels is not None:
            pixels[number] = finding.pixels
    validating = set(files.entries.get("val", ()))
    report.problems += [
        Problem("duplicate", image, f"trains, and is the same picture as {other}, which validates")
        for image, other in same_pictures(files.images, fingerprints, validating, processes)
    ]
    for name, (role, split) in splits.items():
        counted = pixels[files.entries[name]].sum(axis=0) if role in WITH_LABELS else None
        report.lists[name] = ListReport(str(split.files.path), len(split.files), split.files.sha256(), counted)
    report.problems += _overlaps(files)
    return report


def look_at(dataset: Dataset, image_path: str, mask_path: str | None) -> Finding:
    """Opens one image, and its mask where it has one."""
    problems, found, pixels, sizes = [], None, None, []
    try:
        image = read_image(Path(image_path))
        found = fingerprint(image)
        sizes.append(image.shape[:2])
    except InputError as error:
        problems.append(Problem("image", image_path, str(error)))
    if mask_path is not None:
        try:
            mask, pixels = read_label_and_counts(Path(mask_path), dataset.num_classes, dataset.ignore_value)
            sizes.append(mask.shape)
        except InputError as error:
            problems.append(Problem("mask", mask_path, str(error)))
    if len(sizes) == 2 and sizes[0] != sizes[1]:
        image_size, mask_size = ("{} x {}".format(*size) for size in sizes)
        message = f"image is {image_size}, its mask {mask_path} {mask_size} (height x width)"
        problems.append(Problem("size", image_path, message))
    return Finding(problems, found, pixels)


class _Files:
    """The different images that lists name, those that validate first, each with its mask where a list gives one."""

    def __init__(self, splits: dict[str, tuple[str, Split]]) -> None:
        self.images: list[str] = []
        self.masks: list[str | None] = []
        self.entries: dict[str, list[int]] = {}  # numbers of images, by list
        self.problems: list[Problem] = []
        numbers: dict[str, int] = {}
        for name in sorted(splits, key=lambda name: name != "val"):
            role, split = splits[name]
            self.entries[name] = [
                self._add(numbers, split, index, role in WITH_LABELS) for index in range(len(split.files))
            ]
            repeated = len(self.entries[name]) - len(set(self.entries[name]))
            if repeated:
                self.problems.append(
                    Problem("list", str(split.files.path), f"{repeated} images stand in it twice or more")
                )

    def _add(self, numbers: dict[str, int], split: Split, index: int, with_label: bool) -> int:
        image, mask = str(split.image_path(index)), None
        if with_label:
            try:
                mask = str(split.label_path(index))
            except InputError as error:
                self.problems.append(Problem("list", str(split.files.path), str(error)))
        number = numbers.setdefault(image, len(numbers))
        if number == len(self.images):
            self.images.append(image)
            self.masks.append(None)
        if mask and self.masks[number] not in (None, mask):
            self.problems.append(Problem("list", image, f"has two masks: {self.masks[number]} and {mask}"))
        self.masks[number] = self.masks[number] or mask
        return number


def _splits(dataset: Dataset, folder: Path, lists: Path) -> dict[str, tuple[str, Split]]:
    """Every list there is: by a short name (`train`, `labeled 1/8`), its role and its entries."""
    found = {}
    for role in ("train", "labeled", "unlabeled", "extra", "val"):
        pattern = getattr(dataset, f"{role}_list")
        before, _, after = pattern.partition("{ratio}")
        paths = sorted(
            lists.glob(glob.escape(pattern).replace("{ratio}", "*")), key=lambda path: (len(path.name), path.name)
        )
        for path in paths:
            ratio = path.relative_to(lists).as_posix().removeprefix(before).removesuffix(after) if after else ""
            split_folder = "val" if role == "val" else dataset.train_folder
            found[f"{role} 1/{ratio}" if ratio else role] = (role, Split(dataset, folder, FileList(path), split_folder))
    if not found:
        raise InputError(
            f"no list in {lists}: expected {dataset.train_list}, {dataset.val_list} or "
            f"{dataset.labeled_list.format(ratio=8)}; let `python -m furnace prepare` write them"
        )
    return found


def _overlaps(files: _Files) -> list[Problem]:
    """Images that train and validate, or that are labelled and unlabelled at one ratio."""
    sets = {name: set(numbers) for name, numbers in files.entries.items()}
    pairs = [("val", name) for name in sets if name != "val" and "val" in sets]
    pairs += [(name, f"un{name}") for name in sets if f"un{name}" in sets]
    problems = []
    for one, other in pairs:
        if shared := sets[one] & sets[other]:
            message = f"{len(shared)} images are in {one} and in {other}, the first is this"
            problems.append(Problem("list", files.images[min(shared)], message))
    return problems
