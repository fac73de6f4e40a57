"""Distribution alignment: labels are held to the shares that classes have among the labelled pixels."""

import math
from contextlib import nullcontext

import pytest
import torch
from batches import CLASSES, random_batch, small_network
from steps import require_longhand_step

from furnace.data.normalization import IMAGENET_MEAN, IMAGENET_STD, normalize
from furnace.labels import IGNORE
from furnace.semi.alignment import Alignment
from furnace.semi.cross_supervision import CrossSupervision
from furnace.semi.ensemble import Ensemble
from furnace.semi.terms import LabelsOf

SHARES = [[0.5, 0.2, 0.2, 0.1, 0.0], [0.1, 0.4, 0.0, 0.3, 0.2], [0.3, 0.3, 0.2, 0.15, 0.05]]


def alignment_of(shares: list[list[float]], strength: float = 1.0) -> Alignment:
    alignment = Alignment(strength, CLASSES).double()
    alignment.shares.copy_(torch.tensor(shares))
    return alignment


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_shifts_are_those_of_a_loop(strength: float) -> None:
    found = alignment_of(SHARES, strength).shifts().tolist()
    for shifts, said in zip(found, SHARES[:2], strict=True):
        right = [
            strength * math.log((share + 0.001) / (own + 0.001)) for share, own in zip(SHARES[2], said, strict=True)
        ]
        assert shifts == pytest.approx(right, rel=1e-6)


def test_at_first_nothing_is_shifted() -> None:
    assert torch.equal(Alignment(1.0, 21).shifts(), torch.zeros(2, 21))


def test_with_strength_1_probabilities_are_multiplied_by_the_ratio_of_shares() -> None:
    """So it stands in the paper: labelled / said times the probabilities, made to sum to 1."""
    logits = torch.randn(2, CLASSES, 7, 6, dtype=torch.float64)
    shares = [[0.2] * CLASSES, [0.2] * CLASSES, [0.4, 0.3, 0.15, 0.1, 0.05]]
    shift = alignment_of(shares).shifts()[0]
    soft = LabelsOf(torch.nn.Identity(), nullcontext, temperature=1.0)(logits, shift).soft
    ratio = torch.tensor([(share + 0.001) / 0.201 for share in shares[2]], dtype=torch.float64).view(-1, 1, 1)
    right = logits.softmax(dim=1) * ratio
    torch.testing.assert_close(soft, right / right.sum(dim=1, keepdim=True))


def test_what_is_said_is_counted_before_the_shift() -> None:
    logits = torch.randn(2, CLASSES, 7, 6, dtype=torch.float64)
    labels = LabelsOf(torch.nn.Identity(), nullcontext, confidence=0.8)(logits, torch.tensor([3.0, 0, 0, 0, 0]))
    torch.testing.assert_close(labels.said, logits.softmax(dim=1).sum(dim=(0, 2, 3)))
    shifted = logits + torch.tensor([3.0, 0, 0, 0, 0]).view(-1, 1, 1)
    assert torch.equal(labels.likeliest, shifted.argmax(dim=1).to(torch.uint8))
    sure = shifted.softmax(dim=1).amax(dim=1) >= 0.8
    assert 0 < sure.sum() < sure.numel() and torch.equal(labels.label != IGNORE, sure)


@pytest.mark.parametrize("labellers", ["students", "teachers"])
@pytest.mark.parametrize(("temperature", "confidence"), [(0.0, 0.0), (0.0, 0.3), (0.5, 0.0), (0.5, 0.3)])
def test_step_equals_longhand_and_moves_the_averages(labellers: str, temperature: float, confidence: float) -> None:
    ensemble, alignment = Ensemble(small_network, with_teachers=True), alignment_of(SHARES)
    require_longhand_step(ensemble, labellers, alignment, temperature=temperature, confidence=confidence)
    assert not any(map(torch.equal, alignment.shares, torch.tensor(SHARES).double()))


def test_averages_are_those_of_a_loop_and_leave_ignored_pixels_out() -> None:
    """Ten steps of the algorithm, with what both labellers say and the labelled pixels counted one by one."""
    ensemble, alignment = Ensemble(small_network, with_teachers=True), Alignment(1.0, CLASSES).double()
    algorithm = CrossSupervision(ensemble.students, ensemble.teachers, "weak", alignment=alignment)
    right = [[1 / CLASSES] * CLASSES for _ in range(3)]
    for _ in range(10):
        batch = random_batch()
        with torch.no_grad():
            seen = [
                [torch.cat([teacher(u).softmax(dim=1) for u in batch.weak])[:, k].mean().item() for k in range(CLASSES)]
                for teacher in ensemble.teachers
            ]
        pixels = [value for value in batch.label.flatten().tolist() if value != IGNORE]
        seen.append([pixels.count(k) / len(pixels) for k in range(CLASSES)])
        right = [
            [0.99 * old + 0.01 * new for old, new in zip(*rows, strict=True)] for rows in zip(right, seen, strict=True)
        ]
        algorithm.accumulate_gradients(batch, cps_weight=1.0)
    torch.testing.assert_close(alignment.shares, torch.tensor(right).double(), rtol=1e-7, atol=0)
    torch.testing.assert_close(alignment.shares.sum(dim=1), torch.ones(3).double())


def test_what_is_said_beside_an_image_does_not_count() -> None:
    """A crop that is larger than its image says the same of the classes as the image alone."""
    network, shift = torch.nn.Conv2d(3, CLASSES, 1).double().requires_grad_(False), torch.zeros(CLASSES)
    canvas = torch.zeros(2, 3, 9, 9, dtype=torch.float64)
    image = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    canvas[:, :, 2:6, 3:9] = image
    labels_of = LabelsOf(network, nullcontext)
    torch.testing.assert_close(labels_of(canvas, shift).said, labels_of(image, shift).said)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_pixel_of_an_image_looks_like_those_beside_it(dtype: torch.dtype) -> None:
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    every = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(-1, -1, -1, 3)
    assert normalize(every, mean, std).to(dtype).all()
    beside = normalize(every, mean, std, torch.tensor([[3, 16, 0, 9]])).to(dtype).any(dim=1)
    assert torch.equal(
        beside[0], torch.tensor([[row >= 3 and column < 9 for column in range(16)] for row in range(16)])
    )


@pytest.mark.parametrize("fault", ["no labelled pixel", "not finite"])
def test_a_batch_that_tells_nothing_does_not_count(fault: str) -> None:
    alignment = alignment_of(SHARES)
    said, label = torch.ones(2, CLASSES), torch.zeros(1, 2, 2, dtype=torch.uint8)
    if fault == "not finite":
        said[1, 2] = torch.nan
    else:
        label.fill_(IGNORE)
    alignment.follow(said, label, lambda values: values)
    assert torch.equal(alignment.shares, torch.tensor(SHARES).double())


def test_it_holds_labels_to_the_labelled_shares() -> None:
    """Labels say class 0 less than the labellers, who say it on half of the pixels, if a tenth of the labels is it."""
    torch.manual_seed(0)
    logits = torch.randn(4, 2, 40, 40, dtype=torch.float64)  # equal shares
    label = (torch.rand(4, 40, 40) < 0.9).to(torch.uint8)  # class 0 on a tenth
    alignment, labels_of = Alignment(1.0, 2).double(), LabelsOf(torch.nn.Identity(), nullcontext, temperature=1.0)
    for _ in range(1000):
        labels = labels_of(logits, alignment.shifts()[0])
        alignment.follow(torch.stack([labels.said] * 2), label, lambda values: values)
    share = (label == 0).double().mean().item()
    assert (labels.said[0] / labels.said.sum()).item() == pytest.approx(0.5, abs=0.01)
    assert share < labels.soft[:, 0].mean().item() < 2 * share
    assert (labels.label == 0).double().mean().item() < share
