"""Losses against pixel-by-pixel arithmetic."""

import pytest
import torch
import torch.nn.functional as F
from longhand import longhand_ohem

from furnace.semi.losses import cross_entropy, ohem_cross_entropy


@pytest.fixture
def case() -> tuple[torch.Tensor, torch.Tensor]:
    logits = 2 * torch.randn(2, 6, 9, 11, dtype=torch.float64)
    labels = torch.randint(0, 6, (2, 9, 11))
    labels[torch.rand(2, 9, 11) < 0.2] = 255
    return logits, labels


def test_cross_entropy(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = case
    assert cross_entropy(logits, labels.to(torch.uint8)).mean() == pytest.approx(
        F.cross_entropy(logits, labels, ignore_index=255).item()
    )


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("min_kept", [0, 1, 20, 100, 10_000])
def test_ohem(case: tuple[torch.Tensor, torch.Tensor], threshold: float, min_kept: int) -> None:
    logits, labels = case
    ours = ohem_cross_entropy(logits, labels, threshold, min_kept).mean()
    assert ours.item() == pytest.approx(longhand_ohem(logits, labels, threshold, min_kept).item(), rel=1e-12)


def test_nothing_labelled_gives_zero_and_no_gradient(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    for loss in (cross_entropy, lambda x, y: ohem_cross_entropy(x, y, 0.7, 10)):
        logits = case[0].clone().requires_grad_()
        mean = loss(logits, torch.full_like(case[1], 255)).mean()
        mean.backward()
        assert mean == 0 and not logits.grad.any()


def test_two_processes_share_one_normalisation(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    """The mean of two processes' gradients is the gradient over both batches together."""
    logits, labels = case
    labels[0, :5] = 255  # unequal counts
    together = logits.clone().requires_grad_()
    cross_entropy(together, labels).mean().backward()
    counts = [cross_entropy(logits[index : index + 1], labels[index : index + 1]).count for index in range(2)]
    for index in range(2):
        alone = logits[index : index + 1].clone().requires_grad_()
        cross_entropy(alone, labels[index : index + 1]).mean(lambda _: sum(counts) / 2).backward()
        torch.testing.assert_close(alone.grad[0] / 2, together.grad[index], rtol=1e-12, atol=0)


def test_half_precision_logits_are_summed_in_fp32(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert cross_entropy(case[0].bfloat16(), case[1]).total.dtype == torch.float32
