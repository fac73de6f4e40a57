"""Finds what a data set's lists name: the lists that there are, and their different images and masks.

Where lists contradict themselves or each other is found here too. No image or mask is opened.
"""

import glob
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from furnace.data.datasets import Dataset
from furnace.data.entries import FILE, Split, columns, is_there
from furnace.data.file_list import FileList
from furnace.data.splits import may_be_empty
from furnace.errors import InputError

WITH_LABELS = ("train", "labeled", "val")  # the roles of lists whose images need masks


class Problem(NamedTuple):
    """Something that is wrong with an `image`, a `mask`, their `size`, a `duplicate` or a `list`."""

    kind: str
    file: str
    message: str


class ListedFiles:
    """The different images that lists name, each with its mask where a list gives one.

    The images of the validation list come first.

    Args:
        splits: what `find_lists` returns.

    Attributes:
        images: paths of images, each of them once.
        masks: for each image the path of its mask, None where no list gives one.
        entries: for each list, by its short name, the numbers of its images in the order of its lines.
        problems: what is wrong within single lists, or between the masks that two lists give to one image.
    """

    def __init__(self, splits: dict[str, tuple[str, Split]]) -> None:
        self.images: list[str] = []
        self.masks: list[str | None] = []
        self.entries: dict[str, list[int]] = {}
        self.problems: list[Problem] = []
        numbers: dict[str, int] = {}
        for name in sorted(splits, key=lambda name: name != "val"):
            role, split = splits[name]
            self.entries[name] = [
                self._add(numbers, split, index, role in WITH_LABELS) for index in range(len(split.files))
            ]
            # All entries of a list have one form, so that a look at the first tells.
            if len(split.files) > 0 and not is_there(first := split.image_path(0)):
                self.problems.append(Problem("list", str(split.files.path), split.describe_missing(0, first)))
            repeated = len(self.entries[name]) - len(set(self.entries[name]))
            if repeated:
                self.problems.append(
                    Problem("list", str(split.files.path), f"{repeated} images stand in it twice or more")
                )

    def shared_masks(self) -> list[Problem]:
        """Returns the masks that lists give to several images."""
        uses = Counter(mask for mask in self.masks if mask is not None)
        return [Problem("list", mask, f"is the mask of {count} images") for mask, count in uses.items() if count > 1]

    def overlaps(self) -> list[Problem]:
        """Returns the pairs of lists that share images although one validates, or one labels what the other does not.

        Labelled and unlabelled lists are compared where they belong to the same ratio.
        """
        sets = {name: set(numbers) for name, numbers in self.entries.items()}
        pairs = [("val", name) for name in sets if name != "val" and "val" in sets]
        pairs += [(name, f"un{name}") for name in sets if f"un{name}" in sets]
        problems = []
        for one, other in pairs:
            if shared := sets[one] & sets[other]:
                message = f"{len(shared)} images are in {one} and in {other}, the first is this"
                problems.append(Problem("list", self.images[min(shared)], message))
        return problems

    def _add(self, numbers: dict[str, int], split: Split, index: int, with_label: bool) -> int:
        """Adds entry `index` of a list, and returns the number of its image, which `numbers` keeps by path."""
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
        if mask == image:
            self.problems.append(Problem("list", image, f"is named as its own mask by {split.files.path}"))
        if mask and self.masks[number] not in (None, mask):
            self.problems.append(Problem("list", image, f"has two masks: {self.masks[number]} and {mask}"))
        self.masks[number] = self.masks[number] or mask
        return number


def other_lists(folder: Path, splits: dict[str, tuple[str, Split]]) -> list[str]:
    """Returns the text files where lists lie, at `folder` too, that name images but are not called as any list is."""
    read = {split.files.path for _, split in splits.values()}
    places = {folder, *(path.parent for path in read)}
    return sorted(str(path) for place in places for path in place.glob("*.txt") if path not in read and _is_list(path))


def _is_list(path: Path) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return FILE.fullmatch(columns(file.readline(4096).strip())[0]) is not None
    except OSError:
        return False


def find_lists(dataset: Dataset, folder: Path, lists: Path) -> dict[str, tuple[str, Split]]:
    """Returns every list that there is below `lists`.

    Args:
        folder: the data set's folder, below which the images and masks lie.

    Returns:
        By a short name, such as `train` or `labeled 1/8`, the list's role, such as `labeled`, and its entries.

    Raises:
        InputError: there is no list at all, or one is not readable or empty, other than the unlabelled one of 1/1.
    """
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
            files = FileList(path, may_be_empty(role, ratio))
            found[f"{role} 1/{ratio}" if ratio else role] = (role, Split(dataset, folder, files, split_folder))
    if not found:
        raise InputError(
            f"no list in {lists}: expected {dataset.train_list}, {dataset.val_list} or "
            f"{dataset.labeled_list.format(ratio=8)}; let `python -m furnace prepare` write them"
        )
    return found
