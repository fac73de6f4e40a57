"""What a step asks of a network: its loss on images and labels, or the labels that it would give to images.

Both are modules around a network. So torch.compile can make one graph of the network and of what follows it, and data
parallel training can wrap the whole. Neither computes with parameters of its own.

In the shapes below, B is the number of images, H and W are their height and width, and N is the number of classes.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from furnace.semi.losses import LossSum, PixelLoss

Autocast = Callable[[], AbstractContextManager]  # gives the context of a forward pass


class LossOf(nn.Module):
    """A student's network together with the loss that follows it."""

    def __init__(self, network: nn.Module, autocast: Autocast) -> None:
        super().__init__()
        self.network, self.autocast = network, autocast

    def forward(self, image: Tensor, label: Tensor, loss: PixelLoss) -> LossSum:
        """Returns the loss of the logits for images (B, 3, H, W) with labels (B, H, W)."""
        with self.autocast():
            logits = self.network(image)  # (B, N, H, W)
        return loss(logits, label)


class LabelsOf(nn.Module):
    """A labeller's network together with the choice of the likeliest class."""

    def __init__(self, network: nn.Module, autocast: Autocast) -> None:
        super().__init__()
        self.network, self.autocast = network, autocast

    def forward(self, image: Tensor) -> Tensor:
        """Returns the hard labels of images (B, 3, H, W), which are (B, H, W) uint8."""
        with self.autocast():
            logits = self.network(image)  # (B, N, H, W)
        return logits.argmax(dim=1).to(torch.uint8)
