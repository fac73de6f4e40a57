"""What training runs is the step written longhand: networks, optimizers, schedule and averages together."""

import copy
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import REPOSITORY
from longhand import longhand_ema, longhand_step
from test_cross_supervision import random_batch
from torch.utils._python_dispatch import TorchDispatchMode

from furnace.engine.distributed import World
from furnace.experiment import read_experiment
from furnace.learner import Learner

ITERATIONS = 4


@pytest.fixture
def learner(tmp_path: Path, request: pytest.FixtureRequest) -> Learner:
    texts = {"pretrained_model": "none", "backbone": "resnet18_v1c", "width": "0.0625", "dataset_path": str(tmp_path)}
    experiment = read_experiment(REPOSITORY / "exp.voc/ensemble_teacher+cutmix", texts | request.param)
    found = Learner(experiment, World(), ITERATIONS)
    found.ensemble.map(lambda network: network.double())
    return found


@pytest.mark.parametrize(
    "learner",
    [{"method": "ema"}, {"method": "org"}, {"method": "ema", "channels_last": "0", "learning_rate": "0.1"}],
    indirect=True,
)
def test_steps_equal_longhand_ones(learner: Learner) -> None:
    settings = learner.settings
    slow = copy.deepcopy(learner.ensemble)
    labellers = slow.teachers if settings.method == "ema" else slow.students
    momentum = {student: [torch.zeros_like(weight) for weight in student.parameters()] for student in slow.students}
    supervised = partial(F.cross_entropy, ignore_index=255)
    for iteration in range(3):
        batch = random_batch(size=49)
        losses = learner.step(batch, iteration).terms()
        expected = longhand_step(slow.students, labellers, batch, learner.method.view, 1.0, supervised)
        for name, value in expected.items():
            assert losses[name].item() == pytest.approx(value.item(), rel=1e-9)
        rate = settings.learning_rate * (1 - iteration / ITERATIONS) ** 0.9
        for student, velocities in momentum.items():
            for weight, velocity in zip(student.parameters(), velocities, strict=True):
                decay = 2e-4 if weight.ndim == 4 else 0.0
                velocity.mul_(0.9).add_(weight.grad + decay * weight.data)
                weight.data -= rate * velocity
                weight.grad = None
        for teacher, student in zip(slow.teachers, slow.students, strict=False):  # CPS has no teachers
            longhand_ema(teacher, student, iteration + 1, settings.ema_decay)
    for ours, theirs in zip(learner.ensemble.networks().values(), slow.networks().values(), strict=True):
        for name, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-9, atol=1e-11, msg=name)


class ReadBacks(TorchDispatchMode):
    """Counts what would make a GPU's host wait: values that become Python numbers, sizes that depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if function.overloadpacket in (
            torch.ops.aten._local_scalar_dense,
            torch.ops.aten.nonzero,
            torch.ops.aten.is_nonzero,
        ):
            self.found.append(str(function))
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize(
    "learner",
    [{"method": "ema"}, {"method": "org"}, {"method": "ema", "ohem_threshold": "0.1", "ohem_min_kept": "100"}],
    indirect=True,
)
def test_a_step_reads_nothing_back(learner: Learner) -> None:
    batch = random_batch(size=33)
    with ReadBacks() as read_backs:
        losses = learner.step(batch, iteration=0).terms()
        assert read_backs.found == []
        losses["loss"].item()
        assert len(read_backs.found) == 1  # it would be seen
