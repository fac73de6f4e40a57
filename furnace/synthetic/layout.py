"""Scenes written as a data set in one of the two layouts, with the same promises for both."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from furnace.data.datasets import CITYSCAPES, VOC, Dataset
from furnace.data.splits import cover_classes
from furnace.errors import InputError
from furnace.synthetic.drawing import IGNORE_LABEL
from furnace.synthetic.shapes import draw_scene
from furnace.synthetic.street import draw_street

LEAST_IMAGES = 10
RATIOS = (16, 8, 4, 2)
Scene = tuple[np.ndarray, np.ndarray]
Progress = Callable[[Iterable], Iterable]


@dataclass(frozen=True)
class Layout:
    """Where a demo's files lie below its folder; the lists of `dataset` say the rest."""

    dataset: Dataset
    draw: Callable[[np.random.Generator], Scene]  # of a size of its own choice
    training: str  # names of the two splits
    validation: str
    image: str  # of a split and a number; also how it is written in lists
    label: str
    train_list: str  # every training image with its label
    folders: tuple[str, ...]  # all that the files above lie in, and that is replaced
    marker: str

    def pair(self, split: str, number: int) -> tuple[str, str]:
        """The paths of an image and of its label, as lists name them."""
        return self.image.format(split=split, number=number), self.label.format(split=split, number=number)


def _voc_scene(rng: np.random.Generator) -> Scene:
    return draw_scene(rng, height=int(rng.integers(112, 145)), width=int(rng.integers(144, 177)))


def _city_scene(rng: np.random.Generator) -> Scene:
    return draw_street(rng, height=int(rng.integers(96, 129)))


VOC_LAYOUT = Layout(
    dataset=VOC,
    draw=_voc_scene,
    training="train_aug",
    validation="val",
    image="/{split}/image/scene_{number:05d}.jpg",
    label="/{split}/label/scene_{number:05d}.png",
    train_list="train_aug.txt",
    folders=("train_aug", "val", "subset_train_aug"),
    marker="made_by_demo_data.txt",
)
CITY_LAYOUT = Layout(
    dataset=CITYSCAPES,
    draw=_city_scene,
    training="train",
    validation="val",
    image="/images/{split}/street_{number:05d}.png",
    label="/segmentation/{split}/street_{number:05d}_gtFine.png",
    train_list="config_new/train.txt",
    folders=("images", "segmentation", "config_new"),
    marker="made_by_demo_data_city.txt",
)


def write_voc_layout(folder: str | Path, images: int = 250, seed: int = 0, progress: Progress = iter) -> None:
    """Writes a demo in the layout of `DATA/pascal_voc`: four fifths of the images for training, the rest to validate.

    Image i depends on (seed, i) alone. Each labelled list begins with the next smaller one, the smallest with images
    that together show every class. An earlier demo in `folder` is replaced. Raises InputError, before anything is
    written, for fewer than 10 images, a negative seed, or a folder that holds something else.
    """
    _write(VOC_LAYOUT, Path(folder), images, seed, progress)


def write_city_layout(folder: str | Path, images: int = 250, seed: int = 0, progress: Progress = iter) -> None:
    """Writes a demo in the layout of `DATA/city`, with the promises of `write_voc_layout`.

    Labels are train ids 0..18 and 255, images twice as wide as high.
    """
    _write(CITY_LAYOUT, Path(folder), images, seed, progress)


def _write(layout: Layout, folder: Path, images: int, seed: int, progress: Progress) -> None:
    _check_request(layout, folder, images, seed)
    _make_room(layout, folder)
    (folder / layout.marker).write_text(f"Made by `python -m furnace demo-data`: {images} images, seed {seed}.\n")
    train_count = images * 4 // 5
    pairs, classes_shown = [], []
    for number in progress(range(images)):
        image, label = layout.draw(np.random.default_rng([seed, number]))
        pairs.append(layout.pair(layout.training if number < train_count else layout.validation, number))
        for path, pixels in zip(pairs[-1], (image[..., ::-1], label), strict=True):  # OpenCV's channel order is BGR
            _write_picture(folder / path[1:], pixels)
        classes_shown.append(set(np.unique(label).tolist()) - {IGNORE_LABEL})
    order = _labelling_order(classes_shown[:train_count], seed)
    for name, lines in _lists(layout, pairs, train_count, order).items():
        # After all images: an interrupted demo has no list, so nothing trains on half.
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("\n".join(lines) + "\n")


def _make_room(layout: Layout, folder: Path) -> None:
    """An earlier demo's files go, nothing else; empty folders take their place."""
    for name in (layout.train_list, layout.dataset.val_list):  # first, as the folders take longer
        (folder / name).unlink(missing_ok=True)
    for name in layout.folders:
        shutil.rmtree(folder / name, ignore_errors=True)  # where that fails, so does mkdir
        (folder / name).mkdir(parents=True)
    for split in (layout.training, layout.validation):
        for path in layout.pair(split, 0):
            (folder / path[1:]).parent.mkdir(parents=True)


def _write_picture(path: Path, pixels: np.ndarray) -> None:
    # imencode, not imwrite, which reports a full disk by returning False
    options = [cv2.IMWRITE_JPEG_QUALITY, 92] if path.suffix == ".jpg" else []
    path.write_bytes(cv2.imencode(path.suffix, pixels, options)[1].tobytes())


def _lists(layout: Layout, pairs: list[tuple[str, str]], train_count: int, order: list[int]) -> dict[str, list[str]]:
    """Name and lines of each list; `order` holds the training images, those that are labelled first in front."""
    lists = {}
    for ratio in RATIOS:
        count = max(1, train_count // ratio)
        lists[layout.dataset.labeled_list.format(ratio=ratio)] = ["\t".join(pairs[index]) for index in order[:count]]
        lists[layout.dataset.unlabeled_list.format(ratio=ratio)] = [pairs[index][0] for index in order[count:]]
    lists[layout.train_list] = ["\t".join(pair) for pair in pairs[:train_count]]
    lists[layout.dataset.val_list] = ["\t".join(pair) for pair in pairs[train_count:]]
    return lists


def _labelling_order(classes_shown: list[set[int]], seed: int) -> list[int]:
    """A random order of the training images, changed only so far that the first few together show every class."""
    order = np.random.default_rng(seed).permutation(len(classes_shown)).tolist()
    first = cover_classes(classes_shown, order)
    return first + [number for number in order if number not in first]


def _check_request(layout: Layout, folder: Path, images: int, seed: int) -> None:
    # A marker of our own, because the real data sets have the same folders and must never be replaced; one for each
    # layout, because only the folders of one are replaced.
    earlier, empty = (folder / layout.marker).is_file(), folder.is_dir() and not any(folder.iterdir())
    for valid, expected, found, remedy in (
        (images >= LEAST_IMAGES, f"at least {LEAST_IMAGES} images", images, "ask for 250, for example"),
        (seed >= 0, "a seed of 0 or more", seed, "choose another"),
        (
            earlier or empty or not folder.exists(),
            "a new folder or an earlier demo in the same layout",
            f"something else in {folder} (no {layout.marker})",
            "name another folder",
        ),
    ):
        if not valid:
            raise InputError(f"demo data: expected {expected}, found {found}; {remedy}")
