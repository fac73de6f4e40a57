"""Soft labels: students learn all probabilities that a labeller gives, sharpened by a temperature."""

import copy
import math

import pytest
import torch
from batches import CLASSES, random_batch, small_network
from steps import require_longhand_step

from furnace.labels import IGNORE
from furnace.semi.cross_supervision import CrossSupervision
from furnace.semi.ensemble import Ensemble
from furnace.semi.losses import soft_cross_entropy_over_all
from furnace.semi.terms import LabelsOf


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_labels_are_probabilities_at_the_temperature(temperature: float) -> None:
    logits = torch.randn(2, CLASSES, 7, 6, dtype=torch.float64)
    label, likeliest, soft, _ = LabelsOf(torch.nn.Identity(), torch.no_grad, temperature=temperature)(logits)
    assert torch.equal(label, logits.argmax(dim=1).to(torch.uint8)) and likeliest is None
    for image, row, column in ((0, 0, 0), (1, 6, 5), (1, 3, 2)):
        powers = [math.exp(each / temperature) for each in logits[image, :, row, column].tolist()]
        expected = [power / sum(powers) for power in powers]
        assert soft[image, :, row, column].tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_probabilities_of_half_precision_are_fp32(dtype: torch.dtype) -> None:
    logits = 30 * torch.randn(2, CLASSES, 7, 6).to(dtype)
    soft = LabelsOf(torch.nn.Identity(), torch.no_grad, temperature=0.3)(logits).soft
    assert soft.dtype == torch.float32
    torch.testing.assert_close(soft, (logits.double() / 0.3).softmax(dim=1).float())


def test_pixels_without_confidence_have_no_probabilities() -> None:
    logits = torch.randn(2, CLASSES, 17, 16)
    label, _, soft, _ = LabelsOf(torch.nn.Identity(), torch.no_grad, confidence=0.5, temperature=1.0)(logits)
    sure = logits.softmax(dim=1).amax(dim=1) >= 0.5
    assert 0 < sure.sum() < sure.numel() and torch.equal(label != IGNORE, sure)
    assert torch.equal(soft, logits.softmax(dim=1) * sure.unsqueeze(1))


def test_the_loss_is_that_of_a_loop() -> None:
    logits = torch.randn(2, CLASSES, 6, 7, dtype=torch.float64)
    labels = torch.randn(2, CLASSES, 6, 7, dtype=torch.float64).softmax(dim=1)
    labels[0, :, :3] = 0
    total = 0.0
    for image in range(2):
        for row in range(6):
            for column in range(7):
                powers = [math.exp(each) for each in logits[image, :, row, column].tolist()]
                chances = labels[image, :, row, column].tolist()
                total -= sum(p * math.log(power / sum(powers)) for p, power in zip(chances, powers, strict=True))
    assert soft_cross_entropy_over_all(logits, labels).mean().item() == pytest.approx(total / (2 * 6 * 7), rel=1e-12)
    assert soft_cross_entropy_over_all(logits.bfloat16(), labels.float()).total.dtype == torch.float32


@pytest.mark.parametrize("labellers", ["students", "teachers"])
@pytest.mark.parametrize(("temperature", "confidence"), [(1.0, 0.0), (0.5, 0.0), (0.5, 0.3)])
def test_step_equals_longhand(labellers: str, temperature: float, confidence: float) -> None:
    ensemble = Ensemble(small_network, with_teachers=True)
    losses = require_longhand_step(ensemble, labellers, confidence=confidence, temperature=temperature)
    assert all(label.dtype == torch.uint8 and label.ndim == 3 for label in losses.pseudo_labels)


def test_near_0_they_are_the_hard_labels() -> None:
    soft = Ensemble(small_network, with_teachers=True)
    hard, batch = copy.deepcopy(soft), random_batch()
    losses = [
        CrossSupervision(each.students, each.teachers, "strong", temperature=temperature).accumulate_gradients(batch, 1)
        for each, temperature in ((soft, 1e-9), (hard, 0.0))
    ]
    for name, value in losses[1].terms().items():
        assert losses[0].terms()[name].item() == pytest.approx(value.item(), rel=1e-6), name


def test_who_says_what_the_labeller_says_learns_nothing() -> None:
    """Hard labels tell a student that is as unsure as its labeller to be surer; soft ones at 1 leave it alone."""
    logits = torch.randn(2, CLASSES, 7, 6, dtype=torch.float64, requires_grad=True)
    soft = LabelsOf(torch.nn.Identity(), torch.no_grad, temperature=1.0)(logits.detach()).soft
    soft_cross_entropy_over_all(logits, soft).mean().backward()
    assert logits.grad.abs().max() < 1e-15
