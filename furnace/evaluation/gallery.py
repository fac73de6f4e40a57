"""Small pictures of a few validation images, of each evaluated epoch: what `python -m furnace report` shows.

    OUTPUT_PATH/gallery/epoch{N}/{image number}.json          the image's name, captions and files, written last
    OUTPUT_PATH/gallery/epoch{N}/{image number}_{what}.png    image (.jpg), truth, each network, ensemble, disagreement

H and W are an image's size; pictures are uint8 RGB.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from furnace.data.datasets import Split
from furnace.data.file_list import spread
from furnace.engine.files import json_text, write_atomically, write_text
from furnace.evaluation.pictures import panel_captions
from furnace.pictures import colourize, shrink, write_png
from furnace.semi.ensemble import PREDICTORS, count_different

IMAGES = 6  # spread evenly over the list
LONGEST_SIDE = 320  # pixels
JPEG_QUALITY = 85
# Where networks differ: the colour of two different classes, of three, of four.
DIFFERENT = ((255, 176, 0), (220, 38, 127), (72, 20, 140))


class Gallery:
    """Writes the pictures of those images of one evaluation that the gallery shows.

    Which these are depends on the list alone, so that every process writes its own. Nothing is written unless two
    networks are evaluated each for itself: with one there is nothing to compare.
    """

    def __init__(self, output: Path, epoch: int, split: Split, predictors: Sequence[str]) -> None:
        self.folder = output / "gallery" / f"epoch{epoch}"
        self.split, self.predictors = split, predictors
        self.captions = {
            code: caption if len(PREDICTORS[code]) == 1 else f"{caption} ({code})"
            for code, caption in panel_captions(predictors).items()
        }
        self.singles = [code for code in self.captions if len(PREDICTORS[code]) == 1]
        self.numbers = frozenset(spread(len(split.files), IMAGES))

    def add(self, number: int, image: Tensor, label: Tensor, predicted: Tensor) -> None:
        """Takes image `number` (H, W, 3), its label (H, W) and what the predictors say (P, H, W), all uint8."""
        if number not in self.numbers or len(self.singles) < 2:
            return
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
        cells = [
            {"caption": caption, "file": self._write(number, caption, picture)} for caption, picture in pictures.items()
        ]
        record = {
            "name": self.split.image_path(number).name,
            "disagreement": float((different > 1).mean()),
            "networks": len(self.singles),
            "cells": cells,
        }
        write_text(self.folder / f"{number}.json", json_text(record))

    def _write(self, number: int, caption: str, picture: np.ndarray) -> str:
        """Writes one picture, made small; the photograph as JPEG. Returns the file's name."""
        what = caption.partition(" (")[0].replace(" ", "_")
        if what == "image":
            path = self.folder / f"{number}_{what}.jpg"
            small = shrink(picture, LONGEST_SIDE)
            _, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            write_atomically(path, lambda file: file.write(data.tobytes()))
        else:
            path = self.folder / f"{number}_{what}.png"
            write_png(path, shrink(picture, LONGEST_SIDE, cv2.INTER_NEAREST))
        return path.name


def draw_disagreement(image: np.ndarray, different: np.ndarray) -> np.ndarray:
    """The image, pale and grey where the networks agree, coloured by the number of classes where they do not."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    drawn = np.repeat((170 + grey // 3)[..., None], 3, axis=2)  # (H, W, 3)
    for classes, colour in enumerate(DIFFERENT, 2):
        drawn[different == classes] = colour
    return drawn
