"""Small pictures of a few validation images for each evaluated epoch, which `python -m furnace report` shows.

    OUTPUT_PATH/gallery/epoch{N}/{image number}.json          the image's name, captions and files, written last
    OUTPUT_PATH/gallery/epoch{N}/{image number}_{what}.png    image (.jpg), truth, each network, ensemble, disagreement

H and W are an image's size; pictures are uint8 RGB.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from furnace.data.entries import Split
from furnace.data.file_list import spread
from furnace.engine.files import json_text, write_atomically, write_text, writing
from furnace.errors import InputError
from furnace.evaluation.pictures import kept, panel_captions
from furnace.pictures import colourize, shrink, write_png
from furnace.semi.ensemble import PREDICTORS, count_different

FOLDER = "gallery"  # below OUTPUT_PATH
IMAGES = 6  # spread evenly over the list
LONGEST_SIDE = 320  # pixels
JPEG_QUALITY = 85
# Where networks differ: the colour of two different classes, of three, of four.
DIFFERENT = ((255, 176, 0), (220, 38, 127), (72, 20, 140))


@dataclass(frozen=True)
class ShownImage:
    """What the JSON file of one validation image says.

    Attributes:
        name: the image's file name.
        disagreement: the share of its pixels on which the networks disagree, from 0 to 1.
        networks: how many networks were compared.
        cells: each picture's caption and file, in the order in which they are shown.
    """

    name: str
    disagreement: float
    networks: int
    cells: tuple[tuple[str, Path], ...]

    def write(self, path: Path) -> None:
        """Writes the JSON file beside the pictures."""
        cells = [{"caption": caption, "file": file.name} for caption, file in self.cells]
        record = {"name": self.name, "disagreement": self.disagreement, "networks": self.networks, "cells": cells}
        write_text(path, json_text(record))

    @classmethod
    def read(cls, path: Path) -> "ShownImage":
        """Reads the JSON file.

        Raises:
            InputError: the file is damaged.
        """
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            cells = tuple((str(cell["caption"]), path.parent / Path(cell["file"]).name) for cell in record["cells"])
            return cls(str(record["name"]), float(record["disagreement"]), int(record["networks"]), cells)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise InputError(f"damaged file: {path.name}: {type(error).__name__}; evaluate again") from None


class Gallery:
    """Writes the pictures of those images of one evaluation that the gallery shows.

    The list alone decides which images these are, so that each process knows which of its own to write. Nothing is
    written unless at least two networks are evaluated singly, because with one there is nothing to compare.

    Attributes:
        faults: the errors of pictures that could not be written or removed, which must not cost the scores.
    """

    def __init__(self, output: Path, epoch: int, split: Split, predictors: Sequence[str]) -> None:
        self.faults: list[InputError] = []
        self.folder = output / FOLDER / f"epoch{epoch}"
        self.split, self.predictors = split, predictors
        self.captions = {
            code: caption if len(PREDICTORS[code]) == 1 else f"{caption} ({code})"
            for code, caption in panel_captions(predictors).items()
        }
        self.singles = [code for code in self.captions if len(PREDICTORS[code]) == 1]
        self.numbers = frozenset(spread(len(split.files), IMAGES))

    def remove_others(self) -> None:
        """Removes pictures of images that are not shown any more, which an evaluation of another list has left."""
        for path in self.folder.glob("*.json"):
            if path.stem.isdecimal() and int(path.stem) not in self.numbers:
                for old in (path, *self.folder.glob(f"{path.stem}_*")):
                    with kept(self.faults), writing(old):
                        old.unlink(missing_ok=True)

    def add(self, number: int, image: Tensor, label: Tensor, predicted: Tensor) -> None:
        """Takes image `number` (H, W, 3), its label (H, W) and what the predictors say (P, H, W), all uint8."""
        if number in self.numbers and len(self.singles) >= 2:
            with kept(self.faults):
                self._add(number, image, label, predicted)

    def _add(self, number: int, image: Tensor, label: Tensor, predicted: Tensor) -> None:
        said = {code: predicted[self.predictors.index(code)].cpu().numpy() for code in self.captions}
        places = [self.predictors.index(code) for code in self.singles]
        different = count_different(predicted[places]).cpu().numpy()
        palette = self.split.dataset.palette
        pictures = {
            "image": image.numpy(),
            "truth": colourize(label.numpy(), palette),
            **{caption: colourize(said[code], palette) for code, caption in self.captions.items()},
            "disagreement": draw_disagreement(image.numpy(), different),
        }
        shown = ShownImage(
            name=self.split.image_path(number).name,
            disagreement=float((different > 1).mean()),
            networks=len(self.singles),
            cells=tuple((caption, self._write(number, caption, picture)) for caption, picture in pictures.items()),
        )
        shown.write(self.folder / f"{number}.json")

    def _write(self, number: int, caption: str, picture: np.ndarray) -> Path:
        """Makes one picture small, writes it, the photograph as JPEG, and returns the file."""
        what = caption.partition(" (")[0].replace(" ", "_")
        if what == "image":
            path = self.folder / f"{number}_{what}.jpg"
            small = shrink(picture, LONGEST_SIDE)
            _, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            write_atomically(path, lambda file: file.write(data.tobytes()))
        else:
            path = self.folder / f"{number}_{what}.png"
            write_png(path, shrink(picture, LONGEST_SIDE, cv2.INTER_NEAREST))
        return path


def draw_disagreement(image: np.ndarray, different: np.ndarray) -> np.ndarray:
    """Draws where networks differ.

    Args:
        image: (H, W, 3) uint8 RGB.
        different: (H, W), how many different classes the networks give to each pixel.

    Returns:
        The image (H, W, 3) uint8, pale and grey where the networks agree, in a colour of DIFFERENT where they do not.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    drawn = np.repeat((170 + grey // 3)[..., None], 3, axis=2)  # (H, W, 3)
    for classes, colour in enumerate(DIFFERENT, 2):
        drawn[different == classes] = colour
    return drawn
