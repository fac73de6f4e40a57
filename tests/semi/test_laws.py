"""Averages, masks, mixes and predictors obey their laws."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from longhand import longhand_ema
from torch import nn

from furnace.network.deeplabv3plus import DeepLabV3Plus
from furnace.semi.cutmix import cutmix_masks, mix
from furnace.semi.ema import ema_alpha, update_buffers, update_parameters
from furnace.semi.ensemble import NETWORKS, PREDICTORS, Ensemble, predict, predicted_labels


def small_network() -> torch.nn.Module:
    return DeepLabV3Plus("resnet18_v1c", 3, width=0.0625)


def test_ema_equals_longhand_and_leaves_buffers() -> None:
    teacher, student, slow = small_network(), small_network(), small_network()
    slow.load_state_dict(teacher.state_dict())
    before = {name: value.clone() for name, value in teacher.named_buffers()}
    student(torch.randn(2, 3, 33, 33))
    update_parameters(teacher, student, ema_alpha(7))
    longhand_ema(slow, student, 7, 0.999)
    for ours, theirs in zip(teacher.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert all(torch.equal(value, before[name]) for name, value in teacher.named_buffers())
    update_buffers(teacher, student, 0.75, with_statistics=True)
    expected = 0.75 * before["backbone.bn1.running_mean"] + 0.25 * student.backbone.bn1.running_mean
    torch.testing.assert_close(teacher.backbone.bn1.running_mean, expected)
    assert teacher.backbone.bn1.num_batches_tracked == 1


def test_networks_without_running_statistics_have_teachers_too() -> None:
    teacher, student = (torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.GroupNorm(2, 4)) for _ in range(2))
    before = teacher[0].weight.clone()
    update_parameters(teacher, student, 0.75)
    update_buffers(teacher, student, 0.75, with_statistics=True)
    torch.testing.assert_close(teacher[0].weight, 0.75 * before + 0.25 * student[0].weight)


def test_buffers_that_are_no_statistics_are_copied() -> None:
    """Of a mask of -inf there is no average: it would be NaN."""
    teacher, student = torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(2)
    for network in (teacher, student):
        network.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    student.running_mean.fill_(4.0)
    update_buffers(teacher, student, 0.75, with_statistics=True)
    assert teacher.mask.tolist() == [0.0, float("-inf")] and teacher.running_mean.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("normed", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
def test_a_teacher_keeps_its_own_statistics_and_takes_all_other_buffers(normed: Callable) -> None:
    """A spectral norm moves its vectors in training mode alone, where a teacher's never is."""
    student = nn.Sequential(normed(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4))
    student[1].register_buffer("running_center", torch.zeros(1))
    ensemble = Ensemble(lambda: copy.deepcopy(student), with_teachers=True)
    before = copy.deepcopy(ensemble.teachers[0].state_dict())
    for network in ensemble.students:
        for tensor in network.state_dict().values():
            tensor.add_(1)
    ensemble.update_teachers(1, 0.999, with_statistics=False)
    student, teacher = ensemble.students[0], ensemble.teachers[0]
    for name, value in teacher.named_buffers():
        own = name.startswith("1.")
        assert torch.equal(value, before[name] if own else student.get_buffer(name)), name
    assert len(list(teacher.buffers())) == 4 + 2


def test_alpha_starts_at_a_half_and_is_capped() -> None:
    assert [ema_alpha(step) for step in (1, 3, 998, 999, 5000)] == [0.5, 0.75, 1 - 1 / 999, 0.999, 0.999]


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**31), height=st.integers(8, 80), width=st.integers(8, 80), boxes=st.sampled_from([0, 1, 3, 9])
)
def test_masks_are_zero_or_one_and_cover_a_share(seed: int, height: int, width: int, boxes: int) -> None:
    masks = cutmix_masks(4, (height, width), np.random.default_rng(seed), boxes=boxes)
    assert masks.shape == (4, 1, height, width) and masks.dtype == np.uint8 and masks.max() <= 1
    # Boxes of at most 0.5 of the area together; a side may grow by half a pixel when it is rounded.
    assert masks.mean(axis=(1, 2, 3)).max() <= (0.5 if boxes else 0) + boxes * 0.5 * (1 / height + 1 / width)


def test_one_rectangle_covers_a_quarter_to_a_half() -> None:
    shares = cutmix_masks(500, (160, 160), np.random.default_rng(0), boxes=1).mean(axis=(1, 2, 3))
    assert 0.24 < shares.min() < 0.26 and 0.49 < shares.max() < 0.51
    assert shares.mean() == pytest.approx(0.375, abs=0.01)


def test_mix_of_equals_is_the_identity_and_commutes_with_argmax() -> None:
    mask = (torch.rand(2, 1, 9, 9) < 0.5).to(torch.uint8)
    first, second = torch.randn(2, 4, 9, 9), torch.randn(2, 4, 9, 9)
    assert torch.equal(mix(first, first, mask), first)
    assert torch.equal(mix(first, second, mask * 0), first) and torch.equal(mix(first, second, mask * 0 + 1), second)
    mixed = mix(first, second, mask).argmax(dim=1)
    assert torch.equal(mixed, mix(first.argmax(dim=1), second.argmax(dim=1), mask))


@pytest.mark.parametrize("code", PREDICTORS)
def test_predictors_average_their_members(code: str) -> None:
    scores = {name: torch.randn(3, 4, 5) for name in NETWORKS}
    expected = sum(scores[name] for name in PREDICTORS[code]) / len(PREDICTORS[code])
    torch.testing.assert_close(predict(scores, code), expected)


def test_ensemble_starts_with_two_different_students_and_equal_teachers() -> None:
    ensemble = Ensemble(small_network, with_teachers=True)
    first, second = ensemble.students
    assert not torch.equal(first.classifier.weight, second.classifier.weight)
    for student, teacher in zip(ensemble.students, ensemble.teachers, strict=True):
        assert all(torch.equal(value, teacher.state_dict()[name]) for name, value in student.state_dict().items())
        assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert ensemble.predictors() == tuple(PREDICTORS)
    assert Ensemble(small_network, with_teachers=False).predictors() == ("v0", "v0_2", "v2")


def test_of_equal_scores_the_first_class_is_predicted() -> None:
    scores = {"student_1": torch.tensor([1.0, 2.0, 2.0, 2.0])[:, None, None].expand(4, 3, 100)}
    assert predicted_labels(scores, ["v0"]).eq(1).all()
