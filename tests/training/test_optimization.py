"""AdamW, warm-up, clipped gradients and a backbone's own rate are those written longhand; what decays; going on."""

import copy
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from batches import random_batch
from learners import ITERATIONS, in_float64, small_learner
from longhand import longhand_step
from runs import small_ensemble
from torch import Tensor, nn

from furnace.errors import InputError
from furnace.training.announcement import said_of_optimization
from furnace.training.optimizer import build_optimizer, parameter_groups, restore_optimizer, set_learning_rate

BACKBONE, WARMUP, DECAY = 0.1, 2, 0.05


class LonghandAdamW:
    """Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), algorithm 2, one tensor at a time."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.steps = network, 0
        self.first = {name: torch.zeros_like(weight) for name, weight in network.named_parameters()}
        self.second = copy.deepcopy(self.first)

    def step(self, rate: float, clip: float) -> Tensor:
        """Returns the norm of the gradient before it was clipped."""
        self.steps += 1
        norm = sum((weight.grad**2).sum() for weight in self.network.parameters()) ** 0.5
        for name, weight in self.network.named_parameters():
            gradient = weight.grad * min(1.0, clip / (norm + 1e-6))
            own_rate = rate * (BACKBONE if name.startswith("backbone.") else 1)
            self.first[name] = 0.9 * self.first[name] + 0.1 * gradient
            self.second[name] = 0.999 * self.second[name] + 0.001 * gradient**2
            mean, square = self.first[name] / (1 - 0.9**self.steps), self.second[name] / (1 - 0.999**self.steps)
            weight.data *= 1 - own_rate * (DECAY if weight.ndim == 4 else 0)
            weight.data -= own_rate * mean / (square.sqrt() + 1e-8)
            weight.grad = None
        return norm


@pytest.mark.parametrize("clip", [0.5, 1000.0])
def test_steps_of_adamw_equal_longhand_ones(tmp_path: Path, clip: float) -> None:
    settings = {"method": "org", "optimizer": "adamw", "clip_gradients": str(clip), "weight_decay": str(DECAY)}
    settings |= {"backbone_rate_factor": str(BACKBONE), "warmup_iterations": str(WARMUP), "learning_rate": "0.01"}
    learner = in_float64(small_learner(tmp_path, settings))
    slow = copy.deepcopy(learner.ensemble)
    optimizers = [LonghandAdamW(student) for student in slow.students]
    supervised = partial(F.cross_entropy, ignore_index=255)
    for iteration, share in enumerate((0.0, 0.5, (1 - 2 / ITERATIONS) ** 0.9)):
        batch = random_batch(size=49)
        terms = learner.step(batch, iteration).terms
        longhand_step(slow.students, slow.students, batch, learner.method.view, 1.0, supervised)
        for number, optimizer in enumerate(optimizers, 1):
            norm = optimizer.step(0.01 * share, clip)
            assert 0.5 < norm < 1000
            assert terms[f"gradient_norm_{number}"].item() == pytest.approx(norm.item(), rel=1e-9)
    for ours, theirs in zip(learner.ensemble.students, slow.students, strict=True):
        for (name, found), expected in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-8, msg=name)


def published_optimizer(network: nn.Module) -> torch.optim.SGD:
    """As it was built when the published network was the only one."""
    groups = []
    for part in (network.backbone, network.head, network.classifier):
        groups.append({"params": [weight for weight in part.parameters() if weight.ndim > 1], "weight_decay": 2e-4})
        groups.append({"params": [weight for weight in part.parameters() if weight.ndim == 1], "weight_decay": 0.0})
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9, fused=True)
    for weight in network.parameters():
        optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    return optimizer


def moved(network: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    for weight in network.parameters():
        weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    optimizer.step()


def test_a_state_that_knows_no_rate_factors_goes_on_with_the_same_bits() -> None:
    before = small_ensemble().students[0]
    now = copy.deepcopy(before)
    old = published_optimizer(before)
    moved(before, old, seed=1)
    now.load_state_dict(before.state_dict())
    optimizer = build_optimizer(now, 0.3, 2e-4)
    assert restore_optimizer(optimizer, copy.deepcopy(old.state_dict()))
    set_learning_rate(optimizer, 0.01)
    moved(before, old, seed=2)
    moved(now, optimizer, seed=2)
    assert all(map(torch.equal, now.parameters(), before.parameters()))


def test_what_is_set_now_stays_set() -> None:
    network = small_ensemble().students[0]
    saved = copy.deepcopy(build_optimizer(network, 0.1, 0.5, "adamw", 0.2).state_dict())
    optimizer = build_optimizer(network, 0.1, 0.7, "adamw", 0.3)
    assert restore_optimizer(optimizer, saved)
    set_learning_rate(optimizer, 10.0)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.7}
    assert [group["lr"] for group in optimizer.param_groups] == [3.0, 3.0, 10.0, 10.0, 10.0, 10.0]


def test_another_kind_of_optimizer_begins_anew(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    sgd, adamw = (small_learner(tmp_path, {"method": "org", "optimizer": name}) for name in ("sgd", "adamw"))
    before = copy.deepcopy(adamw.optimizers[0].state_dict())
    adamw.restore(sgd.state())
    after = adamw.optimizers[0].state_dict()
    assert after["param_groups"] == before["param_groups"] and str(after["state"]) == str(before["state"])
    assert capsys.readouterr().err == "note: adamw begins anew: what is saved is of another kind of optimizer\n"


def test_a_state_of_other_parameters_is_refused() -> None:
    network = small_ensemble().students[0]
    saved = build_optimizer(network, 0.1, 0.5).state_dict()
    network.classifier.bias.requires_grad = False
    with pytest.raises(InputError, match=r"^resume\.pth was saved while other parameters were trained.*; choose"):
        restore_optimizer(build_optimizer(network, 0.1, 0.5), saved)


def test_what_is_not_as_published_is_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert said_of_optimization(small_learner(tmp_path, {"method": "org"})) == (
        "sgd, effective learning rate 0.0025, weight decay 0.0002"
    )
    settings = {"method": "org", "optimizer": "adamw", "learning_rate": "0.01", "backbone_rate_factor": "0.5"}
    learner = small_learner(tmp_path, settings | {"warmup_iterations": "3", "clip_gradients": "2"})
    assert said_of_optimization(learner) == (
        "adamw, effective learning rate 0.01 (0.005 for the backbone), weight decay 0.0002, "
        "warm-up of 3 iterations, gradients clipped to a norm of 2"
    )
    assert not capsys.readouterr().err
    assert said_of_optimization(small_learner(tmp_path, {"backbone_norm": "frozen"})).endswith(
        ", norms of the backbone frozen"
    )
    learner.ensemble.students[:] = [Everything(), Everything()]
    assert ", effective learning rate 0.01, weight" in said_of_optimization(learner)
    assert "note: backbone_rate_factor has no effect: no part of the" in capsys.readouterr().err


class Everything(nn.Module):
    """Holds each kind of parameter for which weight decay is decided, and no part is called as ours are."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 4, 8))
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8))
        self.attention = nn.MultiheadAttention(8, 2)
        self.norm = nn.LayerNorm((4, 8))
        self.token = nn.Embedding(3, 8)
        self.scale = nn.ParameterDict({"gamma": torch.zeros(8, 1, 1)})
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.out = nn.Linear(8, 8, bias=False)
        self.again = nn.Linear(8, 8, bias=False)
        self.again.weight = self.out.weight


DECAYED = {"stem.0.weight", "attention.in_proj_weight", "attention.out_proj.weight", "out.weight"}


def decayed(network: nn.Module) -> set[str]:
    names = {parameter: name for name, parameter in network.named_parameters()}
    groups = parameter_groups(network, 0.1)
    assert all(groups_of["params"] for groups_of in groups)
    inside = [parameter for group in groups for parameter in group["params"]]
    assert len(inside) == len(set(inside)) == sum(parameter.requires_grad for parameter in names)
    return {names[parameter] for group in groups if group["weight_decay"] for parameter in group["params"]}


def test_only_weights_of_layers_that_mix_channels_are_decayed() -> None:
    network = Everything()
    assert decayed(network) == DECAYED
    assert {group["rate_factor"] for group in parameter_groups(network, 0.1, 0.5)} == {1.0}


@pytest.mark.parametrize("inner", [False, True], ids=["a part", "an inner module's second name"])
def test_only_the_part_called_backbone_has_a_rate_of_its_own(inner: bool) -> None:
    backbone = Everything()
    before = {"model": nn.Sequential(nn.Linear(2, 2), backbone)} if inner else {}
    neck = nn.ModuleDict({"backbone": nn.Linear(2, 2)})
    network = nn.ModuleDict({**before, "backbone": backbone, "neck": neck})
    groups = parameter_groups(network, 0.1, 0.5)
    slow = {parameter for group in groups if group["rate_factor"] == 0.5 for parameter in group["params"]}
    assert slow == {parameter for parameter in network["backbone"].parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("architecture", "encoder", "kept"),
    [
        ("DPT", "tu-vit_tiny_patch16_224", {"pos_embed", "cls_token"}),
        ("Unet", "mit_b0", set()),
        ("Unet", "tu-swin_tiny_patch4_window7_224", {"relative_position_bias_table"}),
        ("Unet", "tu-convnext_atto", set()),
        ("DeepLabV3Plus", "tu-tf_efficientnet_lite0", set()),
    ],
)
def test_what_has_more_than_one_dimension_and_is_kept_in_networks_of_the_library(
    architecture: str, encoder: str, kept: set[str]
) -> None:
    library = pytest.importorskip("segmentation_models_pytorch")
    network = library.create_model(architecture, encoder, encoder_weights=None, classes=3)
    shapes = {name: parameter.ndim for name, parameter in network.named_parameters()}
    decay = decayed(network)
    assert {name.rpartition(".")[2] for name, ndim in shapes.items() if ndim > 1 and name not in decay} == kept
    assert decay and all(shapes[name] in (2, 4) and name.endswith(".weight") for name in decay)
