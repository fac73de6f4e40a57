"""Labellers label without dropout, and with the statistics of their batch where they take these."""

import pytest
import torch
from batches import CLASSES, random_batch
from timm.layers import BatchNormAct2d, DropPath
from torch import Tensor, nn
from torch._dynamo.utils import counters

from furnace.semi.batch import Batch
from furnace.semi.cross_supervision import METHODS, CrossSupervision
from furnace.semi.ensemble import Ensemble
from furnace.semi.modes import (
    freeze_backbone_norms,
    in_eval_mode,
    keeps_statistics,
    modes_kept,
    set_to_label,
    to_be_off,
)


class OwnNorm(nn.Module):
    """Keeps statistics, as batch norms do, without standing on PyTorch's."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(1))


class Dropping(nn.Module):
    """Hardly anything comes through while it trains. Half of what it drops, no module called dropout drops."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.dropout, self.path, self.last = nn.Dropout(0.9), DropPath(0.5), nn.Conv2d(8, CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        feature = self.dropout(self.norm(self.first(image))) + self.path(self.first(image))
        return self.last(nn.functional.dropout(feature, 0.5, self.training))


def algorithm_of(method: str, **arguments: object) -> CrossSupervision:
    choice = METHODS[method]
    ensemble = Ensemble(Dropping, choice.labellers == "teachers")
    for teacher in ensemble.teachers:
        set_to_label(teacher, batch_statistics=True)
    off = to_be_off(ensemble.students, batch_statistics=True) if choice.labellers == "students" else ()
    return CrossSupervision(
        ensemble.students, getattr(ensemble, choice.labellers), choice.view, off_while_labelling=off, **arguments
    )


def batch() -> Batch:
    whole = random_batch(size=16)

    def images(of: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(image.float() for image in of)

    return Batch(whole.image.float(), whole.label, images(whole.weak), images(whole.strong), whole.mask)


@pytest.mark.parametrize("method", ["org", "ema"])
def test_labellers_drop_nothing_and_students_do(method: str) -> None:
    algorithm, images = algorithm_of(method), batch()
    labels = [algorithm.pseudo_labels(images) for _ in range(2)]
    assert all(torch.equal(first.label, again.label) for first, again in zip(*labels, strict=True))
    for labeller in algorithm.labellers:
        assert labeller.norm.num_batches_tracked == 4  # two batches for each: they normalised by their own
    for student in algorithm.students:
        assert all(module.training for module in student.modules())
        assert not torch.equal(student(images.image), student(images.image))
    losses = [algorithm.accumulate_gradients(images, 1.0).terms()["loss"].item() for _ in range(2)]
    assert losses[0] != losses[1]


def test_compiled_labels_are_one_graph() -> None:
    """A mode that changes before each look makes no graph anew."""

    def whole(module: nn.Module) -> nn.Module:
        module.compile(backend="aot_eager", dynamic=False, fullgraph=True)
        return module

    algorithm = algorithm_of("org", compiled=whole)
    torch.compiler.reset()
    counters.clear()
    for _ in range(3):
        algorithm.accumulate_gradients(batch(), 1.0)
        assert counters["stats"]["unique_graphs"] == 2  # labels, and a loss, the same for both students
    images = batch()
    labels = [algorithm.pseudo_labels(images) for _ in range(2)]
    assert all(torch.equal(first.label, again.label) for first, again in zip(*labels, strict=True))


def test_what_keeps_statistics() -> None:
    keeping = [nn.BatchNorm1d(2), BatchNormAct2d(2), nn.SyncBatchNorm(2), nn.InstanceNorm2d(2), OwnNorm()]
    assert all(map(keeps_statistics, keeping))
    assert not any(map(keeps_statistics, [nn.LayerNorm(2), nn.GroupNorm(1, 2), nn.Dropout(), nn.Sequential(OwnNorm())]))


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_a_network_that_only_labels(batch_statistics: bool) -> None:
    """Nothing but norms is ever in training mode, also where it lies within one."""
    norm = BatchNormAct2d(2, drop_layer=nn.Dropout)
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Sequential(norm, nn.Dropout()), OwnNorm())
    set_to_label(network, batch_statistics)
    training = {module for module in network.modules() if module.training}
    assert training == ({norm, network[2]} if batch_statistics else set())
    assert to_be_off([network], batch_statistics=True) == [
        network,
        network[0],
        network[1],
        norm.drop,
        norm.act,
        network[1][1],
    ]
    assert to_be_off([network], batch_statistics=False) == list(network.modules())


def test_modes_are_put_back_whatever_happens() -> None:
    """Also those of a network whose modules are in several."""
    network = nn.Sequential(nn.BatchNorm2d(2), nn.Dropout(), nn.Sequential(nn.ReLU()))
    network[1].eval()
    before = [module.training for module in network.modules()]
    with pytest.raises(KeyError), modes_kept(list(network.modules())):
        network.eval()
        raise KeyError
    assert [module.training for module in network.modules()] == before
    with pytest.raises(KeyError), in_eval_mode([network[2]]):
        assert not network[2].training and network[2][0].training
        raise KeyError
    assert [module.training for module in network.modules()] == before


def test_norms_of_the_backbone_alone_are_frozen_and_only_those_that_keep_statistics() -> None:
    network = nn.ModuleDict({"backbone": nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), OwnNorm(), Dropping())})
    network["backbone"].append(nn.GroupNorm(2, 8))
    network["head"] = nn.BatchNorm2d(8)
    assert freeze_backbone_norms(network) == 3
    frozen = {name for name, module in network.named_modules() if not module.training}
    assert frozen == {"backbone.1", "backbone.2", "backbone.3.norm"}


@pytest.mark.parametrize("network", [nn.BatchNorm2d(8), nn.ModuleDict({"backbone": nn.LayerNorm(8)})])
def test_a_network_without_such_norms_is_left_as_it_is(network: nn.Module) -> None:
    assert freeze_backbone_norms(network) == 0
    assert all(module.training for module in network.modules())


class Frozen(Dropping):
    """A network that keeps its norm in eval mode itself."""

    def train(self, mode: bool = True) -> "Frozen":
        super().train(mode)
        self.norm.eval()
        return self


def test_norms_that_a_network_itself_freezes_are_frozen_while_it_labels() -> None:
    network = Frozen()
    set_to_label(network, batch_statistics=True)
    assert not any(module.training for module in network.modules())
