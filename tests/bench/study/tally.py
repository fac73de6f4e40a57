"""What a labeller says of pixels whose truth is known, counted batch by batch, and the numbers that follow from it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from furnace.evaluation.metrics import Scores, confusion_matrix

BINS = 15
SURE = (0.5, 0.8, 0.95)


class Tally:
    """The pixels of one labeller."""

    def __init__(self, classes: int, device: torch.device) -> None:
        self.confusion = torch.zeros(classes, classes, dtype=torch.int64, device=device)
        self.bins = torch.zeros(3, BINS, dtype=torch.float64, device=device)  # pixels, right ones, sum of confidence
        self.sure = torch.zeros(2, len(SURE), dtype=torch.float64, device=device)  # pixels, right ones
        self.agreed = torch.zeros(2, dtype=torch.float64, device=device)  # pixels, right ones

    def add(self, label: Tensor, probability: Tensor, other: Tensor, truth: Tensor) -> None:
        """Counts P pixels, at least one.

        Args:
            label: (P,) uint8, the class that is said.
            probability: (P,) float32, that of this class; bin k holds those above k/15 and up to (k+1)/15.
            other: (P,) uint8, what the other labeller says.
            truth: (P,) uint8.
        """
        right, agreed = label == truth, label == other  # both (P,)
        number = (probability * BINS).ceil().long().sub(1).clamp(0, BINS - 1)  # (P,)
        self.bins.index_add_(1, number, torch.stack([torch.ones_like(probability), right, probability]).double())
        for column, at_least in enumerate(SURE):
            sure = probability >= at_least
            self.sure[:, column] += torch.stack([sure.sum(), (sure & right).sum()])
        self.agreed += torch.stack([agreed.sum(), (agreed & right).sum()])
        self.confusion += confusion_matrix(label, truth, len(self.confusion))

    def row(self, classes: Sequence[str]) -> dict[str, float]:
        """Returns the number of pixels, and all else in percent; NaN where there is nothing to take a share of."""
        confusion, (pixels, right, confidence) = self.confusion.cpu().numpy(), self.bins.cpu().numpy()
        total, all_right, scores = pixels.sum(), right.sum(), Scores.from_confusion(confusion)
        row = {
            "accuracy": scores.pixel_accuracy,
            "mean_IoU": scores.mean_iou,
            "confidence": share(confidence.sum(), total),
            # A bin's distance |right / pixels - confidence / pixels| has the weight pixels / total.
            "calibration_error": share(np.abs(right - confidence).sum(), total),
        }
        for at_least, sure, sure_right in zip(SURE, *self.sure.tolist(), strict=True):
            row |= {f"share_{at_least}": share(sure, total), f"accuracy_{at_least}": share(sure_right, sure)}
        agreed, agreed_right = self.agreed.tolist()
        row |= {
            "agreement": share(agreed, total),
            "accuracy_agreed": share(agreed_right, agreed),
            "accuracy_disagreed": share(all_right - agreed_right, total - agreed),
        }
        occurs, said = confusion.sum(axis=1), confusion.sum(axis=0)  # both (N,)
        by_class = {
            "IoU": scores.iou,
            "recall": [share(found, there) for found, there in zip(confusion.diagonal(), occurs, strict=True)],
            "said": said / max(1, total),
            "occurs": occurs / max(1, total),
        }
        for what, values in by_class.items():
            row |= {f"{what}_{name}": value for name, value in zip(classes, values, strict=True)}
        return {"pixels": int(total), **{name: round(100 * float(value), 3) for name, value in row.items()}}


def share(part: float, whole: float) -> float:
    """Returns part / whole, and NaN of nothing."""
    return part / whole if whole else float("nan")
