"""Backbones and widths."""

import pytest
import torch

from furnace.network.choice import build_network
from furnace.network.deeplabv3plus import DeepLabV3Plus
from furnace.network.resnet import BACKBONES, ResNet, SubsampledConv2d, conv3x3


def require_equal(fast: torch.nn.Module, slow: torch.nn.Module, feature: torch.Tensor) -> None:
    """Two convolutions of a feature (B, C, h, w) have the same result, and the same gradients."""
    results = []
    for convolution in (fast, slow):
        leaf = feature.clone().requires_grad_()
        result = convolution(leaf)
        (result * torch.arange(result.numel()).reshape(result.shape)).sum().backward()
        results.append((result, leaf.grad, convolution.weight.grad))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_follows_the_width(backbone: str) -> None:
    network = DeepLabV3Plus(backbone, 7, width=0.0625).eval()
    low_level, feature = network.backbone(torch.randn(1, 3, 64, 48))
    assert low_level.shape[2:] == (16, 12) and feature.shape[2:] == (4, 3)  # output stride 16
    assert network(torch.randn(1, 3, 65, 47)).shape == (1, 7, 65, 47)
    assert network.head.last_conv[0].out_channels == 16 and network.head.reduce[0].out_channels == 3


@pytest.mark.parametrize(("given", "rates"), [(None, (6, 12, 18)), ((2, 4, 6), (2, 4, 6))])
def test_aspp_has_the_rates_that_are_given_or_the_published_ones(given: tuple | None, rates: tuple) -> None:
    network = build_network("published", "resnet18_v1c", 7, width=0.0625, atrous_rates=given).eval()
    dilated = network.head.aspp.map_convs[1:]
    assert [(each.dilation, each.padding) for each in dilated] == [((rate, rate), (rate, rate)) for rate in rates]


def test_plain_backbone_has_torchvisions_names() -> None:
    from torchvision.models import resnet50

    expected = {name: value.shape for name, value in resnet50().state_dict().items() if not name.startswith("fc.")}
    assert {name: value.shape for name, value in ResNet("resnet50").state_dict().items()} == expected


@pytest.mark.parametrize("width", [1, 0.25])
def test_the_papers_stem_is_half_as_wide(width: float) -> None:
    published, narrow = ResNet("resnet18_v1c", width), ResNet("resnet18_v1c_stem32", width)
    assert [published.conv1[index].out_channels for index in (0, 3, 6)] == [64 * width, 64 * width, 128 * width]
    assert [narrow.conv1[index].out_channels for index in (0, 3, 6)] == [32 * width, 32 * width, 64 * width]
    assert published.layer1[0].downsample is not None and narrow.layer1[0].downsample is None


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (6, 6), (9, 5), (7, 13), (13, 13)])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 6), (2, 6), (1, 1)])
def test_taps_that_see_padding_alone_are_left_out_without_a_trace(
    size: tuple[int, int], stride: int, dilation: int
) -> None:
    fast = conv3x3(3, 4, stride, dilation).double()
    slow = torch.nn.Conv2d(3, 4, 3, stride, padding=dilation, dilation=dilation, bias=False).double()
    slow.load_state_dict(fast.state_dict())
    require_equal(fast, slow, torch.randn(2, 3, *size, dtype=torch.float64))


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (6, 6), (9, 5)])
@pytest.mark.parametrize("stride", [2, 3])
def test_pixels_that_a_stride_skips_are_dropped_without_a_trace(size: tuple[int, int], stride: int) -> None:
    ours, theirs = (kind(3, 4, 1, stride, bias=False).double() for kind in (SubsampledConv2d, torch.nn.Conv2d))
    theirs.load_state_dict(ours.state_dict())
    require_equal(ours, theirs, torch.randn(2, 3, *size, dtype=torch.float64))


@pytest.mark.parametrize("backbone", ["resnet18_v1c", "resnet50_v1c"])
def test_no_shortcut_has_a_stride_over_fewer_than_8_channels(backbone: str) -> None:
    """Else training on some CPUs writes beyond its memory."""
    shortcuts = {
        width: [module for module in ResNet(backbone, width).modules() if type(module) is torch.nn.Conv2d]
        for width in (0.0625, 0.02)
    }
    for width, modules in shortcuts.items():
        strided = [each for each in modules if each.kernel_size == (1, 1) and each.stride != (1, 1)]
        assert all(each.in_channels >= 8 for each in strided), width
    assert all(type(module) is not SubsampledConv2d for module in ResNet(backbone, 0.125).modules())
