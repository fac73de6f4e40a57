"""Pictures that an evaluation leaves: the labels of one predictor as PNGs, and a panel of the first images."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from furnace.data.entries import Split
from furnace.engine.background import Background
from furnace.engine.files import LONGEST_NAME
from furnace.errors import InputError
from furnace.pictures import colourize, panel, shrink, write_png
from furnace.semi.ensemble import NETWORKS, PREDICTORS

PANEL_ROWS = 4  # images shown in panel.png
PANEL_SIDE = 2048  # pixels; larger images are shown smaller, because a panel holds many
LONGEST = LONGEST_NAME - len(".png")  # bytes


class EvaluationPictures(Background):
    """Writes pictures while the next image is scored.

    Args:
        saved: the predictor whose labels are written, or None if none are.

    Attributes:
        faults: the errors of pictures that could not be written, which must not cost the scores.
    """

    def __init__(self, output: Path, split: Split, predictors: Sequence[str], saved: str | None) -> None:
        super().__init__()
        self.faults: list[InputError] = []
        self.output, self.split, self.predictors = output, split, predictors
        self.saved = None if saved is None else predictors.index(saved)
        self.names = picture_names(split) if saved else []
        self.captions = panel_captions(predictors)
        self.panel_rows: list[list[np.ndarray]] = []

    def add(self, number: int, image: Tensor, label: Tensor, predicted: Tensor) -> None:
        """Takes image `number` (H, W, 3), its label (H, W) and what the predictors say (P, H, W), all uint8."""
        if self.saved is not None:
            self.do(self._save, number, predicted[self.saved].cpu().numpy())
        if len(self.panel_rows) < PANEL_ROWS:
            shown = predicted[[self.predictors.index(code) for code in self.captions]].cpu().numpy()
            small = [shrink(indices, PANEL_SIDE, cv2.INTER_NEAREST) for indices in [label.numpy(), *shown]]
            labels = [colourize(indices, self.split.dataset.palette) for indices in small]
            self.panel_rows.append([shrink(image.numpy(), PANEL_SIDE), *labels])

    def write_panel(self) -> None:
        """Writes panel.png: the first images, their truth, each network's labels and those of the largest ensemble."""
        captions = ["image", "truth", *self.captions.values()]
        with kept(self.faults):
            write_png(self.output / "panel.png", panel(self.panel_rows, captions))

    def _save(self, number: int, indices: np.ndarray) -> None:
        """Writes labels (H, W) uint8 as an index PNG and as a colour PNG, both named as the image."""
        name = f"{self.names[number]}.png"
        with kept(self.faults):
            write_png(self.output / "results" / name, indices)
            write_png(self.output / "results_color" / name, colourize(indices, self.split.dataset.palette))


def picture_names(split: Split) -> list[str]:
    """Returns, for every entry of the list, how its pictures are called, without their ending.

    That is the image's own name, if no two images of the list share one; else its folders' names before it; and where
    that does not part them either, or makes a name too long, its whole path, in folders.
    """
    paths = [split.image_path(number) for number in range(len(split.files))]
    below = [split.name_of(number) for number in range(len(split.files))]
    for names in ([parts[-1] for parts in below], ["_".join(parts) for parts in below]):
        if len(set(names)) == len(set(paths)) and all(len(os.fsencode(name)) <= LONGEST for name in names):
            return names
    return [str(Path(*parts[:-1], path.name)) for parts, path in zip(below, paths, strict=True)]


@contextmanager
def kept(faults: list[InputError]) -> Iterator[None]:
    """Adds an InputError of this context to `faults` instead of raising it."""
    try:
        yield
    except InputError as error:
        faults.append(error)


def panel_captions(predictors: Sequence[str]) -> dict[str, str]:
    """Returns the predictors that pictures show, with captions: single networks first, the largest ensemble last."""
    singles = {PREDICTORS[code][0]: code for code in predictors if len(PREDICTORS[code]) == 1}
    shown = {singles[name]: name.replace("_", " ") for name in NETWORKS if name in singles}
    together = max(predictors, key=lambda code: len(PREDICTORS[code]))
    return shown if together in shown else {**shown, together: "together"}
