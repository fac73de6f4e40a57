"""Confusion matrices and the scores read from them. N classes, P predictions of one label."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

MEAN_IOU = "mIoU_"  # before a predictor's code: a column of metrics.csv, in percent


def confusion_matrices(predictions: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """Counts pixels by label (row) and prediction (column), for P predictions of one label: (P, N, N) int64.

    `predictions` (P, ...) and `label` (...) hold whole numbers that fit into 8 bits; labels of N to 255 are left out.
    """
    # A pixel's cell is label * N + prediction; one row more takes what is left out.
    row = label.to(torch.uint8).clamp(max=num_classes).to(torch.int32 if label.is_cuda else torch.int16) * num_classes
    cells = num_classes * (num_classes + 1)
    counts = torch.stack([_histogram(row + prediction.to(torch.uint8), cells) for prediction in predictions])
    return counts[:, :-num_classes].reshape(-1, num_classes, num_classes)


def confusion_matrix(prediction: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """The same for one prediction: (N, N) int64."""
    return confusion_matrices(prediction[None], label, num_classes)[0]


def _histogram(values: Tensor, bins: int) -> Tensor:
    """How often each number below `bins` occurs: (bins,) int64. On a CPU values are 16 bits, taken as unsigned."""
    if values.is_cuda:
        return torch.bincount(values.flatten(), minlength=bins)
    # OpenCV takes half of bincount's time, given one long row. It counts in fp32: exact up to 2^24.
    row = values.reshape(1, -1).numpy().view(np.uint16)
    parts = (row[:, start : start + 2**24] for start in range(0, row.size, 2**24))
    counts = [cv2.calcHist([part], [0], None, [bins], [0, bins]) for part in parts]
    return torch.from_numpy(np.sum(counts, axis=0, dtype=np.int64).reshape(-1))


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
