"""What a step asks of a network: its loss on images and labels, or the labels that it would give to images.

Both are modules around a network. So torch.compile can make one graph of the network and of what follows it, and data
parallel training can wrap the whole. Neither computes with parameters of its own.

In the shapes below, B is the number of images, H and W are their height and width, and N is the number of classes.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from furnace.labels import IGNORE
from furnace.semi.confidence import likeliest_and_confident
from furnace.semi.losses import LossSum, PixelLoss, in_full_precision

Autocast = Callable[[], AbstractContextManager]  # gives the context of a forward pass


class LossOf(nn.Module):
    """A student's network together with the loss that follows it."""

    def __init__(self, network: nn.Module, autocast: Autocast) -> None:
        super().__init__()
        self.network, self.autocast = network, autocast

    def forward(self, image: Tensor, label: Tensor, loss: PixelLoss) -> LossSum:
        """Returns the loss of the logits for images (B, 3, H, W) with labels (B, H, W), or soft ones (B, N, H, W)."""
        with self.autocast():
            logits = self.network(image)  # (B, N, H, W)
        return loss(logits, label)


class Labels(NamedTuple):
    """What a labeller says of images: label maps (B, H, W) uint8, and soft labels (B, N, H, W) float."""

    label: Tensor  # the likeliest class, or IGNORE where its probability is below the confidence that is asked for
    likeliest: Tensor | None  # the likeliest class of every pixel; None where no confidence is asked for: as `label`
    soft: Tensor | None = None  # the classes' probabilities, all 0 where `label` is IGNORE; None for hard labels
    said: Tensor | None = None  # (N,): probabilities before a shift, summed over pixels; None where nothing is shifted


class LabelsOf(nn.Module):
    """A labeller's network together with the labels that are made of its logits.

    Args:
        confidence: pixels whose likeliest class has a lower probability get the label IGNORE; at 0 there are none.
        temperature: of soft labels; at 0 there are hard ones alone.
    """

    def __init__(
        self, network: nn.Module, autocast: Autocast, confidence: float = 0.0, temperature: float = 0.0
    ) -> None:
        super().__init__()
        self.network, self.autocast = network, autocast
        self.confidence, self.temperature = confidence, temperature

    def forward(self, image: Tensor, shift: Tensor | None = None) -> Labels:
        """Returns the labels of images.

        Args:
            image: (B, 3, H, W); pixels beside an image are 0 in every channel.
            shift: (N,), added to the logits of every pixel before labels are made of them; see alignment.py.
        """
        with self.autocast():
            logits = self.network(image)  # (B, N, H, W)
        said = None
        if shift is not None:
            logits = in_full_precision(logits)
            inside = image.any(dim=1, keepdim=True)  # (B, 1, H, W)
            said = logits.softmax(dim=1).mul_(inside).sum(dim=(0, 2, 3))
            logits = logits + shift.to(logits.dtype).view(-1, 1, 1)
        labels = self._hard(logits)._replace(said=said)
        if self.temperature == 0:
            return labels
        soft = (in_full_precision(logits) / self.temperature).softmax(dim=1)  # (B, N, H, W)
        if labels.likeliest is not None:
            soft = soft.masked_fill((labels.label == IGNORE).unsqueeze(1), 0)
        return labels._replace(soft=soft)

    def _hard(self, logits: Tensor) -> Labels:
        if self.confidence == 0:
            return Labels(logits.argmax(dim=1).to(torch.uint8), None)
        classes, confident = likeliest_and_confident(logits, self.confidence)  # both (B, H, W)
        likeliest = classes.to(torch.uint8)
        return Labels(likeliest.masked_fill(~confident, IGNORE), likeliest)
