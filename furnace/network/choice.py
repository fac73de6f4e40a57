"""The network that the settings `decoder`, `backbone`, `width` and `atrous_rates` name."""

from collections.abc import Sequence

from torch import nn

from furnace.errors import InputError, perhaps
from furnace.network.deeplabv3plus import DeepLabV3Plus
from furnace.network.resnet import BACKBONES

PUBLISHED = "published"  # the decoder of furnace.network.deeplabv3plus


def build_network(
    decoder: str, backbone: str, num_classes: int, width: float = 1.0, atrous_rates: Sequence[int] | None = None
) -> nn.Module:
    """Returns a network with random weights, which maps normalised images (B, 3, H, W) to logits (B, N, H, W).

    Args:
        decoder: `published`, or an architecture of segmentation_models_pytorch such as `UPerNet`.
        backbone: a name of `furnace.network.resnet.BACKBONES`, or an encoder of that library.
        num_classes: N.
        width: multiplies channel counts: all of them where the decoder is `published`, else the decoder's.
        atrous_rates: the dilations of the three convolutions of a DeepLab's ASPP; None for the decoder's own.

    Raises:
        InputError: a name is unknown, the two do not go together, the decoder has no such convolutions, or the library
            is not installed.
    """
    if decoder == PUBLISHED:
        require_published(backbone)
        return DeepLabV3Plus(backbone, num_classes, width, atrous_rates)
    from furnace.network.library import LibraryNetwork  # imports much

    return LibraryNetwork(decoder, backbone, num_classes, width, atrous_rates)


def require_published(backbone: str) -> None:
    """Raises InputError if the published network has no such backbone."""
    if backbone not in BACKBONES:
        raise InputError(
            f"backbone: expected one of {', '.join(BACKBONES)}{perhaps(backbone, BACKBONES)} with decoder=published, "
            f"found {backbone!r}; another decoder, such as UPerNet, takes other encoders"
        )
