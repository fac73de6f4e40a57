"""The network of both students and both teachers."""

from torch import nn

from furnace.network.deeplabv3plus import DeepLabV3Plus


def build_network(backbone: str, num_classes: int, width: float) -> nn.Module:
    """One network with random weights: images (B, 3, H, W) to logits (B, num_classes, H, W)."""
    return DeepLabV3Plus(backbone, num_classes, width)
