"""Confusion matrix and the scores read from it. N classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def confusion_matrix(prediction: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """Counts pixels by label (row) and prediction (column): (N, N) int64; labels outside 0..N-1 are left out.

    `prediction` and `label` are integer tensors of one shape.
    """
    label = label.flatten().long()
    valid = (label >= 0) & (label < num_classes)
    cell = label * num_classes + prediction.flatten().long()
    return torch.bincount(cell[valid], minlength=num_classes**2).reshape(num_classes, num_classes)


@dataclass(frozen=True)
class Scores:
    """Fractions from 0 to 1. A class in neither labels nor predictions is NaN and left out of the means."""

    iou: np.ndarray  # (N,) float64
    mean_iou: float
    mean_iou_no_background: float  # over classes 1..N-1, also where class 0 is no background (as published)
    pixel_accuracy: float  # over all pixels; published under the name mean_pixel_ACC

    @classmethod
    def from_confusion(cls, confusion: np.ndarray) -> "Scores":
        """IoU = intersection / (labelled + predicted - intersection). `confusion` is (N, N), rows are labels."""
        confusion = np.asarray(confusion, dtype=np.float64)
        correct = np.diag(confusion)
        union = confusion.sum(axis=0) + confusion.sum(axis=1) - correct
        iou = np.divide(correct, union, out=np.full(len(correct), np.nan), where=union > 0)
        total = confusion.sum()
        return cls(iou, _nanmean(iou), _nanmean(iou[1:]), correct.sum() / total if total else float("nan"))

    def text(self, classes: Sequence[str]) -> str:
        """One line per class and one with the means, in the published layout."""
        lines = [
            f"{f'{index} {name}':<8}\t{100 * iou:.3f}%"
            for index, (name, iou) in enumerate(zip(classes, self.iou, strict=True), 1)
        ]
        means = (
            ("mean_IU", self.mean_iou),
            ("mean_IU_no_back", self.mean_iou_no_background),
            ("mean_pixel_ACC", self.pixel_accuracy),
        )
        lines.append("-" * 28 + " " * 5 + "\t".join(f"{name:<8}\t{100 * value:.3f}%" for name, value in means))
        return "\n".join(lines)


def _nanmean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
