"""The evaluator equals scores taken window by window; several networks share one pass."""

import numpy as np
import pytest
import torch
from longhand import longhand_scores
from torch import nn

from furnace.engine.evaluator import IMAGENET_MEAN, IMAGENET_STD, SlidingWindow

CROP, CLASSES = 33, 4


def network() -> nn.Module:
    return nn.Conv2d(3, CLASSES, 3, padding=1).requires_grad_(False)


@pytest.mark.parametrize("size", [(20, 25), (33, 33), (40, 33), (20, 60), (70, 51)])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 1.75)])
@pytest.mark.parametrize("flip", [False, True])
def test_equals_longhand(size: tuple[int, int], scales: tuple[float, ...], flip: bool) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    networks = {"student_1": network(), "teacher_1": network()}
    window = SlidingWindow(networks, CLASSES, CROP, scales=scales, flip=flip, window_batch=3)
    scores = window.scores(image)
    for name, single in networks.items():
        expected = longhand_scores(single, image, CROP, scales, flip, IMAGENET_MEAN, IMAGENET_STD, CLASSES)
        np.testing.assert_allclose(scores[name].numpy(), expected, rtol=1e-4, atol=2e-4)


def test_each_network_sees_each_window_once() -> None:
    calls = {"a": 0, "b": 0}

    def counted(name: str):
        def forward(windows: torch.Tensor) -> torch.Tensor:
            calls[name] += len(windows)
            return windows.new_zeros(len(windows), CLASSES, CROP, CROP)

        return forward

    window = SlidingWindow({name: counted(name) for name in calls}, CLASSES, CROP)
    window.scores(np.zeros((70, 51, 3), dtype=np.uint8))
    assert calls == {"a": 3 * 2, "b": 3 * 2}  # stride 22: rows at 0, 22, 37; columns at 0, 18
