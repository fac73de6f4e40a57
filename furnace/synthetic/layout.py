"""Writes toy scenes as a data set, in the layout of VOC or of Cityscapes, with the same promises for both."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from furnace.data.datasets import CITYSCAPES, VOC, Dataset
from furnace.data.splits import cover_classes
from furnace.errors import InputError
from furnace.labels import IGNORE
from furnace.synthetic.shapes import draw_scene
from furnace.synthetic.street import draw_street

LEAST_IMAGES = 10
RATIOS = (16, 8, 4, 2)
Scene = tuple[np.ndarray, np.ndarray]  # an image and its label
Progress = Callable[[Iterable[int]], Iterable[int]]


@dataclass(frozen=True)
class Layout:
    """How a demo is drawn and named; its lists and files lie where `dataset` says."""

    dataset: Dataset
    draw: Callable[[np.random.Generator], Scene]  # draws the size of the scene too
    scene: str  # what file names begin with
    folders: tuple[str, ...]  # all that images, labels and splits lie in; a new demo replaces them
    marker: str  # the file that says that this program made the folder

    def pair(self, split: str, number: int) -> tuple[str, str]:
        """Returns the paths of an image and of its label, as lists name them."""
        name = f"{self.scene}_{number:05d}"
        patterns = self.dataset.name_image, self.dataset.name_label
        image, label = (pattern.format(split=split, name=name) for pattern in patterns)
        return f"/{image}", f"/{label}"


def _voc_scene(rng: np.random.Generator) -> Scene:
    return draw_scene(rng, height=int(rng.integers(112, 145)), width=int(rng.integers(144, 177)))


def _city_scene(rng: np.random.Generator) -> Scene:
    return draw_street(rng, height=int(rng.integers(96, 129)))


VOC_LAYOUT = Layout(
    dataset=VOC,
    draw=_voc_scene,
    scene="scene",
    folders=("train_aug", "val", "subset_train_aug"),
    marker="made_by_demo_data.txt",
)
CITY_LAYOUT = Layout(
    dataset=CITYSCAPES,
    draw=_city_scene,
    scene="street",
    folders=("images", "segmentation", "config_new"),
    marker="made_by_demo_data_city.txt",
)


def write_voc_layout(folder: str | Path, images: int = 250, seed: int = 0, progress: Progress = iter) -> None:
    """Writes a demo in the layout of `DATA/pascal_voc`: four fifths of the images for training, the rest to validate.

    Image i depends on (seed, i) alone. Each labelled list begins with the entries of the next smaller one, and the
    smallest begins with images that together show every class. An earlier demo in `folder` is replaced.

    Args:
        images: how many images to make for training and validation together, at least 10.
        progress: wraps the numbers of the images that are still to be made, as a progress bar does.

    Raises:
        InputError: there are to be fewer than 10 images, the seed is negative, or the folder holds something else than
            a demo in this layout. Nothing has been written then.
    """
    _write(VOC_LAYOUT, Path(folder), images, seed, progress)


def write_city_layout(folder: str | Path, images: int = 250, seed: int = 0, progress: Progress = iter) -> None:
    """Writes a demo in the layout of `DATA/city`, with the arguments and promises of `write_voc_layout`.

    Labels are train ids 0..18 and 255. Images are twice as wide as high.
    """
    _write(CITY_LAYOUT, Path(folder), images, seed, progress)


def _write(layout: Layout, folder: Path, images: int, seed: int, progress: Progress) -> None:
    _check_request(layout, folder, images, seed)
    _make_room(layout, folder)
    made = f"Made by `python -m furnace demo-data`: {images} images, seed {seed}.\n"
    (folder / layout.marker).write_text(made, encoding="utf-8")
    train_count = images * 4 // 5
    pairs, classes_shown = [], []
    for number in progress(range(images)):
        image, label = layout.draw(np.random.default_rng([seed, number]))
        pairs.append(layout.pair(layout.dataset.train_folder if number < train_count else "val", number))
        for path, pixels in zip(pairs[-1], (image[..., ::-1], label), strict=True):  # OpenCV's channel order is BGR
            _write_picture(folder / path[1:], pixels)
        classes_shown.append(set(np.unique(label).tolist()) - {IGNORE})
    order = _labelling_order(classes_shown[:train_count], seed)
    for name, lines in _lists(layout, pairs, train_count, order).items():
        # Lists are written after all images: an interrupted demo has none, so nothing trains on half of it.
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _make_room(layout: Layout, folder: Path) -> None:
    """Removes the files of an earlier demo, and nothing else, and makes empty folders in their place."""
    for name in (layout.dataset.train_list, layout.dataset.val_list):  # first, because removing folders takes longer
        (folder / name).unlink(missing_ok=True)
    for name in layout.folders:
        shutil.rmtree(folder / name, ignore_errors=True)  # where this fails, mkdir fails too and says why
        (folder / name).mkdir(parents=True)
    for split in (layout.dataset.train_folder, "val"):
        for path in layout.pair(split, 0):
            (folder / path[1:]).parent.mkdir(parents=True)


def _write_picture(path: Path, pixels: np.ndarray) -> None:
    # Not by cv2.imwrite, which reports a full disk only by returning False.
    options = [cv2.IMWRITE_JPEG_QUALITY, 92] if path.suffix == ".jpg" else []
    path.write_bytes(cv2.imencode(path.suffix, pixels, options)[1].tobytes())


def _lists(layout: Layout, pairs: list[tuple[str, str]], train_count: int, order: list[int]) -> dict[str, list[str]]:
    """Returns the name and the lines of each list.

    Args:
        pairs: the paths of each image and of its label, training images first.
        order: the numbers of the training images; a labelled list takes the first of them.
    """
    lists = {}
    for ratio in RATIOS:
        count = max(1, train_count // ratio)
        lists[layout.dataset.labeled_list.format(ratio=ratio)] = ["\t".join(pairs[index]) for index in order[:count]]
        lists[layout.dataset.unlabeled_list.format(ratio=ratio)] = [pairs[index][0] for index in order[count:]]
    lists[layout.dataset.train_list] = ["\t".join(pair) for pair in pairs[:train_count]]
    lists[layout.dataset.val_list] = ["\t".join(pair) for pair in pairs[train_count:]]
    return lists


def _labelling_order(classes_shown: list[set[int]], seed: int) -> list[int]:
    """Draws an order of the training images, changed only so far that the first few together show every class."""
    order = np.random.default_rng(seed).permutation(len(classes_shown)).tolist()
    first = cover_classes(classes_shown, order)
    return first + [number for number in order if number not in first]


def _check_request(layout: Layout, folder: Path, images: int, seed: int) -> None:
    # A marker tells a demo from the real data set, which has the same folders and must never be replaced. Each layout
    # has a marker of its own, because only the folders of one layout are replaced.
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
