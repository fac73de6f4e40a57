"""Whether a network takes images of a size: found without values, and what fits is named where it does not."""

import subprocess
import sys

import pytest
import torch
from repository import REPOSITORY
from torch import Tensor, nn

from furnace.errors import InputError
from furnace.network import fit
from furnace.network.choice import build_network
from furnace.network.fit import explained, fault_at, require_size, without_values
from furnace.network.library import PairError


def meta(decoder: str, backbone: str) -> nn.Module:
    return without_values(lambda: build_network(decoder, backbone, num_classes=3, width=0.0625))


class NeedsValues(nn.Module):
    """A network that computes with values while it is built."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, int(torch.tensor(2.0).item()), 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.layer(image)


class Returns(nn.Module):
    """A network that gives something else than logits."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"out": image}


class Odd(nn.Conv2d):
    """A network whose attribute `multiple` is no number."""

    multiple = "32"


def test_a_network_without_values_takes_no_memory_and_no_random_number() -> None:
    before = torch.get_rng_state()
    for build in (lambda: nn.Conv2d(3, 2, 1), NeedsValues):
        network = without_values(build)
        assert all(parameter.is_meta for parameter in network.parameters())
        assert fault_at(network, 5, num_classes=2) is None
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("network", "fault"),
    [
        (nn.Conv2d(3, 2, 3, padding=1), None),
        (nn.Conv2d(3, 2, 3), "its logits are (2, 2, 6, 6), not (2, 2, 8, 8)"),
        (nn.Conv2d(3, 4, 1), "its logits are (2, 4, 8, 8), not (2, 2, 8, 8)"),
        (Returns(), "it returns a dict, not a tensor"),
        (Odd(3, 2, 1), "its attribute multiple is '32', not a whole number of at least 1"),
        (nn.Linear(7, 2), "RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
        (nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(2), nn.Upsample(8)), None),
    ],
)
def test_what_is_at_fault(network: nn.Module, fault: str | None) -> None:
    found = fault_at(network, 8, num_classes=2)
    assert found == fault or found.startswith(fault)


@pytest.mark.parametrize(
    ("decoder", "backbone", "size", "said"),
    [
        ("Linknet", "tu-test_byobnet", 32, None),
        ("Linknet", "tu-test_byobnet", 20, "image_size: expected 32, the nearest that"),
        ("Unet", "tu-test_byobnet", 45, None),
        ("DPT", "tu-test_vit", 96, None),
        # The library asks for multiples of 16, but the features of this decoder fit together only at those of 32.
        ("DPT", "tu-test_vit", 112, "image_size: expected 96 or 128, the nearest that decoder=DPT and .*test_vit take"),
        ("Segformer", "mit_b0", 48, "image_size: expected 32 or 64, the nearest .* found 48; set image_size=64$"),
    ],
)
def test_the_nearest_sizes_are_named(decoder: str, backbone: str, size: int, said: str | None) -> None:
    network = meta(decoder, backbone)
    if said is None:
        require_size(network, decoder, backbone, size, num_classes=3)
        return
    with pytest.raises(InputError, match=said):
        require_size(network, decoder, backbone, size, num_classes=3)


@pytest.mark.parametrize(
    ("decoder", "backbone", "remedy"),
    [
        ("Unet", "tu-test_vit", "; set decoder=DPT, which takes it"),
        ("DPT", "mit_b0", "; set decoder=UPerNet, which takes it"),
    ],
)
def test_another_decoder_is_named_for_an_encoder(decoder: str, backbone: str, remedy: str) -> None:
    with pytest.raises(PairError) as caught:
        meta(decoder, backbone)
    line = str(explained(caught.value, decoder, backbone))
    assert line.startswith(f"decoder={decoder} does not take backbone={backbone} (") and line.endswith(remedy)
    assert "\n" not in line


def test_another_encoder_is_named_for_patches_of_fourteen(monkeypatch: pytest.MonkeyPatch) -> None:
    """This library's DPT takes the features of a patch of 16 pixels alone."""
    monkeypatch.setattr(fit, "_nearest_sizes", lambda *_: [])  # there are none, which takes long to find out
    monkeypatch.setattr(fit, "FAMILIAR", ("UPerNet", "DPT"))
    decoder, backbone = "DPT", "tu-vit_small_patch14_dinov2"
    with pytest.raises(
        InputError, match=r"do not go together .*; set backbone=tu-vit_\w*patch16\w*, which goes with DPT"
    ):
        require_size(meta(decoder, backbone), decoder, backbone, 112, num_classes=3)


def test_what_operators_without_values_import_is_there_before_a_network_is_built() -> None:
    """torch 2.6 cannot import it within, where torchvision wants it, and would be broken for the rest of the run."""
    code = (
        "import sys; from torch import nn; from furnace.network.fit import without_values; "
        "print(without_values(lambda: nn.Linear('torch._dynamo' in sys.modules, 1)).in_features)"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert said.stdout == "True\n"
