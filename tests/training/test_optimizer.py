"""Rates, ramps and weight decay."""

import pytest

from furnace.data.samples import iterations_per_epoch
from furnace.network.deeplabv3plus import DeepLabV3Plus
from furnace.training.optimizer import parameter_groups, polynomial_rate, ramp


def test_schedule() -> None:
    assert polynomial_rate(0.1, 0, 100) == 0.1 and polynomial_rate(0.1, 50, 100) == pytest.approx(0.1 * 0.5**0.9)
    assert [ramp(t, 100, 0.3, 0.6) for t in (0, 29, 30, 45, 60, 99)] == pytest.approx([0, 0, 0, 0.5, 1, 1])
    assert ramp(0, 100, 0, 0) == 1
    assert iterations_per_epoch(25, 175, 8) == 21


def test_decay_is_for_convolution_weights_alone() -> None:
    network = DeepLabV3Plus("resnet18_v1c", 3, width=0.0625)
    groups = parameter_groups(network, 0.1)
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    for group in groups:
        assert all((parameter.ndim == 4) == (group["weight_decay"] > 0) for parameter in group["params"])
