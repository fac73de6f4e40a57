"""DeepLabv3+ as the published code built it: the pooled branch is added after the reduction, not concatenated.

In the shapes below, B is the number of images, H and W are their height and width, and N is the number of classes.
Chen et al., "Encoder-Decoder with Atrous Separable Convolution" (2018).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from furnace.network.resnet import ResNet, conv3x3, initialize, scaled

ASPP_RATES = (6, 12, 18)  # in pixels of the feature, which has a 16th of the crop's side
LEAK = 0.01


def resize(maps: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Resizes maps (B, C, h, w) to `size`, bilinear and with aligned corners, as every resize in this network does."""
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: a 1x1 convolution, dilated 3x3 convolutions, and the image's mean."""

    def __init__(self, inputs: int, outputs: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.map_convs = nn.ModuleList(
            [nn.Conv2d(inputs, outputs, 1, bias=False)] + [conv3x3(inputs, outputs, dilation=rate) for rate in rates]
        )
        self.map_bn = nn.BatchNorm2d(outputs * len(self.map_convs))
        self.global_pooling_conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.global_pooling_bn = nn.BatchNorm2d(outputs)
        self.red_conv = nn.Conv2d(outputs * len(self.map_convs), outputs, 1, bias=False)
        self.pool_red_conv = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.red_bn = nn.BatchNorm2d(outputs)
        self.activation = nn.LeakyReLU(LEAK, inplace=True)

    def forward(self, feature: Tensor) -> Tensor:
        """Maps a feature (B, inputs, h, w) to (B, C, h, w), where C is `outputs`."""
        maps = torch.cat([convolution(feature) for convolution in self.map_convs], dim=1)  # (B, 4C, h, w)
        maps = self.red_conv(self.activation(self.map_bn(maps)))  # (B, C, h, w)
        pooled = feature.mean(dim=(2, 3), keepdim=True)  # (B, inputs, 1, 1)
        pooled = self.activation(self.global_pooling_bn(self.global_pooling_conv(pooled)))
        return self.activation(self.red_bn(maps + self.pool_red_conv(pooled)))  # (B, C, h, w)


class Head(nn.Module):
    """The decoder: it joins the output of ASPP with the low-level feature at a quarter of the image's size.

    The channel counts in the shapes below are those of width 1.
    """

    def __init__(self, inputs: int, low_level: int, width: float, atrous_rates: Sequence[int]) -> None:
        super().__init__()
        channels, reduced = scaled(256, width), scaled(48, width)
        self.aspp = ASPP(inputs, channels, atrous_rates)
        self.reduce = nn.Sequential(
            nn.Conv2d(low_level, reduced, 1, bias=False), nn.BatchNorm2d(reduced), nn.ReLU(True)
        )
        self.last_conv = nn.Sequential(
            conv3x3(channels + reduced, channels),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            conv3x3(channels, channels),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, low_level: Tensor, feature: Tensor) -> Tensor:
        """Maps the two features of `ResNet.forward` to the decoder's feature (B, 256, H/4, W/4)."""
        low_level = self.reduce(low_level)  # (B, 48, H/4, W/4)
        context = resize(self.aspp(feature), low_level.shape[2:])  # (B, 256, H/4, W/4)
        return self.last_conv(torch.cat([context, low_level], dim=1))  # (B, 256, H/4, W/4)


class DeepLabV3Plus(nn.Module):
    """The network of one student or teacher.

    Args:
        backbone: a name of `furnace.network.resnet.BACKBONES`.
        num_classes: N.
        width: multiplies every channel count except the number of classes.
        atrous_rates: the dilations of ASPP's three convolutions; None for the published ones.
    """

    def __init__(
        self, backbone: str, num_classes: int, width: float = 1.0, atrous_rates: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.backbone = ResNet(backbone, width)
        self.head = Head(self.backbone.channels, self.backbone.low_level_channels, width, atrous_rates or ASPP_RATES)
        self.classifier = nn.Conv2d(scaled(256, width), num_classes, 1)
        initialize(self)

    def features(self, image: Tensor) -> Tensor:
        """Maps normalised images (B, 3, H, W) to the feature before the classifier, (B, 256, H/4, W/4) at width 1."""
        return self.head(*self.backbone(image))

    def forward(self, image: Tensor) -> Tensor:
        """Maps normalised images (B, 3, H, W) to logits (B, N, H, W)."""
        return resize(self.classifier(self.features(image)), image.shape[2:])
