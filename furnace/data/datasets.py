"""What a data set is: classes, colours, lists and where its files lie."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from furnace.data.file_list import FileList, spread
from furnace.data.images import read_image, read_label
from furnace.errors import InputError
from furnace.labels import IGNORE

Colour = tuple[int, int, int]
MOST_CLASSES = 255  # label maps are uint8, and one value means ignored
ENDINGS = r"\.(?:jpe?g|png|bmp|gif|tiff?|webp|jp2|ppm|pgm)"
PAIR = re.compile(rf"(.+?{ENDINGS}) +(\S.*{ENDINGS})", re.IGNORECASE)
FILE = re.compile(rf".*{ENDINGS}", re.IGNORECASE | re.DOTALL)  # a name may hold anything


@dataclass(frozen=True)
class Dataset:
    """One data set's declaration. List paths are relative to its folder, `{ratio}` stands for the labelled ratio.

    A list's line is `image<TAB>label` or `image label`, two paths below the folder, or `image` alone where no label is
    needed, or a bare name that stands in `name_image` and `name_label`. A path in a folder that this data set does not
    have (`JPEGImages/x.jpg` in a list made for the official layout) counts as the bare name `x`.
    """

    name: str
    folder: str  # below DATA
    classes: tuple[str, ...]
    palette: tuple[Colour, ...]  # (R, G, B) of each class
    labeled_list: str
    unlabeled_list: str
    val_list: str
    train_list: str = "train.txt"  # every training image that has a label: what splits are drawn from
    extra_list: str = "unlabeled.txt"  # images that have no label at all, if there are any
    ignore_value: int = IGNORE  # in the label files; 255 in memory
    train_folder: str = "train"  # {split} of a bare name in a training list
    name_image: str = "{split}/image/{name}.jpg"
    name_label: str = "{split}/label/{name}.png"
    name_ending: str = ""  # not part of a bare name: `x_leftImg8bit` is `x`

    def __post_init__(self) -> None:
        if not 1 <= len(self.classes) <= MOST_CLASSES:
            raise InputError(
                f"data set {self.name}: expected 1 to {MOST_CLASSES} classes, found {len(self.classes)}; "
                "merge some, because label maps have 8 bits"
            )
        if 0 <= self.ignore_value < len(self.classes):
            raise InputError(
                f"data set {self.name}: ignore value {self.ignore_value} is a class too; "
                f"expected one outside 0 to {len(self.classes) - 1}; choose another"
            )
        if len(self.classes) != len(self.palette):
            raise InputError(
                f"data set {self.name}: {len(self.classes)} classes but {len(self.palette)} colours; give one each"
            )

    @property
    def num_classes(self) -> int:
        return len(self.classes)


@dataclass(frozen=True)
class Split:
    """A list of one data set, its entries resolved to files."""

    dataset: Dataset
    root: Path
    files: FileList
    name: str  # {split} of bare names: the data set's train_folder, or "val"

    def image_path(self, index: int) -> Path:
        return self._resolve(index, column=0)

    def label_path(self, index: int) -> Path:
        return self._resolve(index, column=1)

    def image(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return read_image(self.image_path(index))

    def label(self, index: int) -> np.ndarray:
        """(H, W) uint8 of class indices and 255."""
        return read_label(self.label_path(index), self.dataset.num_classes, self.dataset.ignore_value)

    def labeled(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The image (H, W, 3) and its label (H, W), of one size or an InputError."""
        image, label = self.image(index), self.label(index)
        if image.shape[:2] != label.shape:
            raise InputError(
                f"image and label differ in size: {self.image_path(index)} is {_size(image)}, "
                f"{self.label_path(index)} is {_size(label)} (height x width); "
                f"mend the pair or leave it out of {self.files.path}"
            )
        return image, label

    def check_files(self, with_labels: bool, at_most: int = 1000) -> None:
        """Raises InputError if an image or label is missing; a long list is sampled evenly."""
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
    """The one or two columns of a list's line.

    A tab parts them, or spaces where both halves have an image's ending: paths may hold spaces.
    """
    if "\t" in line:
        return [part.strip() for part in line.split("\t")]
    pair = PAIR.fullmatch(line) if " " in line else None
    return list(pair.groups()) if pair else [line]


def _size(array: np.ndarray) -> str:
    return f"{array.shape[0]} x {array.shape[1]}"


def voc_palette(count: int) -> tuple[Colour, ...]:
    """The PASCAL VOC colours: the bits of the index, three at a time, fill the channels from the top bit down."""
    colours = []
    for index in range(count):
        channels = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                channels[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
        colours.append(tuple(channels))
    return tuple(colours)


# fmt: off
VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tv/monitor",
)
CITYSCAPES_CLASSES = {
    "road": (128, 64, 128), "sidewalk": (244, 35, 232), "building": (70, 70, 70), "wall": (102, 102, 156),
    "fence": (190, 153, 153), "pole": (153, 153, 153), "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0), "vegetation": (107, 142, 35), "terrain": (152, 251, 152), "sky": (70, 130, 180),
    "person": (220, 20, 60), "rider": (255, 0, 0), "car": (0, 0, 142), "truck": (0, 0, 70), "bus": (0, 60, 100),
    "train": (0, 80, 100), "motorcycle": (0, 0, 230), "bicycle": (119, 11, 32),
}
CAMVID_CLASSES = {
    "sky": (128, 128, 128), "building": (128, 0, 0), "pole": (192, 192, 128), "road": (128, 64, 128),
    "pavement": (60, 40, 222), "tree": (128, 128, 0), "sign": (192, 128, 128), "fence": (64, 64, 128),
    "car": (64, 0, 128), "pedestrian": (64, 64, 0), "bicyclist": (0, 128, 192),
}
# fmt: on

VOC = Dataset(
    name="voc",
    folder="pascal_voc",
    classes=VOC_CLASSES,
    palette=voc_palette(len(VOC_CLASSES)),
    labeled_list="subset_train_aug/train_aug_labeled_1-{ratio}.txt",
    unlabeled_list="subset_train_aug/train_aug_unlabeled_1-{ratio}.txt",
    val_list="val.txt",
    train_list="train_aug.txt",
    train_folder="train_aug",
)
CITYSCAPES = Dataset(
    name="city",
    folder="city",
    classes=tuple(CITYSCAPES_CLASSES),
    palette=tuple(CITYSCAPES_CLASSES.values()),
    labeled_list="config_new/subset_train/train_aug_labeled_1-{ratio}.txt",
    unlabeled_list="config_new/subset_train/train_aug_unlabeled_1-{ratio}.txt",
    val_list="config_new/val.txt",
    train_list="config_new/train.txt",
    extra_list="config_new/unlabeled.txt",
    name_image="images/{split}/{name}.png",
    name_label="segmentation/{split}/{name}_gtFine.png",
    name_ending="_leftImg8bit",
)
CAMVID = Dataset(
    name="camvid",
    folder="camvid",
    classes=tuple(CAMVID_CLASSES),
    palette=tuple(CAMVID_CLASSES.values()),
    labeled_list="labeled_1-{ratio}.txt",
    unlabeled_list="unlabeled_1-{ratio}.txt",
    val_list="val.txt",
    name_image="{split}/images/{name}.jpg",
    name_label="{split}/labels/{name}.png",
)
