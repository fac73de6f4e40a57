"""What the entries of a list name: an image and, where the list has labels, the label map that belongs to it."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from furnace.data.datasets import Dataset
from furnace.data.file_list import FileList, spread
from furnace.data.images import read_image, read_label
from furnace.errors import InputError

ENDINGS = r"\.(?:jpe?g|png|bmp|gif|tiff?|webp|jp2|ppm|pgm)"
PAIR = re.compile(rf"(.+?{ENDINGS}) +(\S.*{ENDINGS})", re.IGNORECASE)
FILE = re.compile(rf".*{ENDINGS}", re.IGNORECASE | re.DOTALL)  # a file's name may hold any character, even a newline


@dataclass(frozen=True)
class Split:
    """A list of one data set, whose entries it resolves to files.

    An entry has one of these forms:

    - `image<TAB>label` or `image label`: two paths below the data set's folder;
    - `image` alone, where no label is needed;
    - a bare name, which the data set's patterns `name_image` and `name_label` turn into paths.

    Lists made for a data set's official layout work too: if an entry's path begins with a folder that does not exist
    here (such as `JPEGImages/x.jpg`), the entry counts as the bare name `x`.
    """

    dataset: Dataset
    root: Path  # the data set's folder
    files: FileList
    name: str  # {split} in the paths of bare names: the data set's train_folder, or "val"

    def image_path(self, index: int) -> Path:
        """Returns the path of entry `index`'s image."""
        return self._resolve(index, column=0)

    def label_path(self, index: int) -> Path:
        """Returns the path of entry `index`'s label; raises InputError if the entry names none."""
        return self._resolve(index, column=1)

    def image(self, index: int) -> np.ndarray:
        """Returns the image of entry `index`, (H, W, 3) uint8 RGB."""
        return read_image(self.image_path(index))

    def label(self, index: int) -> np.ndarray:
        """Returns the label of entry `index`, (H, W) uint8: class indices, and 255 where a pixel is ignored."""
        return read_label(self.label_path(index), self.dataset.num_classes, self.dataset.ignore_value)

    def labeled(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns an image (H, W, 3) and its label (H, W); raises InputError if their sizes differ."""
        image, label = self.image(index), self.label(index)
        if image.shape[:2] != label.shape:
            raise InputError(
                f"image and label differ in size: {self.image_path(index)} is {_size(image)}, "
                f"{self.label_path(index)} is {_size(label)} (height x width); "
                f"mend the pair or leave it out of {self.files.path}"
            )
        return image, label

    def check_files(self, with_labels: bool, at_most: int = 1000) -> None:
        """Raises InputError if an image or label is missing; checks at most `at_most` entries, spread over the list."""
        for index in spread(len(self.files), at_most):
            paths = [self.image_path(index), self.label_path(index)] if with_labels else [self.image_path(index)]
            for path in paths:
                if not path.is_file():
                    raise InputError(
                        f"file not found: {path}: named by entry {index + 1} of {self.files.path}; "
                        "add it or mend the list"
                    )

    def _resolve(self, index: int, column: int) -> Path:
        line = self.files[index]
        paths = columns(line)
        if len(paths) == 1 and not FILE.fullmatch(line):
            return self._by_name(line, column)
        folder, _, below = paths[0].lstrip("/").partition("/")
        if below and folder not in self._folders:
            return self._by_name(PurePosixPath(below).stem, column)
        if column >= len(paths) or not paths[column]:
            raise InputError(f"{self.files.path}: entry {index + 1} names no label: {line!r}; expected image<TAB>label")
        return self.root / paths[column].lstrip("/")

    def _by_name(self, name: str, column: int) -> Path:
        pattern = (self.dataset.name_image, self.dataset.name_label)[column]
        return self.root / pattern.format(split=self.name, name=name.removesuffix(self.dataset.name_ending))

    @cached_property
    def _folders(self) -> frozenset[str]:
        return frozenset(path.name for path in self.root.iterdir() if path.is_dir())


def columns(line: str) -> list[str]:
    """Returns the one or two columns of a list's line.

    A tab separates two columns. Without a tab, spaces separate them only where both halves end as image files do,
    because a path may hold spaces itself.
    """
    if "\t" in line:
        return [part.strip() for part in line.split("\t")]
    pair = PAIR.fullmatch(line) if " " in line else None
    return list(pair.groups()) if pair else [line]


def _size(array: np.ndarray) -> str:
    return f"{array.shape[0]} x {array.shape[1]}"
