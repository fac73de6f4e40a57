"""Writes predictions: class indices, colours and overlays, and on request probabilities and where networks disagree.

N is the number of classes; H and W are an image's size.
"""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from furnace.data.datasets import Dataset
from furnace.engine.background import Background
from furnace.engine.files import write_atomically
from furnace.errors import InputError
from furnace.pictures import colour_table, colourize, write_png

# Errors of the system that lie with the name of a file: others may be written where this one cannot be.
OF_ONE_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
BORDER = (255, 255, 255)  # the colour of the lines between classes in an overlay
# The colour for each number of different classes that up to four networks name at a pixel. The first stands for 0,
# which does not occur; the second, for agreement, is dark.
DISAGREEMENT = ((0, 0, 0), (40, 40, 48), (255, 221, 51), (255, 128, 0), (230, 0, 38))


@dataclass(frozen=True)
class Prediction:
    """What the networks say of one image; what nobody asked for is None."""

    name: Path
    image: np.ndarray  # (H, W, 3) uint8 RGB
    label: np.ndarray  # (H, W) uint8 of class indices
    probability: np.ndarray | None  # (N, H, W) float16
    different: np.ndarray | None  # (H, W) uint8: how many different classes the networks name at each pixel


class PredictionPictures(Background):
    """Writes predictions in a thread of its own while the next image is scored.

    Args:
        output: the folder that predictions are written below.
        dataset: gives the classes and their colours.
        refuse: is told why a prediction cannot be written, if others can be.
    """

    def __init__(self, output: Path, dataset: Dataset, refuse: Callable[[InputError], None]) -> None:
        super().__init__()
        self.output, self.dataset, self.refuse = output, dataset, refuse

    def add(self, prediction: Prediction) -> None:
        """Takes a prediction to be written.

        Raises:
            InputError: one of the predictions before could not be written, and none can be: the disk is full, say.
        """
        self.do(self._save_or_refuse, prediction)

    def _save_or_refuse(self, prediction: Prediction) -> None:
        try:
            self._save(prediction)
        except InputError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno not in OF_ONE_NAME:
                raise
            self.refuse(error)
        except MemoryError:
            self.refuse(InputError(f"image too large: {prediction.name}: no memory left to write pictures; cut it up"))

    def _save(self, prediction: Prediction) -> None:
        label, palette = prediction.label, self.dataset.palette
        write_png(self._file("index", prediction, ".png"), label)
        write_palette_png(self._file("color", prediction, ".png"), label, palette)
        write_png(self._file("overlay", prediction, ".png"), overlay(prediction.image, label, palette))
        if prediction.probability is not None:
            write_probability(
                self._file("probability", prediction, ".npz"), prediction.probability, self.dataset.classes
            )
        if prediction.different is not None:
            write_palette_png(self._file("disagreement", prediction, ".png"), prediction.different, DISAGREEMENT)

    def _file(self, folder: str, prediction: Prediction, ending: str) -> Path:
        path = self.output / folder / prediction.name
        return path.with_name(path.name + ending)


def overlay(image: np.ndarray, label: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Blends an image (H, W, 3) with the colours of its label (H, W), half each, and draws lines between classes."""
    blended = cv2.addWeighted(image, 0.5, colourize(label, palette), 0.5, 0)
    border = np.zeros(label.shape, dtype=bool)
    border[:-1] |= label[:-1] != label[1:]
    border[:, :-1] |= label[:, :-1] != label[:, 1:]
    blended[border] = BORDER
    return blended


def write_palette_png(path: Path, indices: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> None:
    """Writes indices (H, W) uint8 as a PNG that viewers show in the palette's colours, whole or not at all."""
    picture = Image.fromarray(indices)
    picture.putpalette(colour_table(palette).tobytes())
    write_atomically(path, lambda file: picture.save(file, format="PNG"))


def write_probability(path: Path, probability: np.ndarray, classes: Sequence[str]) -> None:
    """Writes `probability` (N, H, W) and the names of its classes as numpy.load reads them, whole or not at all."""

    def write(file: BinaryIO) -> None:
        np.savez_compressed(file, probability=probability, classes=np.array(classes))

    write_atomically(path, write)
