"""Backbones, widths, and weights that are taken whole or refused."""

from pathlib import Path

import pytest
import torch

from furnace.errors import InputError
from furnace.network.deeplabv3plus import DeepLabV3Plus
from furnace.network.pretrained import backbone_of, check_source, load_backbone
from furnace.network.resnet import BACKBONES, ResNet


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_follows_the_width(backbone: str) -> None:
    network = DeepLabV3Plus(backbone, 7, width=0.0625).eval()
    low_level, feature = network.backbone(torch.randn(1, 3, 64, 48))
    assert low_level.shape[2:] == (16, 12) and feature.shape[2:] == (4, 3)  # output stride 16
    assert network(torch.randn(1, 3, 65, 47)).shape == (1, 7, 65, 47)
    assert network.head.last_conv[0].out_channels == 16 and network.head.reduce[0].out_channels == 3


def test_plain_backbone_has_torchvisions_names() -> None:
    from torchvision.models import resnet50

    expected = {name: value.shape for name, value in resnet50().state_dict().items() if not name.startswith("fc.")}
    assert {name: value.shape for name, value in ResNet("resnet50").state_dict().items()} == expected


@pytest.mark.parametrize(
    ("source", "backbone"),
    [
        ("DATA/resnet50_v1c.pth", "resnet50_v1c"),
        ("resnet101-deep.pth", "resnet101_v1c"),
        ("resnet18_x/weights.pth", None),
        ("torchvision://resnet34", "resnet34"),
        ("torchvision://resnet50@IMAGENET1K_V2", "resnet50"),
        ("none", None),
        ("resnet1012.pth", None),
    ],
)
def test_the_name_tells_the_backbone(source: str, backbone: str | None) -> None:
    assert backbone_of(source) == backbone


def backbone() -> ResNet:
    return ResNet("resnet18_v1c", width=0.125)


@pytest.mark.parametrize("nested", [None, "state_dict", "model"])
def test_a_file_fills_the_backbone(tmp_path: Path, nested: str | None) -> None:
    state = {**backbone().state_dict(), "fc.weight": torch.zeros(3, 3)}
    state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    torch.save({nested: state} if nested else state, tmp_path / "weights.pth")
    target = backbone()
    load_backbone(target, str(tmp_path / "weights.pth"))
    assert torch.equal(target.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])


def test_a_weight_file_that_does_not_fit_names_the_key(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    whole = backbone().state_dict()
    cases = {
        "conv1.0.weight": {**whole, "conv1.0.weight": torch.zeros(32, 3, 3, 3)},  # a stem of another width
        "layer2.0.conv1.weight missing": {
            name: value for name, value in whole.items() if name != "layer2.0.conv1.weight"
        },
        "surprise not in the network": {**whole, "surprise": torch.zeros(1)},
        "conv1.0.weight and": ResNet("resnet18", width=0.125).state_dict(),  # the 7x7 stem
    }
    for fragment, state in cases.items():
        torch.save(state, path)
        target = backbone()
        before = target.bn1.weight.clone()
        with pytest.raises(InputError, match=fragment):
            load_backbone(target, str(path))
        assert torch.equal(target.bn1.weight, before)


class RunsCode:
    def __reduce__(self):
        return eval, ("open('ran', 'w')",)


def test_code_in_a_weight_file_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(RunsCode(), "weights.pth")
    with pytest.raises(InputError, match="not a file of plain tensors"):
        load_backbone(backbone(), "weights.pth")
    assert not Path("ran").exists()


def test_a_missing_file_offers_the_other_two() -> None:
    with pytest.raises(InputError, match=r"torchvision://resnet50.*pretrained_model=none"):
        check_source("/nowhere/resnet50_v1c.pth")


def test_torchvision_weights_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import ResNet18_Weights, resnet18

    state = resnet18().state_dict()
    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", lambda self, **_: state)
    target = ResNet("resnet18")
    load_backbone(target, "torchvision://resnet18")
    assert torch.equal(target.conv1.weight, state["conv1.weight"])
    with pytest.raises(InputError, match="unknown weights"):
        load_backbone(target, "torchvision://resnet17")
