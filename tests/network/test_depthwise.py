"""Dilated depthwise convolutions compute what PyTorch's own do, and their gradients go the faster way."""

import warnings

import pytest
import torch
from torch import Tensor, nn

from furnace.network.depthwise import DepthwiseConv2d, hasten
from furnace.network.library import LibraryNetwork

CASES = {  # channels, kernel, dilation, height, width
    "as in an EfficientNet": (6, (5, 5), (2, 2), 10, 10),
    "rows and columns differ": (3, (3, 5), (3, 2), 9, 13),
    "dilated in one direction": (4, (3, 3), (1, 4), 8, 11),
    "taps that see padding alone": (2, (3, 3), (12, 7), 7, 9),
    "a single pixel": (2, (5, 3), (2, 2), 1, 1),
    "a single channel": (1, (3, 3), (2, 2), 6, 5),
}


def depthwise(channels: int, kernel: tuple[int, int], dilation: tuple[int, int], **changes) -> nn.Conv2d:
    """Such a convolution of PyTorch's, in float64, but for what is changed."""
    padding = tuple(rate * (size // 2) for rate, size in zip(dilation, kernel, strict=True))
    options = {"out_channels": channels, "padding": padding, "groups": channels, "bias": False, **changes}
    return nn.Conv2d(channels, kernel_size=kernel, dilation=dilation, **options).double()


def hastened(convolution: nn.Conv2d) -> nn.Module:
    """The same convolution after `hasten`, with weights of its own."""
    copy = depthwise(convolution.in_channels, convolution.kernel_size, convolution.dilation)
    copy.load_state_dict(convolution.state_dict())
    hasten(copy)
    return copy


def with_gradients(convolution: nn.Module, image: Tensor, weigh: Tensor) -> list[Tensor]:
    """What comes out, and the gradients of map and kernel if what comes out is weighed."""
    image = image.clone(memory_format=torch.preserve_format).requires_grad_()
    output = convolution(image)
    (output * weigh).sum().backward()
    return [output.detach(), image.grad, convolution.weight.grad]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("case", CASES)
def test_output_and_gradients_are_those_of_pytorch(case, layout):
    channels, kernel, dilation, height, width = CASES[case]
    torch.manual_seed(0)
    plain = depthwise(channels, kernel, dilation).to(memory_format=layout)
    fast = hastened(plain).to(memory_format=layout)
    assert type(fast) is DepthwiseConv2d
    image = torch.randn(2, channels, height, width, dtype=torch.float64).to(memory_format=layout)
    weigh = torch.randn_like(image)
    for expected, found in zip(with_gradients(plain, image, weigh), with_gradients(fast, image, weigh), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_gradients_go_the_faster_way_and_only_those_that_are_wanted():
    convolution = hastened(depthwise(3, (3, 3), (2, 2)))
    image = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    output = convolution(image)
    assert type(output.grad_fn).__name__ == "_ConvolutionBackward"
    output.sum().backward()
    assert image.grad is None and convolution.weight.grad is not None
    convolution.requires_grad_(False).weight.grad = None
    convolution(image.requires_grad_()).sum().backward()
    assert image.grad is not None and convolution.weight.grad is None


def test_without_gradients_under_autocast_and_compiled_it_is_pytorchs_own():
    plain = depthwise(3, (3, 3), (2, 2)).float()
    convolution = hastened(plain).float()
    image = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(convolution(image), plain(image))
    with torch.autocast("cpu", torch.bfloat16):
        output = convolution(image)
    assert output.dtype == torch.bfloat16 and type(output.grad_fn).__name__ != "_ConvolutionBackward"
    output.float().sum().backward()
    with warnings.catch_warnings(action="ignore"):  # of torch.jit, which goes out of use
        traced = torch.jit.trace(convolution, image)
    assert "_Convolution" not in str(traced.graph)


@pytest.mark.parametrize(
    "changes",
    [
        {"stride": 2},
        {"padding": (0, 2)},
        {"padding": "same"},
        {"padding_mode": "reflect"},
        {"bias": True},
        {"groups": 2},
        {"out_channels": 8},
    ],
    ids=str,
)
def test_other_convolutions_stay_as_they_are(changes):
    convolution = depthwise(4, (3, 3), (2, 2), **changes)
    hasten(convolution)
    assert type(convolution) is nn.Conv2d


@pytest.mark.parametrize(
    ("kernel", "dilation", "padding"), [((3, 3), (1, 1), 1), ((2, 2), (2, 2), 1), ((2, 2), (2, 2), 2)]
)
def test_convolutions_that_are_not_dilated_or_have_no_middle_stay_as_they_are(kernel, dilation, padding):
    convolution = depthwise(4, kernel, dilation, padding=padding)
    hasten(convolution)
    assert type(convolution) is nn.Conv2d


def test_a_library_network_has_them_and_the_same_gradients(monkeypatch):
    torch.manual_seed(0)
    network = LibraryNetwork("DeepLabV3Plus", "tu-tf_efficientnet_lite0", 3, width=0.125).double()
    network.eval()  # statistics of one small image say nothing
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    names = [name for name, module in network.named_modules() if isinstance(module, DepthwiseConv2d)]
    assert any(name.startswith("backbone") for name in names) and any(name.startswith("head") for name in names)

    def gradients() -> list[Tensor]:
        return torch.autograd.grad(network(image).square().sum(), tuple(network.parameters()), allow_unused=True)

    found = gradients()
    monkeypatch.setattr(DepthwiseConv2d, "forward", nn.Conv2d.forward)
    for fast, plain in zip(found, gradients(), strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-12)
