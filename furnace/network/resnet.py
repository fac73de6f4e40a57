"""Residual networks as segmentation backbones: output stride 16, with a v1c stem or torchvision's own.

The residual network is that of He et al., "Deep Residual Learning" (2015). The v1c stem of three 3x3 convolutions is
that of He et al., "Bag of Tricks" (2018). The dilated last stage is that of Chen et al., "Rethinking Atrous
Convolution" (2017). In the shapes below, B is the number of images, H and W are their height and width.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The number of blocks in layer1 to layer4, by depth.
DEPTHS: dict[int, tuple[int, ...]] = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
# The channels of the stem's three convolutions: as the published code has them, and as the paper and OpenMMLab do.
V1C_STEMS = {"v1c": (64, 64, 128), "v1c_stem32": (32, 32, 64)}
BACKBONES = tuple(f"resnet{depth}{stem}" for stem in ("_v1c", "", "_v1c_stem32") for depth in DEPTHS)
LAYER4_DILATIONS = (2, 4, 8)  # of its blocks
NARROW = 8  # channels; maps of fewer take SubsampledConv2d


def scaled(channels: int, width: float) -> int:
    """Returns a channel count multiplied by the width factor, rounded, at least 1."""
    return max(1, round(channels * width))


def stage_channels(width: float) -> list[int]:
    """Returns the channels of the blocks of layer1 to layer4, before a bottleneck's expansion."""
    return [scaled(channels, width) for channels in (64, 128, 256, 512)]


class AtrousConv2d(nn.Conv2d):
    """A dilated 3x3 convolution that leaves out the kernel's rows and columns that would see nothing but padding.

    If the dilation is at least the height of the map, the outer rows of the kernel meet only zeros; the same holds for
    the width and the columns. On small crops this saves most of the head's work: at crop 128, the kernels of rates 12
    and 18 shrink to their centre.
    """

    def forward(self, feature: Tensor) -> Tensor:
        """Convolves (B, C, h, w) as `nn.Conv2d` does."""
        # A compiled or traced graph must hold for every size.
        # torch.jit.is_tracing is documented, but torch neither annotates it nor lists it as exported.
        if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
            return super().forward(feature)
        blind = [rate >= side for rate, side in zip(self.dilation, feature.shape[2:], strict=True)]
        if not any(blind):
            return super().forward(feature)
        rows, columns = (slice(1, 2) if alone else slice(None) for alone in blind)
        padding = [0 if alone else rate for alone, rate in zip(blind, self.dilation, strict=True)]
        return F.conv2d(feature, self.weight[:, :, rows, columns], None, self.stride, padding, self.dilation)


class SubsampledConv2d(nn.Conv2d):
    """A 1x1 convolution with a stride and without bias, which drops the pixels that it skips before it convolves.

    It computes what `nn.Conv2d` does. The gradient of that one lets oneDNN (torch 2.14) write beyond its memory where a
    CPU has AVX2 and no AVX-512, and the map has fewer than 8 channels, channels last.
    """

    def forward(self, feature: Tensor) -> Tensor:
        """Convolves (B, C, h, w) as `nn.Conv2d` does."""
        rows, columns = self.stride
        return F.conv2d(feature[:, :, ::rows, ::columns], self.weight)


def conv3x3(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """Returns a 3x3 convolution without bias whose padding keeps the map's size, but for the stride."""
    kind = nn.Conv2d if dilation == 1 else AtrousConv2d
    return kind(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (ResNet-18 and -34)."""

    expansion = 1

    def __init__(self, inputs: int, channels: int, stride: int, dilation: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, channels, stride, dilation)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, dilation=dilation)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, feature: Tensor) -> Tensor:
        """Maps (B, inputs, h, w) to (B, channels, h/stride, w/stride)."""
        shortcut = feature if self.downsample is None else self.downsample(feature)
        feature = self.relu(self.bn1(self.conv1(feature)))
        return self.relu(self.bn2(self.conv2(feature)).add_(shortcut))


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 and a 1x1 convolution with a shortcut (ResNet-50 and -101). The 3x3 has the stride and dilation."""

    expansion = 4

    def __init__(self, inputs: int, channels: int, stride: int, dilation: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, stride, dilation)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, feature: Tensor) -> Tensor:
        """Maps (B, inputs, h, w) to (B, channels * expansion, h/stride, w/stride)."""
        shortcut = feature if self.downsample is None else self.downsample(feature)
        feature = self.relu(self.bn1(self.conv1(feature)))
        feature = self.relu(self.bn2(self.conv2(feature)))
        return self.relu(self.bn3(self.conv3(feature)).add_(shortcut))


class ResNet(nn.Module):
    """A backbone that returns the features of its first and its last stage.

    Args:
        name: one of BACKBONES. `resnet50_v1c` and `resnet50_v1c_stem32` have the stem of three convolutions, 64 or 32
            channels wide; `resnet50` has the 7x7 convolution.
        width: multiplies every channel count.
    """

    def __init__(self, name: str, width: float = 1.0) -> None:
        super().__init__()
        number, _, stem = name.removeprefix("resnet").partition("_")
        depth = int(number)
        block = BasicBlock if depth < 50 else Bottleneck
        if stem:
            first, second, self.channels = (scaled(channels, width) for channels in V1C_STEMS[stem])
            self.conv1: nn.Module = nn.Sequential(
                conv3x3(3, first, stride=2),
                nn.BatchNorm2d(first),
                nn.ReLU(inplace=True),
                conv3x3(first, second),
                nn.BatchNorm2d(second),
                nn.ReLU(inplace=True),
                conv3x3(second, self.channels),
            )
        else:
            self.channels = scaled(64, width)
            self.conv1 = nn.Conv2d(3, self.channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(self.channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        blocks, channels = DEPTHS[depth], stage_channels(width)
        self.layer1 = self._stage(block, channels[0], [1] * blocks[0])
        self.low_level_channels = self.channels
        self.layer2 = self._stage(block, channels[1], [1] * blocks[1], stride=2)
        self.layer3 = self._stage(block, channels[2], [1] * blocks[2], stride=2)
        self.layer4 = self._stage(block, channels[3], LAYER4_DILATIONS[: blocks[3]])

    def _stage(
        self, block: type[BasicBlock | Bottleneck], channels: int, dilations: Sequence[int], stride: int = 1
    ) -> nn.Sequential:
        """Returns a stage with one block per dilation, whose first block has the stride."""
        outputs = channels * block.expansion
        layers = []
        for index, dilation in enumerate(dilations):
            downsample = None
            if index == 0 and (stride != 1 or self.channels != outputs):
                kind = nn.Conv2d if stride == 1 or self.channels >= NARROW else SubsampledConv2d
                downsample = nn.Sequential(kind(self.channels, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            layers.append(block(self.channels, channels, stride if index == 0 else 1, dilation, downsample))
            self.channels = outputs
        return nn.Sequential(*layers)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Maps images (B, 3, H, W) to the low-level feature (B, C1, H/4, W/4) and the last one (B, C4, H/16, W/16)."""
        feature = self.maxpool(self.relu(self.bn1(self.conv1(image))))  # (B, C, H/4, W/4)
        low_level = self.layer1(feature)  # (B, C1, H/4, W/4)
        return low_level, self.layer4(self.layer3(self.layer2(low_level)))


def initialize(module: nn.Module) -> None:
    """Draws convolutions from the Kaiming normal distribution (fan in) and sets batch norms to weight 1 and bias 0.

    Biases of convolutions keep PyTorch's own start.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
