"""Distribution alignment: what labellers say is held to the shares that classes have among the labelled pixels.

A labeller that says "cow" on twice as many pixels as cows have among the labelled ones teaches its student to say it
still more often. So labels, hard or soft, are made of its logits h plus a shift for each class:

    h + strength * (log(labelled + s) - log(said + s))

where `labelled` and `said` are moving averages of a class's share among the labelled pixels, and of the probability
softmax h that the labeller gives it on unlabelled images. Pixels beside an image that does not fill its crop count in
neither. With a strength of 1, probabilities are multiplied by labelled / said and then made to sum to 1; soft labels
are sharpened after that: Berthelot et al., "ReMixMatch: Semi-Supervised Learning with Distribution Matching and
Augmentation Anchoring" (2020), section 3.1, where it is done with the classes of images.

In the shapes below, B is the number of images, H and W are their height and width, and N is the number of classes.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

DECAY = 0.99  # of the averages, a step: they remember a hundred batches
SMOOTH = 1e-3  # s above: bounds the shifts; a class that is rarer than this in both shares is hardly shifted


class Alignment(nn.Module):
    """The averages of a run, and the shifts that follow from them.

    All averages begin at equal shares, so that nothing is shifted before labels and labellers have been seen.

    Args:
        strength: above 0, at most 1; the share of the way to the labelled shares, in logarithms.
        num_classes: N, at least 1.
    """

    shares: Tensor  # (3, N): what labeller 1 and labeller 2 say, and what the labelled pixels are; each row sums to 1

    def __init__(self, strength: float, num_classes: int) -> None:
        super().__init__()
        self.strength, self.num_classes = strength, num_classes
        self.register_buffer("shares", torch.full((3, num_classes), 1 / num_classes))

    def shifts(self) -> Tensor:
        """Returns what is added to the logits of labeller 1 and to those of labeller 2, (2, N)."""
        *said, labelled = (self.shares + SMOOTH).log()
        return self.strength * (labelled - torch.stack(said))

    def follow(self, said: Tensor, label: Tensor, average: Callable[[Tensor], Tensor]) -> None:
        """Takes the averages on by one batch; one without a labelled pixel, or that is not finite, does not count.

        Args:
            said: (2, N), the probabilities that both labellers give to the classes, summed over pixels.
            label: (B, H, W) of any integer type, the labels of labelled images.
            average: takes the mean of a tensor over all processes.
        """
        counts = torch.stack([(label == index).sum() for index in range(self.num_classes)])  # (N,); bincount would wait
        seen = average(torch.cat([said, counts.to(said.dtype).unsqueeze(0)]))  # (3, N)
        seen = seen / seen.sum(dim=1, keepdim=True)
        moved = torch.lerp(self.shares, seen.to(self.shares.dtype), 1 - DECAY)
        self.shares.copy_(torch.where(seen.isfinite().all(), moved, self.shares))
