"""What the entries of a list name: an image and, where the list has labels, the label map that belongs to it."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from furnace.data import netpbm
from furnace.data.datasets import Dataset
from furnace.data.file_list import FileList, spread
from furnace.data.images import LabelMap, open_label, read_image, read_label
from furnace.data.prepared import is_decoded
from furnace.errors import InputError

ENDINGS = r"\.(?:jpe?g|jpe|jfif|png|bmp|dib|gif|tiff?|webp|avif|jp2|j2k|p[bgnp]m)"
PAIR = re.compile(rf"(.+?{ENDINGS}) +(\S.*{ENDINGS})", re.IGNORECASE)
FILE = re.compile(rf".*{ENDINGS}", re.IGNORECASE | re.DOTALL)  # a file's name may hold any character, even a newline

# Lines of lists in other forms, which are looked for only where a file is not found: names may hold any of these signs.
NEARLY_ENTRIES = (
    (re.compile("\r"), "holds line ends of old Macintoshes; save the list with those of today"),
    (re.compile('^"|"$'), "is in quotes; take them out"),
    (re.compile("^#"), "looks like a comment; lists have none, take it out"),
    (re.compile(rf"{ENDINGS}\s*[,;]", re.IGNORECASE), "has a comma or semicolon; part image and label by a tab"),
    (re.compile(r"^\w+([,;\t]\s*\w+)+$"), "looks like a table's header, or is parted by commas; take it out, use tabs"),
    (re.compile(r"^[A-Za-z]:|\\"), "is a path of Windows; write paths below the data set's folder, with /"),
    (
        re.compile(rf"^(?!.*{ENDINGS}$)[^\t]*$", re.IGNORECASE),
        "is a name alone; write paths, as images/a.jpg<TAB>labels/a.png, where files are called otherwise",
    ),
)


@dataclass(frozen=True)
class Split:
    """A list of one data set, whose entries it resolves to files.

    An entry has one of these forms:

    - `image<TAB>label` or `image label`: two paths;
    - `image` alone, where no label is needed;
    - a bare name, which the data set's patterns `name_image` and `name_label` turn into paths.

    A path lies below the data set's folder. With a slash before it, it does so if its first folder is there; otherwise
    it is an absolute path, and means that file and no other. Lists made for a data set's official layout work too: if
    an image's path leads through one of `Dataset.official_folders` that is not here (such as `JPEGImages/x.jpg`), the
    entry counts as the bare name `x`. Where `prepare --files decoded` has made the data set's folder, a name or path of
    the original file means the decoded one, unless the original is there too.
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
        image, label = self.labeled_to_cut(index)
        return image, label[...]

    def labeled_to_cut(self, index: int) -> tuple[np.ndarray, np.ndarray | LabelMap]:
        """Returns the same, to take a part of both: of a label that needs no decoding, no more is looked at."""
        dataset = self.dataset
        image = self.image(index)
        label = open_label(self.label_path(index), dataset.num_classes, dataset.ignore_value)
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
                if not is_there(path):
                    raise InputError(f"{self.describe_missing(index, path)}; add it or mend the list")

    def describe_missing(self, index: int, path: Path) -> str:
        """Returns what to say where `path`, which entry `index` names, is not there: the entry, and its odd form."""
        return f"file not found: {path}: named by entry {index + 1} of {self.files.path}: {_quoted(self.files[index])}"

    def name_of(self, index: int) -> tuple[str, ...]:
        """Returns the folders below the data set's and the name of entry `index`'s image, without its ending."""
        path = self.image_path(index).with_suffix("")
        return path.relative_to(self.root if path.is_relative_to(self.root) else path.anchor).parts

    def _resolve(self, index: int, column: int) -> Path:
        line = self.files[index]
        paths = columns(line)
        if len(paths) == 1 and not FILE.fullmatch(line):
            return self._as_stored(self._by_name(line, column), column)
        if len(paths) > 2:
            raise InputError(
                f"{self.files.path}: entry {index + 1} has {len(paths)} columns: {line!r}; expected image<TAB>label"
            )
        if self._is_official(paths[0]):
            return self._as_stored(self._by_name(PurePosixPath(paths[0]).stem, column), column)
        if column >= len(paths) or not paths[column]:
            raise InputError(
                f"{self.files.path}: entry {index + 1} names no label: {_quoted(line)}; expected image<TAB>label"
            )
        path = paths[column]
        is_absolute = path.startswith("/") and _first_folder(path) not in (None, *self._folders)
        return Path(path) if is_absolute else self._as_stored(self.root / path.lstrip("/"), column)

    def _is_official(self, path: str) -> bool:
        """Whether an image's path is one of the official layout, not of this folder and not of this machine."""
        first = _first_folder(path)
        if first in self._folders or self._official.isdisjoint(path.split("/")[:-1]):
            return False
        return not path.startswith("/") or first in self._official

    def _by_name(self, name: str, column: int) -> Path:
        pattern = (self.dataset.name_image, self.dataset.name_label)[column]
        return self.root / pattern.format(split=self.name, name=name.removesuffix(self.dataset.name_ending))

    def _as_stored(self, path: Path, column: int) -> Path:
        """Returns the decoded file in place of the original, where there is no original."""
        ending = netpbm.ENDINGS[column]
        if not self._is_decoded or path.suffix == ending or is_there(path):
            return path
        decoded = path.with_suffix(ending)
        return decoded if is_there(decoded) else path

    @cached_property
    def _is_decoded(self) -> bool:
        return is_decoded(self.root)

    @cached_property
    def _folders(self) -> frozenset[str]:
        return frozenset(path.name for path in self.root.iterdir() if path.is_dir())

    @cached_property
    def _official(self) -> frozenset[str]:
        return frozenset(name for name in self.dataset.official_folders if not Path(f"/{name}").is_dir())


def _quoted(line: str) -> str:
    """Returns a list's line for an error, with what is odd about its form."""
    odd = next((words for form, words in NEARLY_ENTRIES if form.search(line)), None)
    return f"{line!r}, which {odd}" if odd else repr(line)


def is_there(path: Path) -> bool:
    """Whether there is such a file, and we may see it; False also for a name that no file can have."""
    try:
        return path.is_file()
    except OSError:  # as Python before 3.14 raises for a name that is too long, and where a folder must not be entered
        return False


def _first_folder(path: str) -> str | None:
    """Returns a path's first folder, without regard to a slash before it; None if it has no folder."""
    folder, _, below = path.lstrip("/").partition("/")
    return folder if below else None


def columns(line: str) -> list[str]:
    """Returns the columns of a list's line, which should be one or two.

    A tab separates two columns. Without a tab, spaces separate them only where both halves end as image files do,
    because a path may hold spaces itself.
    """
    if "\t" in line:
        return [part.strip() for part in line.split("\t")]
    pair = PAIR.fullmatch(line) if " " in line else None
    return list(pair.groups()) if pair else [line]


def _size(array: np.ndarray | LabelMap) -> str:
    return f"{array.shape[0]} x {array.shape[1]}"
