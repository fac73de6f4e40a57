"""Confusion matrices and scores, against arithmetic by hand."""

import numpy as np
import pytest
import torch
from longhand import longhand_confusion

from furnace.evaluation import metrics
from furnace.evaluation.log_table import score_columns
from furnace.evaluation.metrics import Scores, confusion_matrices, confusion_matrix


def test_scores_by_hand() -> None:
    label = torch.tensor([[0, 0, 1], [1, 255, 2]])
    prediction = torch.tensor([[0, 1, 1], [1, 0, 1]])
    confusion = confusion_matrix(prediction, label, 4).numpy()
    assert confusion.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    scores = Scores.from_confusion(confusion)
    np.testing.assert_allclose(scores.iou, [1 / 2, 2 / 4, 0, np.nan])
    assert scores.mean_iou == pytest.approx(1 / 3) and scores.mean_iou_no_background == pytest.approx(1 / 4)
    assert scores.pixel_accuracy == pytest.approx(3 / 5)
    assert score_columns(scores, "abcd")["IoU_d"] == "" and score_columns(scores, "abcd")["IoU_a"] == "50.000"


@pytest.mark.parametrize("classes", [1, 2, 19, 200, 255])
def test_confusion_matrices_equal_longhand(classes: int) -> None:
    random = np.random.default_rng(0)
    predictions = random.integers(0, classes, (3, 31, 17), dtype=np.uint8)
    label = random.integers(0, 256, (31, 17), dtype=np.uint8)
    label[:20] = random.integers(0, classes, (20, 17))
    found = confusion_matrices(torch.from_numpy(predictions), torch.from_numpy(label), classes)
    for prediction, confusion in zip(predictions, found, strict=True):
        assert np.array_equal(confusion.numpy(), longhand_confusion(prediction, label, classes))


@pytest.mark.parametrize("count", [0, 5, metrics.COPIES, 5000])
@pytest.mark.parametrize("deterministic", [False, True])
def test_a_gpu_counts_likewise(count: int, deterministic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counting of GPUs, done by a CPU, up to as many cells as 255 classes make."""
    monkeypatch.setattr(metrics, "PART", 1999)
    values = torch.randint(0, 255 * 256, (count,), dtype=torch.int32)
    values[: count // 2] = 7
    if deterministic:
        torch.use_deterministic_algorithms(True)
    try:
        found = metrics._histogram_without_wait(values, 255 * 256)
    finally:
        torch.use_deterministic_algorithms(False)
    assert found.dtype == torch.int64
    assert torch.equal(found, torch.bincount(values, minlength=255 * 256))


def test_confusion_of_a_huge_image_is_exact() -> None:
    """One more than 2^24 pixels of one kind, where fp32 cannot count on."""
    label = torch.zeros(2**24 + 3, dtype=torch.uint8)
    assert confusion_matrices(label[None], label, 2).tolist() == [[[2**24 + 3, 0], [0, 0]]]
