"""Pictures that an evaluation leaves: the labels of one predictor as PNGs, and a panel of the first images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from furnace.data.entries import Split
from furnace.engine.background import Background
from furnace.pictures import colourize, panel, write_png
from furnace.semi.ensemble import NETWORKS, PREDICTORS

PANEL_ROWS = 4  # images shown in panel.png


class EvaluationPictures(Background):
    """Writes pictures while the next image is scored.

    Args:
        saved: the predictor whose labels are written, or None if none are.
        short_names: whether those files are named as their images alone, without the images' folders.
    """

    def __init__(
        self, output: Path, split: Split, predictors: Sequence[str], saved: str | None, short_names: bool
    ) -> None:
        super().__init__()
        self.output, self.split, self.predictors = output, split, predictors
        self.saved = None if saved is None else predictors.index(saved)
        self.short_names = short_names
        self.captions = panel_captions(predictors)
        self.panel_rows: list[list[np.ndarray]] = []

    def add(self, number: int, image: Tensor, label: Tensor, predicted: Tensor) -> None:
        """Takes image `number` (H, W, 3), its label (H, W) and what the predictors say (P, H, W), all uint8."""
        if self.saved is not None:
            self.do(self._save, number, predicted[self.saved].cpu().numpy())
        if len(self.panel_rows) < PANEL_ROWS:
            shown = predicted[[self.predictors.index(code) for code in self.captions]].cpu().numpy()
            labels = (colourize(indices, self.split.dataset.palette) for indices in [label.numpy(), *shown])
            self.panel_rows.append([image.numpy(), *labels])

    def write_panel(self) -> None:
        """Writes panel.png: the first images, their truth, each network's labels and those of the largest ensemble."""
        captions = ["image", "truth", *self.captions.values()]
        write_png(self.output / "panel.png", panel(self.panel_rows, captions))

    def _save(self, number: int, indices: np.ndarray) -> None:
        """Writes labels (H, W) uint8 as an index PNG and as a colour PNG, both named as the image."""
        path = self.split.image_path(number)
        below = path.relative_to(self.split.root).with_suffix("").parts
        name = f"{path.stem if self.short_names else '_'.join(below)}.png"
        write_png(self.output / "results" / name, indices)
        write_png(self.output / "results_color" / name, colourize(indices, self.split.dataset.palette))


def panel_captions(predictors: Sequence[str]) -> dict[str, str]:
    """Returns the predictors that pictures show, with captions: single networks first, the largest ensemble last."""
    singles = {PREDICTORS[code][0]: code for code in predictors if len(PREDICTORS[code]) == 1}
    shown = {singles[name]: name.replace("_", " ") for name in NETWORKS if name in singles}
    together = max(predictors, key=lambda code: len(PREDICTORS[code]))
    return shown if together in shown else {**shown, together: "together"}
