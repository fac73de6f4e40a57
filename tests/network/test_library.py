"""Networks of segmentation_models_pytorch: the library's own models in this program's form."""

import inspect
import subprocess
import sys
import warnings

import pytest
import segmentation_models_pytorch as smp
import torch
from repository import REPOSITORY
from torch import nn

from furnace.errors import InputError
from furnace.network.choice import build_network
from furnace.network.fit import fault_at, without_values
from furnace.network.library import LibraryNetwork, architectures

PARTS = (("encoder", "backbone"), ("decoder", "head"), ("segmentation_head", "classifier"))


@pytest.mark.parametrize(
    ("decoder", "backbone", "given", "more"),
    [
        ("DeepLabV3Plus", "tu-tf_efficientnet_lite0", {}, {}),
        ("DeepLabV3Plus", "tu-tf_efficientnet_lite0", {"atrous_rates": (1, 2, 3)}, {"decoder_atrous_rates": (1, 2, 3)}),
        ("Segformer", "mit_b0", {}, {}),
        ("DPT", "tu-vit_tiny_patch16_224", {}, {"dynamic_img_size": True, "num_classes": 0}),
    ],
)
def test_logits_are_those_of_the_librarys_own_model(decoder: str, backbone: str, given: dict, more: dict) -> None:
    network = build_network(decoder, backbone, num_classes=3, **given).eval()
    with warnings.catch_warnings(action="ignore"):
        model = smp.create_model(decoder, backbone, encoder_weights=None, classes=3, **more).eval()
    assert {name.partition(".")[0] for name in network.state_dict()} == {"backbone", "head", "classifier"}
    assert sum(each.numel() for each in network.parameters()) == sum(each.numel() for each in model.parameters())
    for theirs, ours in PARTS:
        getattr(model, theirs).load_state_dict(getattr(network, ours).state_dict())
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        found, expected = network(image), model(image * network.input_scale + network.input_shift)
    assert found.shape == (2, 3, 64, 96) and torch.equal(found, expected) and found.std() > 0


def channels_out(part: nn.Module) -> set[int]:
    return {module.out_channels for module in part.modules() if isinstance(module, nn.Conv2d)}


@pytest.mark.parametrize("decoder", sorted(architectures()))
def test_width_makes_every_decoder_narrower_that_can_be(decoder: str) -> None:
    backbone = "tu-test_vit" if decoder == "DPT" else "resnet18"
    whole, half = (without_values(lambda width=width: build_network(decoder, backbone, 5, width)) for width in (1, 0.5))
    assert isinstance(whole, LibraryNetwork) and isinstance(half, LibraryNetwork)
    sizes = [sum(parameter.numel() for parameter in network.head.parameters()) for network in (whole, half)]
    takes_width = any(
        name.endswith("_channels") and name != "in_channels"
        for name in inspect.signature(getattr(smp, decoder)).parameters
    )
    assert takes_width == (decoder != "Linknet")
    assert (sizes[1] < 0.9 * sizes[0]) == takes_width
    assert channels_out(whole.backbone) == channels_out(half.backbone)
    assert fault_at(half, 128, 5) is None


def test_rates_are_refused_where_nothing_is_dilated() -> None:
    with pytest.raises(
        InputError, match=r"^atrous_rates: .* \(published, DeepLabV3, DeepLabV3Plus\), found decoder=FPN;"
    ):
        build_network("FPN", "resnet18", num_classes=3, atrous_rates=(2, 4, 6))


def test_classes_of_a_vision_transformer_are_not_kept() -> None:
    network = without_values(lambda: build_network("DPT", "tu-test_vit", 5))
    assert not any("head" in name for name in network.backbone.state_dict())


def test_the_library_is_imported_only_where_it_is_asked_for() -> None:
    heavy = "{'segmentation_models_pytorch', 'timm', 'huggingface_hub'}"
    code = (
        "import sys, furnace.training.trainer, furnace.evaluation.evaluate\n"
        "from furnace.network.choice import build_network\n"
        f"build_network('published', 'resnet18_v1c', 2, 0.0625); print({heavy} & set(sys.modules))\n"
        f"build_network('Unet', 'resnet18', 2, 0.0625); print({heavy} <= set(sys.modules))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\nTrue\n"
