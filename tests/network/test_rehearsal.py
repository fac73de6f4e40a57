"""What one pass through a network tells of it: parameters without gradients, whether it draws, and what is at fault."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from furnace.network.deeplabv3plus import DeepLabV3Plus
from furnace.network.library import LibraryNetwork
from furnace.network.rehearsal import CHANGES_IMAGES, DRAWS, NO_GRADIENT, Rehearsal, rehearse

SIZE = 16


class Own(nn.Module):
    """A network with a layer that leads nowhere, and something in its middle."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Conv2d(3, 4, 3), middle, nn.Conv2d(4, 2, 1)
        self.nowhere = nn.Linear(4, 2)
        self.frozen = nn.Linear(4, 2).requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        feature = self.middle(self.first(image))
        self.nowhere(feature.mean(dim=(2, 3)))
        return self.last(feature)


class Attention(nn.Module):
    """It drops by a number of its own, which belongs to no module that is called dropout."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, dropout, batch_first=True)

    def forward(self, feature: Tensor) -> Tensor:
        tokens = feature.flatten(2).mT
        return self.attention(tokens, tokens, tokens)[0].mT.reshape(feature.shape)


class Looking(nn.Module):
    """It looks at values, which only the copy on the CPU has."""

    def forward(self, feature: Tensor) -> Tensor:
        return feature * (2.0 if feature.mean().item() > 0 else 1.0)


class Elsewhere(nn.Module):
    """It runs nowhere but on a device that is not here."""

    def forward(self, feature: Tensor) -> Tensor:
        raise RuntimeError("expected a GPU")


@pytest.mark.parametrize(
    ("middle", "draws"),
    [
        (nn.ReLU(), False),
        (nn.Dropout(0.5), True),
        (nn.Dropout(0.0), False),
        (Attention(0.1), True),
        (Attention(0.0), False),
        (Looking(), False),
        (nn.Sequential(Looking(), nn.Dropout(0.5)), True),
        (nn.BatchNorm2d(4), False),
    ],
    ids=["plain", "dropout", "none of it", "attention", "whole attention", "values", "values and dropout", "norm"],
)
def test_it_tells_what_gradients_do_not_reach_and_whether_numbers_are_drawn(middle: nn.Module, draws: bool) -> None:
    assert rehearse(Own(middle), SIZE) == Rehearsal(("nowhere.weight", "nowhere.bias"), draws)


def test_of_a_network_that_cannot_be_tried_the_answer_is_the_careful_one() -> None:
    assert rehearse(Own(Elsewhere()), SIZE) == Rehearsal((), draws=True)


@pytest.mark.parametrize("middle", [nn.BatchNorm2d(4), nn.Sequential(Looking(), nn.BatchNorm2d(4), nn.Dropout())])
def test_the_network_and_the_random_numbers_stay(middle: nn.Module) -> None:
    network, random = Own(middle).eval(), torch.get_rng_state()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    rehearse(network, SIZE)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module.training for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


class Skipping(nn.Conv2d):
    """A block that is left out while the network trains, as stochastic depth may do with any."""

    def forward(self, feature: Tensor) -> Tensor:
        return feature if self.training else super().forward(feature)


class Doing(nn.Conv2d):
    """A network that does something with its images first."""

    def __init__(self, work: Callable[[Tensor], Tensor]) -> None:
        super().__init__(3, 2, 1)
        self.work = work

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(self.work(image))


def looking_at(image: Tensor) -> Tensor:
    return image + image.mean().item()


def attention(image: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(image, image, image)


@pytest.mark.parametrize(
    ("work", "fault"),
    [
        (lambda image: image.clamp(0), None),
        (lambda image: image.clamp_(0), CHANGES_IMAGES),
        (lambda image: looking_at(image[:, :1].mul_(2)).expand(-1, 3, -1, -1), CHANGES_IMAGES),
        (lambda image: F.dropout(image, 0.5), DRAWS),
        (lambda image: F.dropout(looking_at(image), 0.5), DRAWS),
        (lambda image: F.rrelu(image), None),  # the operator draws in training mode alone
        (lambda image: attention(looking_at(image)), None),  # the operator may draw, and does not
        (nn.Dropout(0.5), None),
    ],
    ids=["copy", "in place", "a part", "drawn", "drawn from values", "may be drawn", "attention", "dropout"],
)
def test_what_no_network_may_do_is_a_fault(work: Callable[[Tensor], Tensor], fault: str | None) -> None:
    assert rehearse(Doing(work), SIZE).fault == fault


class Detached(nn.Conv2d):
    """A network whose logits need no gradient."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image).detach()


def test_logits_that_no_gradient_goes_back_from_are_a_fault() -> None:
    assert rehearse(Detached(3, 2, 1), SIZE).fault == NO_GRADIENT


def test_a_block_that_is_skipped_in_training_is_trained_all_the_same() -> None:
    assert rehearse(Own(Skipping(4, 4, 1)), SIZE).unreached == ("nowhere.weight", "nowhere.bias")


def test_a_network_that_looks_at_values_is_tried_with_small_images_first() -> None:
    sides = []

    class Watched(Looking):
        def forward(self, feature: Tensor) -> Tensor:
            if feature.device.type == "cpu":
                sides.append(feature.shape[-1])
            return super().forward(feature)

    rehearse(Own(Watched()), 500)
    assert sides == [62, 62]  # behind a convolution without padding


def test_a_decoder_leaves_out_stages_of_its_encoder() -> None:
    found = rehearse(LibraryNetwork("PSPNet", "resnet18", 2), 48)
    assert {name.rsplit(".", 3)[0] for name in found.unreached} >= {"backbone.layer3", "backbone.layer4"}
    assert all(name.startswith(("backbone.layer3.", "backbone.layer4.")) for name in found.unreached) and found.draws


def test_the_published_network_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying it would take a moment of every start. It is held to be what a trial finds, here."""
    network = DeepLabV3Plus("resnet18_v1c", 5, 0.0625)

    class Same(DeepLabV3Plus):
        pass

    tried = Same("resnet18_v1c", 5, 0.0625)
    with monkeypatch.context() as patch:
        patch.setattr("furnace.network.rehearsal._seen_of", lambda *_: pytest.fail("tried"))
        assert rehearse(network, 33) == Rehearsal()
    assert rehearse(tried, 33) == Rehearsal()
