"""The slow, obvious versions that the fast code must equal: the whole training step, and scores window by window."""

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from furnace.semi.batch import Batch


def longhand_step(
    students: Sequence[nn.Module],
    labellers: Sequence[nn.Module],
    batch: Batch,
    view: str,
    cps_weight: float,
    supervised: Callable[[Tensor, Tensor], Tensor],
    confidence: float = 0.0,
    temperature: float = 0.0,
    shifts: Sequence[Sequence[float]] | None = None,
) -> dict[str, Tensor]:
    """All forwards first, scores mixed before the argmax, one backward of the whole loss."""
    mask = batch.mask.to(batch.image.dtype)
    with torch.no_grad():
        pseudo = []
        for index, labeller in enumerate(labellers):
            first, second = labeller(batch.weak[0]), labeller(batch.weak[1])
            scores = first * (1 - mask) + second * mask
            for name, shift in enumerate(shifts[index] if shifts else ()):
                scores[:, name] += shift
            label = scores.argmax(dim=1)
            label[scores.softmax(dim=1).amax(dim=1) < confidence] = 255
            if temperature > 0:
                label = (scores / temperature).softmax(dim=1) * (label != 255).unsqueeze(1)
            pseudo.append(label)
    u0, u1 = batch.weak if view == "weak" else batch.strong
    mixed = u0 * (1 - mask) + u1 * mask
    cross = []
    for index, student in enumerate(students):
        logits, label = student(mixed), pseudo[1 - index]
        if temperature > 0:
            cross.append(-(label * logits.softmax(dim=1).log()).sum(dim=1).mean())
        else:
            cross.append(F.cross_entropy(logits, label, ignore_index=255, reduction="none").mean())
    sup = [supervised(student(batch.image), batch.label.long()) for student in students]
    total = sum(sup) + cps_weight * sum(cross)
    total.backward()
    return {
        "loss": total,
        "loss_sup_1": sup[0],
        "loss_sup_2": sup[1],
        "loss_cross_1": cross[0],
        "loss_cross_2": cross[1],
    }


def longhand_ema(teacher: nn.Module, student: nn.Module, step: int, decay: float) -> None:
    alpha = min(1 - 1 / (step + 1), decay)
    with torch.no_grad():
        for ours, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
            ours.copy_(alpha * ours + (1 - alpha) * theirs)


def longhand_ohem(logits: Tensor, labels: Tensor, threshold: float, min_kept: int) -> Tensor:
    """Pixel by pixel in Python."""
    probability = logits.softmax(dim=1).permute(0, 2, 3, 1).reshape(-1, logits.shape[1])
    flat = labels.flatten().tolist()
    true = [1.0 if label == 255 else probability[index, label].item() for index, label in enumerate(flat)]
    valid = [index for index, label in enumerate(flat) if label != 255]
    kept = valid
    if min_kept > 0 and len(valid) >= min_kept:
        bound = max(threshold, sorted(true)[min(min_kept, len(true)) - 1])
        kept = [index for index in valid if true[index] <= bound]
    if not kept:
        return logits.sum() * 0
    return torch.stack([-probability[index, flat[index]].log() for index in kept]).mean()


def longhand_scores(
    network: Callable[[Tensor], Tensor],
    image: np.ndarray,
    crop: int,
    scales: Sequence[float],
    flip: bool,
    mean: Sequence[float],
    std: Sequence[float],
    num_classes: int,
    stride_rate: float = 2 / 3,
    dtype: type = np.float32,
) -> np.ndarray:
    """(N, H, W) float64: one window at a time, in numpy and OpenCV; the network sees `dtype`."""

    def normalize(pixels: np.ndarray) -> np.ndarray:
        return (pixels.astype(dtype) / 255 - np.array(mean)) / np.array(std)

    def run(window: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(window.transpose(2, 0, 1).astype(dtype).copy())[None]
        scores = network(pixels)[0]
        if flip:
            scores = scores + network(pixels.flip(-1))[0].flip(-1)
        return scores.detach().numpy().astype(np.float64)

    height, width = image.shape[:2]
    total = np.zeros((num_classes, height, width))
    for scale in scales:
        scaled = cv2.resize(image, None, fx=scale, fy=scale)
        h, w = scaled.shape[:2]
        vertical, horizontal = max(0, crop - h), max(0, crop - w)
        top, left = vertical // 2, horizontal // 2
        border = (top, vertical - top, left, horizontal - left)
        if max(h, w) <= crop:
            padded = cv2.copyMakeBorder(normalize(scaled), *border, cv2.BORDER_CONSTANT, value=0)
        else:
            padded = normalize(cv2.copyMakeBorder(scaled, *border, cv2.BORDER_CONSTANT, value=0))
        stride = math.ceil(crop * stride_rate)
        scores = np.zeros((num_classes, *padded.shape[:2]))
        for row in range(math.ceil((padded.shape[0] - crop) / stride) + 1):
            for column in range(math.ceil((padded.shape[1] - crop) / stride) + 1):
                y = min(row * stride, padded.shape[0] - crop)
                x = min(column * stride, padded.shape[1] - crop)
                scores[:, y : y + crop, x : x + crop] += run(padded[y : y + crop, x : x + crop])
        scores = scores[:, top : top + h, left : left + w]
        total += longhand_stretch(longhand_stretch(scores, height, axis=1), width, axis=2)
    return total


def longhand_stretch(values: np.ndarray, length: int, axis: int) -> np.ndarray:
    """Linear interpolation along one axis; the centres of the first and last sample lie half a step inside."""
    there = values.shape[axis]
    position = np.clip((np.arange(length) + 0.5) * there / length - 0.5, 0, there - 1)
    before = np.floor(position).astype(int)
    share = (position - before).reshape([-1 if other == axis else 1 for other in range(values.ndim)])
    after = np.minimum(before + 1, there - 1)
    return (1 - share) * values.take(before, axis) + share * values.take(after, axis)


def longhand_confusion(prediction: np.ndarray, label: np.ndarray, num_classes: int) -> np.ndarray:
    """Pixel by pixel in Python."""
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    for said, true in zip(prediction.flatten().tolist(), label.flatten().tolist(), strict=True):
        if 0 <= true < num_classes:
            confusion[true, said] += 1
    return confusion
