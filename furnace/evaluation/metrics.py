"""Confusion matrices and the scores read from them. N classes, P predictions of one label."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

# A GPU has so many copies of each counter, and counts so many pixels at once, so that indices take little memory.
COPIES, PART = 64, 2**22
MEAN_IOU = "mIoU_"  # with a predictor's code behind it, this names a column of metrics.csv, in percent


def confusion_matrices(predictions: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """Counts pixels by label (row) and prediction (column), for each of P predictions of one label.

    Args:
        predictions: (P, ...), whole numbers of any dtype, from 0 to N-1.
        label: (...), whole numbers of any dtype, from 0 to 255; pixels with labels of N to 255 are left out.
        num_classes: N, at most 255.

    Returns:
        (P, N, N) int64.
    """
    # A pixel's cell is label * N + prediction. Pixels that are left out are counted in one more row, which is cut off.
    row = label.to(torch.uint8).clamp(max=num_classes).to(torch.int32 if label.is_cuda else torch.int16) * num_classes
    cells = num_classes * (num_classes + 1)
    counts = torch.stack([_histogram(row + prediction.to(torch.uint8), cells) for prediction in predictions])
    return counts[:, :-num_classes].reshape(-1, num_classes, num_classes)


def confusion_matrix(prediction: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """Counts pixels by label (row) and prediction (column), for one prediction (...): (N, N) int64."""
    return confusion_matrices(prediction[None], label, num_classes)[0]


def _histogram(values: Tensor, bins: int) -> Tensor:
    """Counts how often each number below `bins` occurs: (bins,) int64.

    On a CPU `values` are int16 whose bits are read as unsigned, because 255 classes make more cells than int16 counts.
    """
    if values.is_cuda:
        return _histogram_without_wait(values.flatten(), bins)
    # OpenCV takes half of bincount's time if the values form one long row. It counts in fp32, which is exact up to
    # 2^24, so that a longer row is counted in parts.
    row = values.reshape(1, -1).numpy().view(np.uint16)
    parts = (row[:, start : start + 2**24] for start in range(0, row.size, 2**24))
    counts = [cv2.calcHist([part], [0], None, [bins], [0, bins]) for part in parts]
    return torch.from_numpy(np.sum(counts, axis=0, dtype=np.int64).reshape(-1))


def _histogram_without_wait(values: Tensor, bins: int) -> Tensor:
    """Counts values (n,) as `_histogram` does, while the program goes on.

    torch.bincount looks at the smallest and the largest value first, and the program waits for the GPU both times.
    """
    # Most pixels fall into a few bins, and a GPU adds to one counter only once at a time. Neighbouring pixels therefore
    # take different copies of the counters.
    counts = torch.zeros(COPIES * bins, dtype=torch.int64, device=values.device)
    one = counts.new_ones(1)
    for part in torch.split(values, PART):
        copies = torch.arange(len(part), dtype=torch.int32, device=values.device).remainder_(COPIES)
        counts.index_add_(0, copies.mul_(bins).add_(part), one.expand(len(part)))
    return counts.view(COPIES, bins).sum(dim=0)


@dataclass(frozen=True)
class Scores:
    """Scores of one predictor, as fractions from 0 to 1.

    A class that occurs neither in labels nor in predictions has an IoU of NaN and is left out of the means.
    """

    iou: np.ndarray  # (N,) float64
    mean_iou: float
    mean_iou_no_background: float  # over classes 1..N-1, as published, even where class 0 is no background
    pixel_accuracy: float  # over all pixels; published under the name mean_pixel_ACC

    @classmethod
    def from_confusion(cls, confusion: np.ndarray) -> "Scores":
        """Reads the scores from a confusion matrix (N, N) whose rows are labels.

        IoU = intersection / (labelled + predicted - intersection), each counted in pixels.
        """
        confusion = np.asarray(confusion, dtype=np.float64)
        correct = np.diag(confusion)
        union = confusion.sum(axis=0) + confusion.sum(axis=1) - correct
        iou = np.divide(correct, union, out=np.full(len(correct), np.nan), where=union > 0)
        total = confusion.sum()
        return cls(iou, _nanmean(iou), _nanmean(iou[1:]), correct.sum() / total if total else float("nan"))

    def text(self, classes: Sequence[str]) -> str:
        """Returns one line per class and one with the means, in the published layout."""
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
