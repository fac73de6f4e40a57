"""What training runs is the step written longhand: networks, optimizers, schedule and averages together."""

import copy
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from batches import random_batch
from learners import ITERATIONS, in_float64, small_learner
from longhand import longhand_ema, longhand_step
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from furnace.semi.batch import Batch
from furnace.training.kept import KeptBuffers
from furnace.training.learner import Learner


def in_evaluation(network: nn.Module, image: Tensor) -> Tensor:
    """What a network in training says when it is evaluated."""
    logits = network.eval()(image)
    network.train()
    return logits


class Scaling(nn.Module):
    """What a batch norm does in an evaluation, written out: a scale and a shift that learn, and fixed statistics."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        for name, value in norm.named_buffers():
            self.register_buffer(name, value)

    def forward(self, image: Tensor) -> Tensor:
        mean, variance, scale, shift = (
            each[:, None, None] for each in (self.running_mean, self.running_var, self.weight, self.bias)
        )
        return (image - mean) / (variance + self.eps).sqrt() * scale + shift


def without_batch_norms(network: nn.Module) -> None:
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, Scaling(child))


@pytest.fixture
def learner(tmp_path: Path, request: pytest.FixtureRequest) -> Learner:
    return in_float64(small_learner(tmp_path, request.param))


@pytest.mark.parametrize(
    "learner",
    [
        {"method": "ema"},
        {"method": "org", "skip_nonfinite": "1"},
        {"method": "org", "teacher_norm": "running"},
        {"method": "ema", "channels_last": "0", "learning_rate": "0.1"},
        {"method": "ema", "backbone_norm": "frozen"},
        {"method": "org", "backbone_norm": "frozen", "skip_nonfinite": "1"},
    ],
    indirect=True,
)
def test_steps_equal_longhand_ones(learner: Learner) -> None:
    settings = learner.settings
    if settings.backbone_norm == "frozen":
        for network in learner.ensemble.networks().values():
            for name, statistics in network.backbone.named_buffers():  # as pretrained weights have them
                if name.endswith(("running_mean", "running_var")):
                    statistics.uniform_(0.5, 1.5)
    slow = copy.deepcopy(learner.ensemble)
    if settings.backbone_norm == "frozen":
        for network in slow.networks().values():
            without_batch_norms(network.backbone)
    labellers = slow.teachers if settings.method == "ema" else slow.students
    if settings.method == "org" and settings.teacher_norm == "running":
        labellers = [partial(in_evaluation, student) for student in slow.students]
    momentum = {student: [torch.zeros_like(weight) for weight in student.parameters()] for student in slow.students}
    supervised = partial(F.cross_entropy, ignore_index=255)
    for iteration in range(3):
        batch = random_batch(size=49)
        terms = learner.step(batch, iteration).terms
        expected = longhand_step(slow.students, labellers, batch, learner.method.view, 1.0, supervised)
        for name, value in expected.items():
            assert terms[name].item() == pytest.approx(value.item(), rel=1e-9)
        for number, student in enumerate(slow.students, 1):
            norm = sum((weight.grad**2).sum() for weight in student.parameters()) ** 0.5
            assert terms[f"gradient_norm_{number}"].item() == pytest.approx(norm.item(), rel=1e-9)
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


@pytest.mark.parametrize(
    "learner",
    [
        {"skip_nonfinite": "1"},
        {"skip_nonfinite": "1", "teacher_norm": "running"},
        {"skip_nonfinite": "1", "optimizer": "adamw", "clip_gradients": "0.5"},
        {"skip_nonfinite": "0"},
    ],
    indirect=True,
)
@pytest.mark.parametrize("iteration", [0, 1], ids=["first", "second"])
@pytest.mark.parametrize("broken", ["gradient", "input"])
def test_a_step_that_is_not_finite_changes_nothing_where_it_may_be_skipped(
    learner: Learner, iteration: int, broken: str
) -> None:
    """Not the students, what their optimizers remember, nor any statistics; teachers move to students as ever."""
    for done in range(iteration):
        learner.step(random_batch(size=33), done)
    expected = copy.deepcopy(learner.ensemble)
    remembered = [copy.deepcopy(optimizer.state_dict()["state"]) for optimizer in learner.optimizers]
    for teacher, student in zip(expected.teachers, expected.students, strict=True):
        alpha = min(1 - 1 / (iteration + 2), 0.999)
        for weight, target in zip(teacher.parameters(), student.parameters(), strict=True):
            weight.data.mul_(alpha).add_((1 - alpha) * target.data)
        if learner.settings.teacher_norm == "running":
            for statistic, target in zip(teacher.buffers(), student.buffers(), strict=True):
                statistic.copy_(alpha * statistic + (1 - alpha) * target if statistic.is_floating_point() else target)
    batch, weight = random_batch(size=33), learner.ensemble.students[1].classifier.weight
    if broken == "gradient":
        hook = weight.register_hook(lambda gradient: gradient.fill_(float("inf")))
    else:
        batch.image[0, 0, 3, 3] = float("nan")
    terms = learner.step(batch, iteration).terms
    assert not terms["gradient_norm_2"].isfinite()
    assert terms["gradient_norm_1"].isfinite() == (broken == "gradient")
    state = {name: network.state_dict() for name, network in learner.ensemble.networks().items()}
    if learner.settings.skip_nonfinite == 0:
        assert not all(value.isfinite().all() for value in state["student_2"].values())
        return
    for name, network in expected.networks().items():
        for key, value in network.state_dict().items():
            torch.testing.assert_close(state[name][key], value, rtol=1e-12, atol=1e-14, msg=f"{name} {key}")
    for optimizer, before in zip(learner.optimizers, remembered, strict=True):
        for number, found in optimizer.state_dict()["state"].items():
            assert all(torch.equal(tensor, before[number][name]) for name, tensor in found.items())
    if broken == "gradient":
        hook.remove()
    learner.step(random_batch(size=33), iteration + 1)  # the next one is taken
    assert all(value.isfinite().all() for value in weight)
    assert not torch.equal(weight, expected.students[1].classifier.weight)


@pytest.mark.parametrize(
    "learner", [{"skip_nonfinite": "1"}, {"skip_nonfinite": "1", "optimizer": "adamw"}], indirect=True
)
def test_a_bad_step_of_fp16_changes_no_statistics_either(learner: Learner) -> None:
    """The scaler of gradients, which a CPU has for other types too, leaves the weights alone, and nothing else."""
    learner.scaler = torch.amp.GradScaler("cpu")
    learner.step(random_batch(size=33), 0)
    networks = learner.ensemble.networks()
    before = {name: copy.deepcopy(network.state_dict()) for name, network in networks.items()}
    remembered = copy.deepcopy(learner.optimizers[0].state_dict()["state"])
    bad = random_batch(size=33)
    bad.image[0, 0, 3, 3] = float("nan")
    assert not learner.step(bad, 1).terms["loss"].isfinite()
    for name, network in networks.items():
        statistics = {key for key, _ in network.named_buffers()}
        for key, value in network.state_dict().items():
            if name.startswith("student") or key in statistics:
                assert torch.equal(value, before[name][key]), f"{name} {key}"
    for number, found in learner.optimizers[0].state_dict()["state"].items():
        assert all(torch.equal(tensor, remembered[number][name]) for name, tensor in found.items())
    assert learner.step(random_batch(size=33), 2).terms["loss"].isfinite()
    weight = learner.ensemble.students[0].classifier.weight
    assert weight.isfinite().all() and not torch.equal(weight, before["student_1"]["classifier.weight"])


@pytest.mark.parametrize(
    "learner",
    [{"method": method, "skip_nonfinite": "1", "distribution_alignment": "1"} for method in ("org", "ema")],
    indirect=True,
)
@pytest.mark.parametrize("where", ["labelled", "unlabelled"])
def test_a_bad_step_does_not_move_what_labels_are_held_to(learner: Learner, where: str) -> None:
    learner.step(random_batch(size=33), 0)
    before = learner.alignment.shares.clone()
    bad = random_batch(size=33)
    (bad.image if where == "labelled" else bad.weak[1])[0, 0, 3, 3] = float("nan")
    learner.step(bad, 1)
    assert torch.equal(learner.alignment.shares, before)
    learner.step(random_batch(size=33), 2)
    assert learner.alignment.shares.isfinite().all() and not torch.equal(learner.alignment.shares, before)


@pytest.mark.parametrize("learner", [{"method": "ema", "cps_ramp": "0.5,0.5"}], indirect=True)
def test_statistics_of_teachers_follow_the_students_until_teachers_label(learner: Learner) -> None:
    assert [learner.cps_weight(iteration) > 0 for iteration in range(ITERATIONS)] == [False, False, True, True]
    for iteration in range(ITERATIONS):
        before = copy.deepcopy(learner.ensemble.teachers)
        learner.step(random_batch(size=33), iteration)
        alpha, follow = min(1 - 1 / (iteration + 2), 0.999), []
        for teacher, old, student in zip(learner.ensemble.teachers, before, learner.ensemble.students, strict=True):
            for name, mean in teacher.named_buffers():
                if name.endswith("running_mean"):
                    average = alpha * old.get_buffer(name) + (1 - alpha) * student.get_buffer(name)
                    follow.append(torch.allclose(mean, average, rtol=1e-9, atol=1e-12))
        assert len(follow) > 40 and (all(follow) if iteration < 2 else not any(follow))


@pytest.mark.parametrize("learner", [{"skip_nonfinite": "1"}], indirect=True)
def test_networks_without_statistics_are_spared_bad_steps_too(learner: Learner) -> None:
    """Layer norms and group norms have no buffers that would have to be put back."""
    for network in learner.ensemble.networks().values():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.track_running_stats = False
                module.running_mean = module.running_var = module.num_batches_tracked = None
    assert not list(learner.ensemble.students[0].buffers())
    before = copy.deepcopy(learner.ensemble.students)
    batch = random_batch(size=33)
    batch.image[0, 0, 3, 3] = float("nan")
    learner.step(batch, 0)
    for ours, theirs in zip(learner.ensemble.students, before, strict=True):
        assert all(map(torch.equal, ours.parameters(), theirs.parameters()))


WAITING = (  # operators whose result, or its size, the host must know; besides, there are indices that are masks
    "_local_scalar_dense",
    "is_nonzero",
    "nonzero",
    "masked_select",
    "bincount",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "repeat_interleave",
)


class ReadBacks(TorchDispatchMode):
    """Counts what would make a GPU's host wait: values that become Python numbers, sizes that depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = function.overloadpacket.__name__
        indices = arguments[1] if name in ("index", "index_put", "index_put_") else ()
        if name in WAITING or any(index is not None and index.dtype == torch.bool for index in indices):
            self.found.append(str(function))
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize(
    "learner",
    [
        {"method": "ema"},
        {"method": "org", "skip_nonfinite": "3"},
        {"method": "ema", "ohem_threshold": "0.1", "ohem_min_kept": "100"},
        {"method": "ema", "optimizer": "adamw", "clip_gradients": "1", "skip_nonfinite": "1"},
        {"method": "ema", "confidence": "0.1"},
        {"method": "ema", "confidence": "0.1", "label_temperature": "0.5"},
        {"method": "org", "distribution_alignment": "0.5"},
    ],
    indirect=True,
)
def test_a_step_reads_nothing_back(learner: Learner) -> None:
    batch = random_batch(size=33)
    with ReadBacks() as read_backs:
        terms = learner.step(batch, iteration=0).terms
        assert read_backs.found == []
        terms["loss"].item()
        assert len(read_backs.found) == 1  # it would be seen


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("before", ["0", "1"])
def test_a_run_goes_on_in_another_memory_layout(tmp_path: Path, before: str, optimizer: str) -> None:
    """A fused optimizer reads its state in the order of memory, whatever the order of its parameter's is."""

    def batch() -> Batch:
        torch.manual_seed(0)
        made = random_batch(size=33)
        return Batch(made.image, made.label)

    layouts = (before, str(1 - int(before)))
    settings = {"method": "supervised", "optimizer": optimizer}
    same, other = (in_float64(small_learner(tmp_path, settings | {"channels_last": layout})) for layout in layouts)
    same.step(batch(), 0)
    for name, network in same.ensemble.networks().items():
        other.ensemble.networks()[name].load_state_dict(network.state_dict())
    other.restore(same.state())
    for learner in (same, other):
        learner.step(batch(), 1)
    for ours, theirs in zip(other.ensemble.students, same.ensemble.students, strict=True):
        for (name, found), expected in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9, msg=name)


class Calls(TorchDispatchMode):
    """Counts the operators that are called, but for those that only look at memory in another way."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if not function.is_view and "split" not in str(function):
            self.found[str(function.overloadpacket)] += 1
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize("learner", [{"skip_nonfinite": "1"}, {"skip_nonfinite": "1", "method": "org"}], indirect=True)
def test_buffers_are_kept_by_a_few_operators(learner: Learner) -> None:
    """On a GPU, launching a copy of a hundred bytes takes longer than the copy."""
    buffers = list(learner.statistics())
    with Calls() as calls:
        kept = KeptBuffers(buffers)
        kept.put_back(torch.tensor(True))
    assert len(buffers) > 100 and calls.found.total() < 15, calls.found


def test_kept_buffers_come_back_where_they_are_told_to() -> None:
    buffers = [torch.randn(3), torch.tensor(4), torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)]
    buffers += [torch.tensor(5), torch.tensor([True, False]), torch.randn(2, dtype=torch.float64)]
    before, addresses = copy.deepcopy(buffers), [buffer.data_ptr() for buffer in buffers]
    for told in (False, True):
        kept = KeptBuffers(buffers)
        for buffer in buffers:
            buffer.fill_(float("nan") if buffer.is_floating_point() else 1)
        kept.put_back(torch.tensor(told))
        for buffer, expected in zip(buffers, before, strict=True):
            assert torch.equal(buffer, expected) == told
            buffer.copy_(expected)
    assert [buffer.data_ptr() for buffer in buffers] == addresses
