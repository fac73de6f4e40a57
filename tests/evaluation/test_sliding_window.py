"""The evaluator equals scores taken window by window; several networks share one pass; predictions, their confusion."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from longhand import longhand_scores
from torch import Tensor, nn

from furnace.data.normalization import IMAGENET_MEAN, IMAGENET_STD
from furnace.evaluation.sliding_window import SlidingWindow
from furnace.semi import ensemble
from furnace.semi.ensemble import NETWORKS, PREDICTORS, predicted_labels

CROP, CLASSES = 33, 4
SIZES = [(20, 25), (33, 33), (40, 33), (20, 60), (70, 51)]
SCALES = [(1.0,), (0.5, 1.0, 1.75), (1.5, 1.0)]


def network() -> nn.Module:
    return nn.Conv2d(3, CLASSES, 3, padding=1).requires_grad_(False)


def noise(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)


def longhand(single: Callable, image: np.ndarray, scales: tuple[float, ...], flip: bool, dtype: type) -> np.ndarray:
    return longhand_scores(single, image, CROP, scales, flip, IMAGENET_MEAN, IMAGENET_STD, CLASSES, dtype=dtype)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("flip", [False, True])
def test_equals_longhand(size: tuple[int, int], scales: tuple[float, ...], flip: bool) -> None:
    image = noise(size)
    networks = {"student_1": network(), "teacher_1": network()}
    window = SlidingWindow(networks, CLASSES, CROP, scales=scales, flip=flip, window_batch=3)
    scores = window.scores(torch.from_numpy(image))
    for name, single in networks.items():
        expected = longhand(single, image, scales, flip, np.float32)
        np.testing.assert_allclose(scores[name].numpy(), expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_seven_predictors_equal_longhand_in_float64(
    size: tuple[int, int],
    scales: tuple[float, ...],
    flip: bool,
    layout: torch.memory_format,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ensemble, "BAND", 7 * CLASSES * size[1])  # seven rows
    image = noise(size)
    networks = {name: network().double().to(memory_format=layout) for name in NETWORKS}
    window = SlidingWindow(networks, CLASSES, CROP, scales=scales, flip=flip, dtype=torch.float64)
    scores = window.scores(torch.from_numpy(image))
    expected = {name: longhand(single, image, scales, flip, np.float64) for name, single in networks.items()}
    for name in NETWORKS:
        np.testing.assert_allclose(scores[name].numpy(), expected[name], rtol=1e-9, atol=1e-9)
    predicted = predicted_labels(scores, tuple(PREDICTORS))
    assert predicted.dtype == torch.uint8
    for found, members in zip(predicted, PREDICTORS.values(), strict=True):
        mean = np.mean([expected[name] for name in members], axis=0)
        assert np.array_equal(found.numpy(), mean.argmax(axis=0))


def test_each_network_sees_each_window_once() -> None:
    calls = {"a": 0, "b": 0}

    def counted(name: str):
        def forward(windows: Tensor) -> Tensor:
            calls[name] += len(windows)
            return windows.new_zeros(len(windows), CLASSES, CROP, CROP)

        return forward

    window = SlidingWindow({name: counted(name) for name in calls}, CLASSES, CROP)
    window.scores(torch.zeros(70, 51, 3, dtype=torch.uint8))
    assert calls == {"a": 3 * 2, "b": 3 * 2}  # stride 22: rows at 0, 22, 37; columns at 0, 18
