"""A step of the algorithm beside the longhand one."""

import copy

import pytest
import torch
import torch.nn.functional as F
from batches import random_batch
from longhand import longhand_step
from torch import Tensor

from furnace.labels import IGNORE
from furnace.semi.alignment import Alignment
from furnace.semi.cross_supervision import CrossSupervision, Losses
from furnace.semi.ensemble import Ensemble


def supervised(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, ignore_index=IGNORE)


def require_longhand_step(
    fast: Ensemble, labellers: str, alignment: Alignment | None = None, **options: float
) -> Losses:
    """A step on strong views has the terms and the gradients of the longhand one, in float64; returns its losses.

    Args:
        labellers: "students" or "teachers".
        alignment: its shifts before the step are those of the longhand step.
        options: `confidence`, `temperature`.
    """
    slow, batch = copy.deepcopy(fast), random_batch()
    algorithm = CrossSupervision(fast.students, getattr(fast, labellers), "strong", alignment=alignment, **options)
    shifts = alignment.shifts().tolist() if alignment else None
    losses = algorithm.accumulate_gradients(batch, cps_weight=1.5)
    expected = longhand_step(
        slow.students, getattr(slow, labellers), batch, "strong", 1.5, supervised, shifts=shifts, **options
    )
    for name, value in expected.items():
        assert losses.terms()[name].item() == pytest.approx(value.item(), rel=1e-10), name
    for ours, theirs in zip(fast.students, slow.students, strict=True):
        for (name, found), right in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(found.grad, right.grad, rtol=1e-9, atol=1e-12, msg=name)
    return losses
