"""What a data set is: its classes, its colours, and where its lists and files lie.

VOC, CITYSCAPES and CAMVID are the data sets that ship with the program.
"""

from dataclasses import dataclass

from furnace.errors import InputError
from furnace.labels import IGNORE

Colour = tuple[int, int, int]  # red, green, blue, each 0 to 255
MOST_CLASSES = 255  # label maps are uint8, and one of the 256 values means ignored


@dataclass(frozen=True)
class Dataset:
    """One data set's declaration.

    Paths of lists are relative to the data set's folder; `{ratio}` stands for the labelled ratio. What the lines of a
    list may look like is said at `furnace.data.entries.Split`.

    Raises:
        InputError: there are too many classes, one or none, a colour is missing, or the ignore value is a class too.
    """

    name: str
    folder: str  # below DATA
    classes: tuple[str, ...]
    palette: tuple[Colour, ...]  # one colour for each class
    labeled_list: str
    unlabeled_list: str
    val_list: str
    train_list: str = "train.txt"  # names every training image that has a label; splits are drawn from it
    extra_list: str = "unlabeled.txt"  # names images that have no label at all, if there are any
    ignore_value: int = IGNORE  # in the label files; in memory it is always 255
    train_folder: str = "train"  # {split} in the paths of bare names in a training list
    name_image: str = "{split}/image/{name}.jpg"
    name_label: str = "{split}/label/{name}.png"
    name_ending: str = ""  # is cut off a bare name: with `_leftImg8bit`, `x_leftImg8bit` becomes `x`
    official_folders: tuple[str, ...] = ()  # a path through one of them, where it is not there, counts as a bare name

    def __post_init__(self) -> None:
        if not 1 <= len(self.classes) <= MOST_CLASSES:
            raise InputError(
                f"data set {self.name}: expected 1 to {MOST_CLASSES} classes, found {len(self.classes)}; "
                "merge some, because label maps have 8 bits"
            )
        if len(self.classes) == 1:
            raise InputError(
                f"data set {self.name}: expected two classes or more, found {self.classes[0]!r} alone: nothing can be "
                "learned where every pixel that counts is of it; give what is around it a class, such as `background`, "
                "in place of ignoring it"
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
        """The number of classes; label values run from 0 to one below it."""
        return len(self.classes)


def voc_palette(count: int) -> tuple[Colour, ...]:
    """Returns the first `count` colours of PASCAL VOC's palette.

    The bits of a colour's index are dealt out to red, green and blue in turn, the lowest bit first; each channel is
    filled from its top bit down.
    """

    def channel(index: int, number: int) -> int:
        return sum((index >> (3 * bit + number) & 1) << (7 - bit) for bit in range(8))

    return tuple((channel(index, 0), channel(index, 1), channel(index, 2)) for index in range(count))


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
    official_folders=("VOCdevkit", "VOC2012", "JPEGImages"),
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
    official_folders=("leftImg8bit",),
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
    official_folders=("SegNet", "CamVid"),
)
