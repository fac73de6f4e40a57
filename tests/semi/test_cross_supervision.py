"""The algorithm equals its longhand version, and its switches do what they say."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from batches import random_batch, small_network
from longhand import longhand_ema, longhand_ohem, longhand_step

from furnace.semi.batch import Batch
from furnace.semi.cross_supervision import METHODS, CrossSupervision
from furnace.semi.ensemble import Ensemble
from furnace.semi.losses import ohem_cross_entropy


def plain_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, labels, ignore_index=255)


@pytest.mark.parametrize("labellers", ["students", "teachers"])
@pytest.mark.parametrize("view", ["weak", "strong"])
@pytest.mark.parametrize("ohem", [False, True])
def test_step_equals_longhand(labellers: str, view: str, ohem: bool) -> None:
    fast = Ensemble(small_network, with_teachers=True)
    slow = copy.deepcopy(fast)
    supervised = {"supervised_loss": lambda x, y: ohem_cross_entropy(x, y, 0.3, 300)} if ohem else {}
    slow_supervised = (lambda x, y: longhand_ohem(x, y, 0.3, 300)) if ohem else plain_cross_entropy
    algorithm = CrossSupervision(fast.students, getattr(fast, labellers), view, **supervised)
    for step in (1, 2):
        batch = random_batch()
        losses = algorithm.accumulate_gradients(batch, cps_weight=1.5).terms()
        expected = longhand_step(slow.students, getattr(slow, labellers), batch, view, 1.5, slow_supervised)
        for name, value in expected.items():
            assert losses[name].item() == pytest.approx(value.item(), rel=1e-10)
        for ensemble in (fast, slow):
            for student in ensemble.students:
                optimizer = torch.optim.SGD(student.parameters(), lr=0.01)
                optimizer.step()
                optimizer.zero_grad()
        fast.update_teachers(step, 0.999, with_statistics=False)
        for teacher, student in zip(slow.teachers, slow.students, strict=True):
            longhand_ema(teacher, student, step, 0.999)
    for ours, theirs in zip(fast.networks().values(), slow.networks().values(), strict=True):
        for name, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-9, atol=1e-11, msg=name)


def test_labels_are_crossed() -> None:
    """A student's gradient changes with the other labeller's labels and not with its own."""
    ensemble = Ensemble(small_network, with_teachers=True)
    batch = random_batch()

    def gradient_of_student_1(changed_teacher: int) -> torch.Tensor:
        clone = copy.deepcopy(ensemble)
        with torch.no_grad():
            clone.teachers[changed_teacher].classifier.bias[2] += 100  # this labeller now says class 2 everywhere
        CrossSupervision(clone.students, clone.teachers, "strong").accumulate_gradients(batch, 1.0)
        return clone.students[0].classifier.weight.grad

    unchanged = copy.deepcopy(ensemble)
    CrossSupervision(unchanged.students, unchanged.teachers, "strong").accumulate_gradients(batch, 1.0)
    gradient = unchanged.students[0].classifier.weight.grad
    assert torch.equal(gradient_of_student_1(changed_teacher=0), gradient)
    assert not torch.allclose(gradient_of_student_1(changed_teacher=1), gradient)


def test_supervised_and_zero_weight_ignore_pairs() -> None:
    """Without labellers, or with cps_weight 0, unlabelled images need not even be there."""
    for labellers in ([], "teachers"):
        ensemble = Ensemble(small_network, with_teachers=bool(labellers))
        batch = Batch(image=random_batch().image, label=random_batch().label)
        algorithm = CrossSupervision(ensemble.students, ensemble.teachers, "strong")
        losses = algorithm.accumulate_gradients(batch, cps_weight=0.0 if labellers else 1.0)
        assert losses.cross is None
        assert losses.terms()["loss"] == sum(losses.supervised)


def test_pseudo_labels_carry_no_gradient_and_fit_a_byte() -> None:
    ensemble = Ensemble(small_network, with_teachers=True)
    labels = CrossSupervision(ensemble.students, ensemble.teachers, "strong").pseudo_labels(random_batch())
    assert all(each.label.dtype == torch.uint8 and each.label.shape == (2, 33, 33) for each in labels)
    algorithm = CrossSupervision(ensemble.students, ensemble.teachers, "strong", temperature=1.0)
    assert not any(each.soft.requires_grad for each in algorithm.pseudo_labels(random_batch()))
    assert all(parameter.grad is None for teacher in ensemble.teachers for parameter in teacher.parameters())


def test_a_batch_without_a_label_gives_zero() -> None:
    ensemble = Ensemble(small_network, with_teachers=False)
    image = random_batch().image
    label = torch.full((2, 33, 33), 255, dtype=torch.uint8)
    losses = CrossSupervision(ensemble.students, [], "weak").accumulate_gradients(Batch(image, label), 0.0)
    assert losses.terms()["loss"] == 0
    assert all(torch.isfinite(parameter.grad).all() for parameter in ensemble.students[0].parameters())


class Sharing(torch.nn.Module):
    """Stands for DistributedDataParallel: it notes which backward passes exchange gradients."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module, self.exchanges, self.apart = module, [], False

    def forward(self, *arguments: object) -> object:
        self.exchanges.append(not self.apart)
        return self.module(*arguments)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        self.apart = True
        yield
        self.apart = False


def test_gradients_are_exchanged_once_a_step() -> None:
    """The labelled term, whose backward pass comes last, sends those of both."""
    ensemble = Ensemble(small_network, with_teachers=True)
    algorithm = CrossSupervision(ensemble.students, ensemble.teachers, "strong", parallel=Sharing)
    algorithm.accumulate_gradients(random_batch(), 1.0)
    assert [student.exchanges for student in algorithm.losses_of] == [[False, True]] * 2
    algorithm.accumulate_gradients(random_batch(), 0.0)
    assert [student.exchanges for student in algorithm.losses_of] == [[False, True, True]] * 2


def test_methods_differ_by_two_choices() -> None:
    assert {name: (method.labellers, method.view) for name, method in METHODS.items()} == {
        "supervised": ("none", "weak"),
        "org": ("students", "weak"),
        "ema": ("teachers", "strong"),
    }
