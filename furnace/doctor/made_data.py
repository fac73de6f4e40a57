"""Made images and lists in the place of a data set that is not there, as large as its own and as slow to decode."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from furnace.config.experiment import Experiment
from furnace.data import netpbm
from furnace.data.datasets import CAMVID, CITYSCAPES, VOC
from furnace.errors import InputError
from furnace.prepare.official import CAMVID_COUNTS, CITYSCAPES_COUNTS, VOC_COUNTS

FOLDER = "made"  # below the data set's folder
SEED = 0
JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")
DECODED = netpbm.ENDINGS[0]  # the ending of an image that need not be decoded


class Known(NamedTuple):
    """What is known of a data set without its files."""

    train: int  # images
    val: int
    height: int  # of most images, in pixels
    width: int
    files: int  # that are made in its place: few where they are large


KNOWN = {
    VOC.name: Known(*VOC_COUNTS, 375, 500, 16),
    CITYSCAPES.name: Known(*CITYSCAPES_COUNTS, 1024, 2048, 4),
    CAMVID.name: Known(*CAMVID_COUNTS, 360, 480, 16),
}
UNKNOWN = Known(1000, 100, 480, 640, 8)  # what is assumed of any other


@dataclass(frozen=True)
class Lengths:
    """How many images the lists name, or would."""

    labeled: int
    unlabeled: int
    val: int


def is_there(experiment: Experiment) -> bool:
    """Whether the lists and their files are there, as far as a look at some of them tells."""
    val = ["val"] if experiment.needs_validation_images else []
    try:
        for which in ("labeled", "unlabeled", *val):
            experiment.split(which).check_files(with_labels=which != "unlabeled")
    except InputError:
        return False
    return True


def with_made_data(experiment: Experiment, folder: Path) -> Experiment:
    """Writes images, label maps and lists into an empty folder, and returns the experiment that uses them.

    Lists are as long as its own, or as those of the official data set where there are none. They name the same few
    files again and again.
    """
    dataset, known = experiment.dataset, KNOWN.get(experiment.dataset.name, UNKNOWN)
    random = np.random.default_rng(SEED)
    ending = _ending(dataset.name_image)
    (folder / FOLDER).mkdir()
    pairs = []
    for number in range(known.files):
        pairs.append((f"{FOLDER}/{number}{ending}", f"{FOLDER}/{number}_label.png"))
        pictures = _picture(random, known.height, known.width), _label(random, known, dataset.num_classes)
        for name, pixels in zip(pairs[-1], pictures, strict=True):
            (folder / name).write_bytes(cv2.imencode(Path(name).suffix, pixels)[1].tobytes())
    for which, length in dataclasses.asdict(lengths(experiment)).items():
        path = folder / getattr(dataset, f"{which}_list").format(ratio=experiment.settings.labeled_ratio)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join("\t".join(pairs[line % len(pairs)]) + "\n" for line in range(length)), encoding="utf-8")
    settings = dataclasses.replace(experiment.settings, dataset_path=folder, lists_path=folder)
    return dataclasses.replace(experiment, settings=settings)


def lengths(experiment: Experiment) -> Lengths:
    """Returns how long the experiment's lists are, or those of the official data set where they are not there."""
    known, ratio = KNOWN.get(experiment.dataset.name, UNKNOWN), experiment.settings.labeled_ratio
    labeled = max(1, known.train // ratio)
    return Lengths(
        _length(experiment, "labeled", labeled),
        _length(experiment, "unlabeled", known.train - labeled),
        _length(experiment, "val", known.val),
    )


def _ending(pattern: str) -> str:
    """Returns how a made image's name ends, so that it takes as long to decode as those of a pattern of names."""
    suffix = Path(pattern).suffix.lower()
    return ".jpg" if suffix in JPEG else suffix if suffix == DECODED else ".png"


def _length(experiment: Experiment, which: str, otherwise: int) -> int:
    try:
        return len(experiment.split(which).files)
    except InputError:
        return otherwise


def _picture(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draws smooth colours, edges and grain (H, W, 3) uint8, which files hold as badly as a photograph's."""
    image = np.full((height, width, 3), random.uniform(90, 150, 3), dtype=np.float32)
    for step, strength in ((64, 30), (16, 15), (4, 10)):
        coarse = random.standard_normal((height // step + 2, width // step + 2, 3), dtype=np.float32)
        image += strength * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(12):
        corners = random.uniform(0, (width, height), (4, 2)).astype(np.int32)
        cv2.fillConvexPoly(image, cv2.convexHull(corners), random.uniform(20, 235, 3).tolist(), cv2.LINE_AA)
    image += 3 * random.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image, 0, 255).astype(np.uint8)


def _label(random: np.random.Generator, known: Known, classes: int) -> np.ndarray:
    """Draws a label map (H, W) uint8 of large fields of all classes."""
    fields = random.integers(classes, size=(8, 12), dtype=np.uint8)
    return cv2.resize(fields, (known.width, known.height), interpolation=cv2.INTER_NEAREST)
