"""The evaluator equals scores taken window by window; several networks share one pass; predictions, their confusion."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from longhand import longhand_scores
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode
from torch.nn.functional import conv2d

from furnace.data.normalization import IMAGENET_MEAN, IMAGENET_STD
from furnace.evaluation.metrics import confusion_matrices
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


def test_of_equal_scores_the_first_class_counts() -> None:
    scores = torch.zeros(CLASSES, 50, 40)
    scores[1], scores[3] = 2, 2
    assert (predicted_labels({"student_1": scores, "student_2": scores}, ["v0", "v2"]) == 1).all()


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


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("flip", [False, True])
def test_images_of_any_sizes_that_are_scored_at_once_equal_longhand(scales: tuple[float, ...], flip: bool) -> None:
    images, seen = [noise(size) for size in SIZES], []
    networks = {"student_1": network(), "teacher_1": network()}

    def watched(name: str) -> Callable[[Tensor], Tensor]:
        def forward(windows: Tensor) -> Tensor:
            seen.append(len(windows))
            return networks[name](windows)

        return forward

    window = SlidingWindow({name: watched(name) for name in networks}, CLASSES, CROP, scales=scales, flip=flip)
    window.window_batch = 8
    together = window.scores_of([torch.from_numpy(image) for image in images])
    for image, scores in zip(images, together, strict=True):
        for name, single in networks.items():
            expected = longhand(single, image, scales, flip, np.float32)
            np.testing.assert_allclose(scores[name].numpy(), expected, rtol=1e-4, atol=2e-4)
    assert set(seen) <= {8, 4, 2, 1} and seen.count(8) >= len(seen) / 3


def test_logits_that_stand_in_memory_once_for_all_classes_are_mirrored_too() -> None:
    def same(windows: Tensor) -> Tensor:
        return windows[:, :1].expand(-1, CLASSES, -1, -1)

    image = noise((CROP, CROP))
    scores = SlidingWindow({"v0": same}, CLASSES, CROP, flip=True).scores(torch.from_numpy(image))["v0"]
    np.testing.assert_allclose(scores.numpy(), longhand(same, image, (1.0,), True, np.float32), rtol=1e-4, atol=1e-4)


def test_on_a_cpu_the_windows_are_added_one_by_one() -> None:
    """Bit for bit, from the left to the right and from above to below."""
    image, single = torch.from_numpy(noise((70, 51))), network()
    window = SlidingWindow({"v0": single}, CLASSES, CROP)
    assert window.window_batch == 1
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = (image.permute(2, 0, 1)[None].float() / 255 - mean) / std
    expected = torch.zeros(1, CLASSES, 70, 51)
    for y in (0, 22, 37):
        for x in (0, 18):
            expected[..., y : y + CROP, x : x + CROP] += single(pixels[..., y : y + CROP, x : x + CROP])
    assert torch.equal(window.scores(image)["v0"], expected[0])


def test_windows_are_counted_at_the_scale_with_the_most() -> None:
    alone, doubled = (SlidingWindow({}, CLASSES, CROP, scales=scales) for scales in ((1.0,), (0.5, 2.0)))
    assert [alone.windows_of(size) for size in SIZES] == [1, 1, 2, 3, 6]
    assert [doubled.windows_of(size) for size in SIZES] == [4, 9, 12, 10, 30]


@pytest.mark.skipif(torch.__version__ < "2.14", reason="older versions of torch make no such tensors without a GPU")
@pytest.mark.parametrize("flip", [False, True])
def test_a_gpu_is_never_waited_for(flip: bool) -> None:
    """A program waits for a GPU where it looks at a value. These tensors of a GPU have none, so that it would fail.

    They show neither what a GPU computes nor waits for copies of whole tensors, of which this has none.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        networks = dict.fromkeys(NETWORKS, partial(conv2d, weight=torch.zeros(CLASSES, 3, 3, 3), padding=1))
        window = SlidingWindow(networks, CLASSES, CROP, flip=flip, device=torch.device("cuda"))
        assert window.window_batch == 8
        images = [torch.zeros(*size, 3, dtype=torch.uint8, device="cpu") for size in SIZES]
        for size, scores in zip(SIZES, window.scores_of(images), strict=True):
            predicted, label = predicted_labels(scores, tuple(PREDICTORS)), torch.zeros(size, dtype=torch.uint8)
            confusions = confusion_matrices(predicted, label, CLASSES)
            assert predicted.is_cuda and confusions.is_cuda and confusions.shape == (7, CLASSES, CLASSES)
        with pytest.raises(DynamicOutputShapeException):
            torch.bincount(label.flatten(), minlength=CLASSES)  # waits, and is found
